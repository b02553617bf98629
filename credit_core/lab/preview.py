"""What a draft would have made of recent weeks: the closed-loop replay, of a sample at once and of all accounts after it.

Arrivals are read once (:func:`read`) and kept, so that a step of a control costs the kernel alone. Both sides are replayed
with the draws that were logged: live as one version throughout, too, so that what differs is the draft.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries.population import paced_accounts
from credit_core.analytics.sync import Facts
from credit_core.errors import Stopped
from credit_core.lab import arrivals, kernels, outcomes, replay, strata, tables
from credit_core.lab.arrivals import Batch, World
from credit_core.lab.background import Asked, Progress
from credit_core.lab.compiling import compiled
from credit_core.lab.outcomes import Comparison
from credit_core.lab.replay import Prepared, Replayed, Run
from credit_core.policy.config import Config
from credit_core.policy.plans import Catalog
from credit_core.units import from_us, to_us

Floats = npt.NDArray[np.float64]
#: Accounts that a first answer is drawn from.
SAMPLE = 200
#: Entries whose events are kept in memory; of more the sample's are, and all accounts are read anew for each draft.
MOST_ENTRIES = 2_500_000
#: Drafts whose outcomes over all accounts are remembered.
_REMEMBERED = 16

#: Tunables that a replay cannot show: coverage and health are taken as logged, and what these govern is not replayed.
UNSEEN = (
    "coverage.target", "coverage.stale_days", "coverage.library_growth", "limits.cool_down_s", "limits.override_s",
    "limits.anomaly_", "slos.",
)  # fmt: skip


@dataclass(frozen=True)
class Ready:
    """Arrivals of a ledger behind a filter, up to a moment, ready to be decided again.

    ``batches`` are all of them, none where they would be too many to keep. ``sample`` are the drawn accounts, each standing
    for ``weights`` of all; None where all are few enough. ``owners`` [account_id, user_id, plan]; ``pace`` [day, credits]
    is what quotas afford from the period's start on. ``decisions`` are those by rules 4 to 8 in the period; ``unlike`` how
    many of all do not come out as they were logged when their own versions decide them.
    """

    prepared: Prepared
    world: World
    period: replay.Period
    owners: pd.DataFrame
    pace: pd.DataFrame
    batches: list[Batch]
    sample: Batch | None
    weights: Floats | None
    decisions: int
    unlike: int
    done: OrderedDict[tuple[str, str], Comparison] = field(default_factory=OrderedDict)
    live: dict[tuple[str, int], Run] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def accounts(self) -> int:
        """How many accounts there are."""
        return len(self.prepared.accounts)

    def fits(self, config: Config) -> bool:
        """Whether the arrivals are numbered so that ``config`` can decide them: they know its segments and models."""
        models = {config.routing.premium_model, config.routing.economy_model}
        return models <= set(self.world.models) and set(config.nudges.segments) <= set(self.world.segments)


def read(
    facts: Facts,
    catalog: Catalog,
    filters: Filters,
    draft: Config | None = None,
    *,
    progress: Progress = lambda _share, _words: None,
    stopped: Asked = lambda: False,
    size: int = SAMPLE,
    most_entries: int = MOST_ENTRIES,
    batch_entries: int = arrivals.BATCH_ENTRIES,
) -> Ready | None:
    """Everything that previews behind ``filters`` share; None where nobody was decided on. Follow the facts first.

    ``draft`` may name models and segments of its own. Raises :class:`Stopped` soon after ``stopped`` says so.
    """
    ledger = replay.open_ledger(facts, catalog)
    owners = paced_accounts(facts, filters)
    kept = ledger.accounts[ledger.accounts["account_id"].isin(owners["account_id"])].reset_index(drop=True)
    start = max(to_us(filters.period.start), facts.extent.first_us or 0)
    end = min(to_us(filters.period.end), ledger.last_us)
    if start >= end or kept.empty:
        return None
    others = int((~owners["account_id"].isin(kept["account_id"])).sum())
    ledger = replace(ledger, accounts=kept, left_out=others)
    period = replay.period_of(ledger, start, end)
    world = replay.world_of(ledger, [draft], period)
    (own,) = replay.governing(ledger, world, [None], period)
    # What is kept on disk is but mapped.
    keep = int(kept["entries"].sum()) <= most_entries or arrivals.kept_beside(facts) is not None
    batches: list[Batch] = []
    told: list[pd.DataFrame] = []
    decisions = unlike = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for batch in arrivals.batches(facts, world, kept, batch_entries):
            if stopped():
                raise Stopped("Reading was stopped. Open the page again for a preview.")
            asked = np.isin(batch.events["kind"], (tables.OPEN, tables.CHILD))
            told.append(strata.describe(batch, period))
            decisions += int(told[-1]["decisions"].sum())
            again = replay.play(batch, own, compiled(kernels.replay), pool, telling=True)[1]
            unlike += len(replay.unlike(batch, again, asked))
            batches += [batch] if keep else []
            progress(sum(map(len, told)) / len(kept), f"{sum(map(len, told))} of {len(kept)} accounts")
    if not decisions:
        return None
    sample, weights = _sample(facts, world, told, batches, size)
    return Ready(
        prepared=ledger,
        world=world,
        period=period,
        owners=owners,
        pace=_pace(facts, replace(filters, period=Period(from_us(start), from_us(end))), world.plans),
        batches=batches,
        sample=sample,
        weights=weights,
        decisions=decisions,
        unlike=unlike,
    )


def at_once(ready: Ready, live: Config, draft: Config) -> Comparison:
    """The draft against live over the sample, scaled to all accounts; over all where there is no sample."""
    if ready.sample is None:
        return refined(ready, live, draft)
    replayed = _replayed(ready, [ready.sample], live, draft)
    return outcomes.compare(replayed, weights=ready.weights)


def refined(
    ready: Ready,
    live: Config,
    draft: Config,
    *,
    progress: Progress = lambda _share, _words: None,
    stopped: Asked = lambda: False,
) -> Comparison:
    """The draft against live over all accounts. Raises :class:`Stopped` soon after ``stopped`` says so."""
    key = (_key(live), _key(draft))
    found = ready.done.get(key)
    if found is None:
        if ready.batches:
            replayed = _replayed(ready, ready.batches, live, draft, progress, stopped)
        else:
            replayed = replay.run(ready.prepared, [live, draft], ready.period, progress=progress, stopped=stopped)
        found = outcomes.compare(replayed)
        with ready.lock:
            ready.done[key] = found
            while len(ready.done) > _REMEMBERED:
                ready.done.popitem(last=False)
    return found


def known(ready: Ready, live: Config, draft: Config) -> Comparison | None:
    """What :func:`refined` found before; None where it was not asked yet."""
    return ready.done.get((_key(live), _key(draft)))


def unseen(changes: Iterable[str]) -> list[str]:
    """Those of the dotted keys that a preview cannot show."""
    return [key for key in changes if key.startswith(UNSEEN)]


def _sample(
    facts: Facts, world: World, told: list[pd.DataFrame], batches: list[Batch], size: int
) -> tuple[Batch | None, Floats | None]:
    """Accounts drawn of all, by their ids, and how many each stands for. The same are drawn however batches cut them."""
    everybody = pd.concat(told, ignore_index=True)
    by_id = everybody["account_id"].argsort().to_numpy()
    drawn = strata.draw(everybody.iloc[by_id].reset_index(drop=True), size)
    if drawn is None:
        return None, None
    places = by_id[drawn.places]
    if not batches:
        return arrivals.read(facts, world, everybody["account_id"].iloc[places].tolist()), drawn.weights
    picked = strata.picked(batches, np.sort(places))
    return picked.of(np.argsort(np.argsort(places))), drawn.weights


def _replayed(
    ready: Ready,
    batches: list[Batch],
    live: Config,
    draft: Config,
    progress: Progress = lambda _share, _words: None,
    stopped: Asked = lambda: False,
) -> Replayed:
    """Both sides over ``batches``. What is live decides the same each time, so that is worked out once."""
    laws = replay.governing(ready.prepared, ready.world, [live, draft], ready.period)
    kernel, parts = compiled(kernels.replay), []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for batch in batches:
            if stopped():
                raise Stopped("A newer draft took this one's place.")
            mine = (_key(live), id(batch))
            before = ready.live.get(mine)
            if before is None:
                before = ready.live[mine] = replay.play(batch, laws[0], kernel, pool)[0]
            parts.append((batch, [before, replay.play(batch, laws[1], kernel, pool)[0]]))
            progress(len(parts) / len(batches), f"Replaying all {ready.accounts} accounts")
    return replay.joined(parts, ready.period, ready.prepared.left_out, 2)


def _pace(facts: Facts, filters: Filters, plans: tuple[str, ...]) -> pd.DataFrame:
    """[day, credits]: what the quotas of ``plans`` afford from the period's start to each day's end."""
    rows = queries.burn_against_pace(facts, replace(filters, compare=None))
    paced = rows[rows["pace_credits"].notna() & rows["plan"].isin(plans)]
    by_day = paced.groupby("day", as_index=False)["pace_credits"].sum()
    return pd.DataFrame({"day": by_day["day"], "credits": by_day["pace_credits"].cumsum()})


def _key(config: Config) -> str:
    return config.model_dump_json()
