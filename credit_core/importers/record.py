"""Mode ``record``: usage as it was. A row is one ``import`` entry, paid from a ``backfill`` lot granted for it (SPEC 9).

A row that failed or never ended is an entry of 0 credits with that reason. Every row counts as demand of its day.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import partial

from credit_core.importers.frame import SUCCEEDED, Event, Summary, chunks
from credit_core.importers.govern import Signup
from credit_core.policy import plans
from credit_core.policy.decision import Request
from credit_core.service import accounts, cycles, generate
from credit_core.service.core import CreditCore
from credit_core.service.deployment import Deployment
from credit_core.store.records import Lot, opening_leg
from credit_core.store.unit import Delta, Unit

CHUNK = 1_000


def run(
    core: CreditCore,
    events: Iterable[Event],
    signup: Callable[[Event], Signup],
    summary: Summary,
    model: str | None = None,
) -> None:
    """Record ``events``, which are in order. ``model`` prices rows that name none, by the catalogue."""
    known_users: set[str] = set()
    for part in chunks(events, CHUNK):
        act = partial(_take, deployment=core.deployment, part=part, signup=signup, model=model)
        counts, spent = core.deployment.ledger.run(act)
        for name, count in counts.items():
            setattr(summary, name, getattr(summary, name) + count)
        for credit_unit, uc in spent.items():
            summary.spent_by_unit[credit_unit] = summary.spent_by_unit.get(credit_unit, 0) + uc
        known_users.update(event.user_id for event in part)
        summary.users = len(known_users)


def _take(
    unit: Unit, deployment: Deployment, part: list[Event], signup: Callable[[Event], Signup], model: str | None
) -> tuple[Counter[str], Counter[str]]:
    """What became of the rows, and the micro-credits that they spend, by unit."""
    counts: Counter[str] = Counter(imported=len(part))
    spent: Counter[str] = Counter()
    unit.lock_users([event.user_id for event in part])
    unit.preload_legs([opening_leg(event.user_id, event.request_id) for event in part])
    new: dict[tuple[str, str], Event] = {}
    for event in part:
        lines = unit.leg(opening_leg(event.user_id, event.request_id))
        if lines:
            credit_unit = deployment.catalog.plan(lines[0]["plan"]).credit_unit
            spent[credit_unit] -= sum(line["d_avail_uc"] for line in lines if line["kind"] == "import")
        else:
            new.setdefault((event.user_id, event.request_id), event)
    counts["new"], counts["known"] = len(new), len(part) - len(new)
    for user_id, (lot, events) in _granted(unit, deployment, list(new.values()), signup).items():
        user, account = unit.user(user_id)
        live = deployment.live.of(unit.connection, account.account_id)
        for event in events:
            cycles.catch_up(unit, deployment, account, event.started_at)
            cost_uc = _cost_uc(deployment, account.plan, event)
            asked = Request(
                user_id,
                event.request_id,
                event.session_id,
                event.genre,
                event.mood,
                event.modality,
                event.model,
                event.images,
            )
            used = event.model or model
            facts = {
                "user_id": user_id, "team_id": user.team_id, "request_id": event.request_id, "session_id": event.session_id,
                "modality": event.modality, "model": used, "images": event.images, "genre": event.genre, "mood": event.mood,
                "config_version": live.version, "arm": live.arm, "content_hash": generate.content_hash(asked, unit.salts["content"]),
                "latency_ms": event.latency_ms, "reason": event.status, "cost_usd_micro": _provider_cost(deployment, event, used),
            }  # fmt: skip
            delta = Delta(lot, -cost_uc, 0) if cost_uc else Delta(None, 0, 0)
            unit.append(account, "import", opening_leg(user_id, event.request_id), [delta], event.started_at, **facts)
            spent[deployment.catalog.plan(account.plan).credit_unit] += cost_uc
            account.demand_uc += _price_uc(deployment, account.plan, event)
        cycles.set_due(unit, account)
    return counts, spent


def _granted(
    unit: Unit, deployment: Deployment, new: list[Event], signup: Callable[[Event], Signup]
) -> dict[str, tuple[Lot | None, list[Event]]]:
    """Each user of the chunk, signed up where new, with a lot that holds just what their rows use."""
    by_user: defaultdict[str, list[Event]] = defaultdict(list)
    for event in new:
        by_user[event.user_id].append(event)
    granted: dict[str, tuple[Lot | None, list[Event]]] = {}
    for user_id, events in by_user.items():
        at = events[0].started_at
        if not unit.has_user(user_id):
            terms = signup(events[0])
            accounts.add_user_in(unit, deployment, user_id, terms.plan, terms.timezone, terms.region, terms.segment, at)
        account = unit.user(user_id)[1]
        amount = sum(_cost_uc(deployment, account.plan, event) for event in events)
        key = hashlib.blake2b("".join(event.request_id for event in events).encode(), digest_size=16).hexdigest()
        lot = accounts.grant_in(unit, deployment, user_id, amount, "backfill", f"import-{key}", at) if amount else None
        granted[user_id] = (lot, events)
    return granted


def _cost_uc(deployment: Deployment, plan: str, event: Event) -> int:
    return _price_uc(deployment, plan, event) if event.status == SUCCEEDED else 0


def _price_uc(deployment: Deployment, plan: str, event: Event) -> int:
    row = deployment.catalog.plan(plan)
    return plans.quote(deployment.catalog, row, event.modality, event.model, event.images, 0).cost_uc


def _provider_cost(deployment: Deployment, event: Event, model: str | None) -> int | None:
    if event.cost_usd_micro is not None or event.status != SUCCEEDED:
        return event.cost_usd_micro
    return plans.provider_cost_usd_micro(deployment.catalog, model, event.images)
