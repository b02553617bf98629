"""What a draft would have decided on recent real requests: each decision on its own, as things stood.

One step: balances, sessions and modes are those that were logged, so a credit that the draft spends here is not missing
from the next decision. Following the balances onward is the replay's work. Both sides are decided again, with the draws
that were logged, so that what differs is the configuration alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from credit_core.lab.sample import Logged
from credit_core.policy import guardrails, plans
from credit_core.policy.config import Config
from credit_core.policy.controller import MODES
from credit_core.policy.decision import FRESH, LIBRARY, Law, Verdict, evaluate, inputs_of, law_for
from credit_core.policy.guardrails import RULES
from credit_core.policy.plans import Catalog

Floats = npt.NDArray[np.float64]
#: Resamples of the accounts behind an interval, and the fewest accounts that one is drawn from.
RESAMPLES, FEWEST_ACCOUNTS = 1_000, 10
CONFIDENCE = 0.95

#: Tunables that work over time, or before a decision is taken: one step cannot show them.
UNSEEN = (
    "controller.tau0_days", "session.idle_s", "coverage.target", "coverage.stale_days", "coverage.library_growth",
    "rollover.", "limits.", "saga.", "slos.",
)  # fmt: skip


class Interval(NamedTuple):
    """Ends of a 95 % interval."""

    low: float
    high: float


class Decided(NamedTuple):
    """What one configuration decides on a sample, decision by decision. ``usd_micro`` is NaN where no price is known."""

    verdicts: list[Verdict]
    rule: npt.NDArray[np.int64]
    fresh: npt.NDArray[np.bool_]
    chance: Floats
    p: Floats
    routed: npt.NDArray[np.bool_]
    premium: npt.NDArray[np.bool_]
    usd_micro: Floats


class Side(NamedTuple):
    """Sums over a sample under one configuration. ``expected_fresh`` is Σ of the chances, over all draws."""

    decisions: int
    fresh: int
    expected_fresh: float
    credits_uc: int
    routed: int
    premium: int
    provider_usd_micro: int | None

    @property
    def fresh_rate(self) -> float | None:
        """Share of decisions that were fresh, with the draws that were logged."""
        return self.fresh / self.decisions if self.decisions else None

    @property
    def premium_share(self) -> float | None:
        """Share of the fresh ones that were routed (nobody had named a model) to the premium model."""
        return self.premium / self.routed if self.routed else None


class Preview(NamedTuple):
    """Live against draft on the same decisions.

    ``difference`` is of the fresh rate with the logged draws, ``expected_difference`` of its expectation over all draws;
    None where there are too few accounts. ``flips`` [plan, rule_live, rule_draft, to_fresh, to_library, decisions];
    ``by_plan`` [plan, decisions, accounts, fresh_rate_live, fresh_rate_draft, change, expected_live, expected_draft, low,
    high, to_fresh, to_library]; ``p_histogram`` [from_p, to_p, side, decisions] of rule 8.
    """

    decisions: int
    accounts: int
    live: Side
    draft: Side
    difference: Interval | None
    expected_difference: Interval | None
    to_fresh: int
    to_library: int
    flips: pd.DataFrame
    by_plan: pd.DataFrame
    p_histogram: pd.DataFrame


def decide_again(logged: Logged, config: Config, catalog: Catalog) -> Decided:
    """Every decision of ``logged`` under ``config``."""
    verdicts = _verdicts(logged, lambda _: config)
    rule = np.fromiter((v.rule for v in verdicts), np.int64, len(verdicts))
    fresh = np.fromiter((v.fresh for v in verdicts), np.bool_, len(verdicts))
    p = np.fromiter((v.p for v in verdicts), np.float64, len(verdicts))
    drawn = rule == guardrails.CONTROLLER
    routed = fresh & np.fromiter((model is None for model in logged.asked), np.bool_, len(verdicts))
    high = p > config.routing.threshold
    ends = (config.routing.economy_model, config.routing.premium_model)
    prices = {model: _price(catalog, model) for model in {*ends, *(m for m in logged.asked if m)}}
    each = np.fromiter(
        (prices[model or ends[above]] for model, above in zip(logged.asked, high.tolist(), strict=True)),
        np.float64,
        len(verdicts),
    )
    return Decided(
        verdicts=verdicts,
        rule=rule,
        fresh=fresh,
        chance=np.where(drawn, p, fresh.astype(np.float64)),
        p=p,
        routed=routed,
        premium=routed & high,
        usd_micro=np.where(fresh, each * logged.images, 0.0),
    )


def compare(logged: Logged, live: Decided, draft: Decided, seed: int = 0) -> Preview:
    """What becomes of the decisions of ``logged`` from ``live`` to ``draft``. ``seed`` draws the resamples of accounts."""
    to_fresh, to_library = draft.fresh & ~live.fresh, live.fresh & ~draft.fresh
    names = np.array([state.plan for state in logged.states], dtype=object)
    groups = {plan: names == plan for plan in logged.plans}
    everyone = np.ones(len(logged), dtype=np.bool_)
    moved = draft.fresh.astype(np.float64) - live.fresh.astype(np.float64)
    intervals = _intervals(logged, moved, [everyone, *groups.values()], seed)
    return Preview(
        decisions=len(logged),
        accounts=logged.accounts,
        live=_side(logged, live),
        draft=_side(logged, draft),
        difference=intervals[0],
        expected_difference=_intervals(logged, draft.chance - live.chance, [everyone], seed)[0],
        to_fresh=int(to_fresh.sum()),
        to_library=int(to_library.sum()),
        flips=_flips(names, live, draft, to_fresh, to_library),
        by_plan=_by_plan(logged, groups, live, draft, moved, intervals[1:]),
        p_histogram=_histogram(live, draft),
    )


def unseen(changes: Iterable[str]) -> list[str]:
    """Those of the dotted keys that a one-step preview cannot show."""
    return [key for key in changes if key.startswith(UNSEEN) or key.endswith(".soft_decay")]


def disagreements(logged: Logged) -> pd.DataFrame:
    """The decisions that do not come out as they were logged when decided again with their own version: none, if all is well.

    Columns request_id, config_version and, of each of rule, mode, outcome, miss and p, what was logged and what came out.
    """
    frame = logged.frame.reset_index(drop=True)
    versions = [int(number) for number in frame["config_version"]]
    verdicts = _verdicts(logged, lambda place: logged.configs[versions[place]])
    again = pd.DataFrame(
        {
            "rule": [RULES[v.rule] for v in verdicts],
            "mode": [MODES[v.mode] for v in verdicts],
            "outcome": [FRESH if v.fresh else LIBRARY for v in verdicts],
            "miss": [v.miss for v in verdicts],
            "p": [v.p for v in verdicts],
        },
        index=frame.index,
    )
    unlike = pd.Series(False, index=frame.index)
    for name in again.columns:
        unlike |= again[name].astype(object) != frame[name].astype(object)
    told = frame[["request_id", "config_version"]]
    both = pd.concat([told, frame[again.columns].add_suffix("_logged"), again.add_suffix("_again")], axis=1)
    return both[unlike].reset_index(drop=True)


def _verdicts(logged: Logged, config_at: Callable[[int], Config]) -> list[Verdict]:
    laws: dict[tuple[int, str], Law] = {}
    verdicts = []
    for place, (state, u01) in enumerate(zip(logged.states, logged.u01, strict=True)):
        config = config_at(place)
        key = (id(config), state.plan)
        law = laws.get(key)
        if law is None:
            law = laws[key] = law_for(config, state.plan)
        verdicts.append(evaluate(law, inputs_of(state, config), u01))
    return verdicts


def _price(catalog: Catalog, model: str) -> float:
    price = plans.provider_cost_usd_micro(catalog, model, 1)
    return float("nan") if price is None else float(price)


def _side(logged: Logged, decided: Decided) -> Side:
    cost = decided.usd_micro.sum()
    return Side(
        decisions=len(logged),
        fresh=int(decided.fresh.sum()),
        expected_fresh=float(decided.chance.sum()),
        credits_uc=int(logged.cost_uc[decided.fresh].sum()),
        routed=int(decided.routed.sum()),
        premium=int(decided.premium.sum()),
        provider_usd_micro=None if np.isnan(cost) else int(cost),
    )


def _flips(
    names: npt.NDArray[np.object_],
    live: Decided,
    draft: Decided,
    to_fresh: npt.NDArray[np.bool_],
    to_library: npt.NDArray[np.bool_],
) -> pd.DataFrame:
    flipped = to_fresh | to_library
    rows = pd.DataFrame(
        {
            "plan": names[flipped],
            "rule_live": [RULES[rule] for rule in live.rule[flipped]],
            "rule_draft": [RULES[rule] for rule in draft.rule[flipped]],
            "to_fresh": to_fresh[flipped].astype(np.int64),
            "to_library": to_library[flipped].astype(np.int64),
        }
    )
    rows["decisions"] = 1
    sums = rows.groupby(["plan", "rule_live", "rule_draft"], as_index=False).sum()
    return sums.sort_values(["decisions", "plan"], ascending=[False, True], ignore_index=True)


def _by_plan(
    logged: Logged,
    groups: Mapping[str, npt.NDArray[np.bool_]],
    live: Decided,
    draft: Decided,
    moved: Floats,
    intervals: list[Interval | None],
) -> pd.DataFrame:
    rows = [
        {
            "plan": plan,
            "decisions": int(within.sum()),
            "accounts": len(np.unique(logged.account[within])),
            "fresh_rate_live": live.fresh[within].mean(),
            "fresh_rate_draft": draft.fresh[within].mean(),
            "change": moved[within].mean(),
            "expected_live": live.chance[within].mean(),
            "expected_draft": draft.chance[within].mean(),
            "low": interval.low if interval else np.nan,
            "high": interval.high if interval else np.nan,
            "to_fresh": int((draft.fresh & ~live.fresh)[within].sum()),
            "to_library": int((live.fresh & ~draft.fresh)[within].sum()),
        }
        for (plan, within), interval in zip(groups.items(), intervals, strict=True)
    ]
    return pd.DataFrame(rows)


def _histogram(live: Decided, draft: Decided, width: float = 0.05) -> pd.DataFrame:
    steps = round(1.0 / width)
    edges = np.arange(steps + 1) / steps
    sides = []
    for name, decided in (("live", live), ("draft", draft)):
        counts, _ = np.histogram(decided.p[decided.rule == guardrails.CONTROLLER], bins=edges)
        sides.append(pd.DataFrame({"from_p": edges[:-1], "to_p": edges[1:], "side": name, "decisions": counts}))
    return pd.concat(sides, ignore_index=True)


def _intervals(
    logged: Logged, difference: Floats, groups: list[npt.NDArray[np.bool_]], seed: int
) -> list[Interval | None]:
    """Percentile intervals of Σ difference ÷ decisions within each group, resampling whole accounts."""
    count = logged.accounts
    if count < FEWEST_ACCOUNTS:
        return [None] * len(groups)
    sums = np.stack([np.bincount(logged.account, difference * within, count) for within in groups], axis=1)
    decisions = np.stack([np.bincount(logged.account, within.astype(np.float64), count) for within in groups], axis=1)
    weights = _resamples(count, seed)
    tail = (1.0 - CONFIDENCE) / 2.0
    found: list[Interval | None] = []
    for drawn, of, n in zip((weights @ sums).T, (weights @ decisions).T, decisions.T, strict=True):
        if (n > 0).sum() < FEWEST_ACCOUNTS:
            found.append(None)
            continue
        low, high = np.quantile(drawn[of > 0] / of[of > 0], [tail, 1.0 - tail])
        found.append(Interval(float(low), float(high)))
    return found


@lru_cache(maxsize=2)
def _resamples(accounts: int, seed: int) -> Floats:
    """How often each account is drawn, resample by resample."""
    drawn = np.random.default_rng(seed).integers(0, accounts, (RESAMPLES, accounts))
    return np.stack([np.bincount(row, minlength=accounts) for row in drawn]).astype(np.float64)
