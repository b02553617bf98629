"""Looking things up: a balance, a history, one decision explained. Nothing here writes but rewards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from credit_core import units
from credit_core.errors import NotFound
from credit_core.policy import cycles, surplus
from credit_core.policy.decision import Decision, decide, draw
from credit_core.policy.lots import PACED_KINDS, spending_key
from credit_core.policy.quotas import decide as allowed
from credit_core.policy.standing import Lifetime
from credit_core.policy.words import sentence
from credit_core.service import quotas, shares
from credit_core.service.deployment import Deployment
from credit_core.service.quotas import Count
from credit_core.store import decisions, reads, rewards
from credit_core.store.ledger import Connection
from credit_core.store.reads import Holding, Moved
from credit_core.store.records import pool_of
from credit_core.store.rewards import Judged, Served
from credit_core.units import checked_zone, to_us, uc_to_credits


class LotBalance(NamedTuple):
    """What one lot holds."""

    lot_id: str
    kind: str
    avail_uc: int
    held_uc: int
    expires_at: datetime | None
    unit_price_usd_micro: int


class Balance(NamedTuple):
    """What a user has: ``available_uc`` to spend, ``held_uc`` by open reserves, and the lots in spending order."""

    available_uc: int
    held_uc: int
    lots: tuple[LotBalance, ...]
    lifetime: Lifetime


class Explanation(NamedTuple):
    """A logged decision beside the same decision computed again. ``differences``: field → (logged, recomputed)."""

    logged: Decision
    recomputed: Decision
    differences: Mapping[str, tuple[Any, Any]]
    sentence: str

    @property
    def exact(self) -> bool:
        """True where every field agrees to the last bit."""
        return not self.differences


class Profile(NamedTuple):
    """One user as support sees them: terms, cycle, pace and what the next reset brings.

    ``next_amount_uc`` is the balance right after the reset if nothing more is spent; ``surplus_days`` is None for a plan
    that is not paced, ``next_reset_at`` for one without cycles; ``counts`` are those of a plan that has some. A pause stops
    the days: ``days_left`` stays what it was when it began.
    """

    user_id: str
    account_id: str
    plan: str
    region: str
    timezone: str
    segment: str | None
    created_at: datetime
    cycle_start_at: datetime
    next_reset_at: datetime | None
    cycle_days: float
    days_left: float
    quota_uc: int
    available_uc: int
    held_uc: int
    paced_uc: int
    next_amount_uc: int
    surplus_days: float | None
    mode: str
    paused_at: datetime | None
    blocked_at: datetime | None
    conserving: bool
    session_consent: bool
    config_version: int
    arm: str
    quota_policy: str
    credit_unit: str
    counts: tuple[Count, ...]
    team_id: str | None = None


def profile(deployment: Deployment, user_id: str, at: datetime | None = None) -> Profile:
    """Everything the header of a user's page shows, as of ``at``; writes nothing, not even what is due."""
    moment = deployment.instant(at)
    with deployment.ledger.reading() as connection:
        return profile_in(connection, deployment, user_id, moment)


def profile_in(connection: Connection, deployment: Deployment, user_id: str, moment: datetime) -> Profile:
    """:func:`profile` inside a read."""
    found = reads.user_and_account(connection, user_id)
    if found is None:
        raise NotFound(f"There is no user {user_id!r}. Check the spelling, or search by the first letters.")
    user, account = found
    lots = reads.open_lots(connection, account.account_id)
    live = deployment.live.of(connection, account.account_id)
    upcoming = shares.next_terms(connection, deployment, account, user, foresee=True)
    tuning, plan = live.config.plan(account.plan), deployment.catalog.plan(account.plan)
    zone = checked_zone(account.timezone if plan.cycled else user.timezone)
    counts = quotas.standing(connection, account, plan, zone, moment)
    paced = sum(lot.avail_uc for lot in lots if lot.kind in PACED_KINDS)
    other = account.avail_uc - paced
    titrated = plan.quota_policy == "titrated_monthly"
    carried = 0
    if titrated and not upcoming.leaves:
        burst = live.config.rollover.burst_allowance
        cap = cycles.cap_at(account.cycle_end_at, tuning.cap_multiple, burst_allowance=burst)
        carried = cycles.close(paced, account.quota_uc, cap, tuning.soft_decay).carried_uc
    length = cycles.days_between(account.cycle_start_at, account.cycle_end_at)
    left = min(max(cycles.days_between(account.paused_at or moment, account.cycle_end_at), 0.0), length)
    quota = uc_to_credits(account.quota_uc)
    ahead = surplus.surplus(uc_to_credits(paced), quota, length, left) if titrated and quota else 0.0
    return Profile(
        user_id, account.account_id, account.plan, account.region, user.timezone, user.segment, user.created_at,
        account.cycle_start_at, account.cycle_end_at if plan.cycled else None, length, left, account.quota_uc,
        account.avail_uc, account.held_uc, paced,
        other + carried + upcoming.quota_uc, surplus.surplus_days(ahead, quota, length) if titrated and quota else None,
        account.mode, account.paused_at, user.blocked_at, user.conserving, user.session_consent, live.version, live.arm,
        plan.quota_policy, plan.credit_unit, counts, user.team_id,
    )  # fmt: skip


def balance(deployment: Deployment, user_id: str) -> Balance:
    """What the user's account holds now, without writing anything; of a team's pool, what all its members share."""
    with deployment.ledger.reading() as connection:
        holding = _holding(connection, user_id)
        lots = reads.open_lots(connection, holding.account_id)
        moved = reads.moved(connection, holding.account_id)
    lots.sort(
        key=lambda lot: spending_key(lot.kind, None if lot.expires_at is None else to_us(lot.expires_at), lot.lot_id)
    )
    return Balance(
        holding.avail_uc,
        holding.held_uc,
        tuple(
            LotBalance(lot.lot_id, lot.kind, lot.avail_uc, lot.held_uc, lot.expires_at, lot.unit_price_usd_micro)
            for lot in lots
        ),
        lifetime_of(moved),
    )


def lifetime_of(moved: Iterable[Moved]) -> Lifetime:
    """Totals since sign-up, from an account's entries summed by kind and outcome."""
    moved = list(moved)
    granted = sum(m.d_avail_uc for m in moved if m.kind == "grant")
    spent = -sum(m.d_avail_uc + m.d_held_uc for m in moved if m.kind in ("settle", "import", "refund"))
    expired = -sum(m.d_avail_uc for m in moved if m.kind in ("expire", "clamp"))
    served = {outcome: sum(m.entries for m in moved if m.outcome == outcome) for outcome in ("fresh", "library")}
    return Lifetime(granted, spent, expired, served["fresh"], served["library"])


def history(deployment: Deployment, user_id: str, after_seq: int = 0, limit: int = 100) -> list[dict[str, Any]]:
    """Entries of the user's account with seq > ``after_seq``, oldest first, at most ``limit``; keys are the ledger's columns.

    Of a team's pool: the user's own entries and those of the pool itself, not what other members did.
    """
    units.checked_count(limit, "limit", 1, 10_000)
    units.checked_count(after_seq, "after_seq", 0, units.MAX_AMOUNT)
    with deployment.ledger.reading() as connection:
        account_id = _holding(connection, user_id).account_id
        theirs = None if pool_of(account_id) is None else user_id
        return reads.entries_after(connection, account_id, after_seq, limit, theirs)


def explain(deployment: Deployment, user_id: str, request_id: str) -> Explanation:
    """Recompute a logged decision from what was logged with it, draw included (SPEC 4)."""
    with deployment.ledger.reading() as connection:
        line = reads.opening_line(connection, user_id, request_id)
        if line is None:
            raise NotFound(f"There is no request {request_id!r} of user {user_id!r}.")
        config = deployment.live.load(connection, line["config_version"])
    assert config is not None, "a decision names an existing version"
    logged = decisions.from_columns(line)
    u01 = draw(deployment.ledger.salts["draw"], user_id, request_id)
    request = decisions.request_of(line)
    if logged.state.policy == "titrated_monthly":
        again = decide(logged.state, request, config, u01)
    else:
        assert logged.at is not None, "an entry has an instant"
        again = allowed(logged.state, request, logged.model, logged.at, u01)
    again = again._replace(
        config_version=logged.config_version, arm=logged.arm, user_id=user_id, request_id=request_id, at=logged.at
    )
    differences = {
        name: (old, new) for name, old, new in zip(Decision._fields, logged, again, strict=True) if old != new
    }
    return Explanation(logged, again, differences, sentence(logged))


def reward(deployment: Deployment, user_id: str, request_id: str, value: float, at: datetime | None) -> None:
    """Log a reward in [0, 1] for a request that was served, once; it feeds the ``thompson`` strategy and estimates."""
    value = units.checked_real(value, "value", 0.0, 1.0)
    moment = deployment.instant(at)

    def write(connection: Connection) -> None:
        line = reads.opening_line(connection, user_id, request_id)
        if line is None or line["outcome"] is None:
            raise NotFound(f"Request {request_id!r} of user {user_id!r} was not served, so there is nothing to reward.")
        rewards.add(connection, user_id, request_id, line["outcome"], value, moment)

    deployment.ledger.write(write)


def reward_served(deployment: Deployment, value_of: Callable[[Served], tuple[float, datetime] | None]) -> int:
    """Log at once what ``value_of`` says of each request that was served: its reward and when; None: none. How many.

    For ledgers that are made or taken over whole; a request that was rewarded before is refused.
    """

    def write(connection: Connection) -> int:
        judged = []
        for one in rewards.served(connection):
            found = value_of(one)
            if found is not None:
                value, at = units.checked_real(found[0], "value", 0.0, 1.0), deployment.instant(found[1])
                judged.append(Judged(one, value, at))
        rewards.add_many(connection, judged)
        return len(judged)

    return deployment.ledger.write(write)


def _holding(connection: Connection, user_id: str) -> Holding:
    holding = reads.holding(connection, user_id)
    if holding is None:
        raise NotFound(f"There is no user {user_id!r}. Add them first: core.add_user(user_id, plan).")
    return holding
