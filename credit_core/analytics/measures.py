"""What metrics count and add up: conditions and amounts over the columns of one relation, in SQLAlchemy Core.

They run on the columnar copy, and unchanged on the ledger's own tables (:func:`relations.ledger_facts`). ``f`` stands for
the columns of ``facts``, one row per entry; facts of a whole leg stand on its line 1 alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    and_,
    case,
    cast,
    distinct,
    func,
    literal_column,
    or_,
    select,
    true,
)

from credit_core.analytics import relations
from credit_core.analytics.filters import Period
from credit_core.units import MICRO, to_us

Expression = Callable[[Any], ColumnElement[Any]]

#: Rules 4 to 8 of SPEC 4: decisions that reached the law.
JUDGED = ("unaffordable", "coverage_miss", "session_cap", "at_cap", "controller")
#: Rules 1 to 3, and the counts of plans that have some.
REFUSED = ("blocked", "rate_limited", "paused", "over_limit")
#: Reasons of a release that are no failure of the provider.
NOT_FAILED = ("swept", "cancelled")
ENDS = ("settle", "release", "partial")
#: Columns that both relations of decisions have.
SHARED = (
    "plan",
    "region",
    "modality",
    "arm",
    "config_version",
    "genre",
    "mood",
    "mode",
    "user_id",
    "team_id",
    "account_id",
)


def judged(f: Any) -> ColumnElement[Any]:
    """Opening entries decided by rules 4 to 8 of a titrated plan, and answered: others refuse what is unaffordable."""
    return and_(f.rule.in_(JUDGED), f.outcome.is_not(None))


def judged_with(outcome: str) -> Expression:
    """Opening entries decided by rules 4 to 8 with this outcome."""
    return lambda f: and_(judged(f), f.outcome == outcome)


def judged_by(rule: str) -> Expression:
    """Opening entries of :func:`judged` decided by this rule."""
    return lambda f: and_(judged(f), f.rule == rule)


def served_fresh(f: Any) -> ColumnElement[Any]:
    """Requests answered with a fresh one, by whichever policy; the fresh half of a deferred one is not another request."""
    return and_(f.rule.in_((*JUDGED, "allowed")), f.outcome == "fresh")


def declined(f: Any) -> ColumnElement[Any]:
    """Requests that got no answer: refused by rules 1 to 3, over a plan's count, or unaffordable without a library."""
    refused = or_(f.rule.in_(REFUSED), and_(f.rule == "unaffordable", f.outcome.is_(None)))
    return and_(refused, f.parent_request_id.is_(None))


def by_rule(*rules: str) -> Expression:
    """Opening entries decided by one of these rules."""
    return lambda f: f.rule.in_(rules)


def drawn(outcome: str) -> Expression:
    """Decisions by rule 8 with this outcome."""
    return lambda f: and_(f.rule == "controller", f.outcome == outcome)


def missed(f: Any) -> ColumnElement[Any]:
    """Decisions by rules 4 to 8 whose cell's coverage was under the plan's threshold."""
    return and_(judged(f), f.miss)


def requested(f: Any) -> ColumnElement[Any]:
    """The first entry of a request: an answer of ``authorize``, or a row of recorded usage.

    The later, fresh half of a deferred request is not another request.
    """
    return or_(and_(f.rule.is_not(None), f.parent_request_id.is_(None)), and_(f.kind == "import", f.line == 1))


def legs(*kinds: str, reason: str | None = None) -> Expression:
    """The first entry of each leg of these kinds, and where given of this reason."""

    def first(f: Any) -> ColumnElement[Any]:
        return and_(f.kind.in_(kinds), f.line == 1, true() if reason is None else f.reason == reason)

    return first


def failed(f: Any) -> ColumnElement[Any]:
    """Releases because the provider failed."""
    return and_(legs("release")(f), f.reason.not_in(NOT_FAILED))


def incident(f: Any) -> ColumnElement[Any]:
    """Entries of limits met and of failures: rules 1 and 2, counts used up, anomalies, failed legs, settles that came late."""
    refused = by_rule("rate_limited", "over_limit", "blocked")(f)
    return or_(refused, f.anomaly.is_(True), failed(f), legs("rejected", reason="late_settle")(f))


#: Times that quantiles are asked of → how many steps' worth of 1 is.
TIMED = {"latency_ms": 1, "authorize_ms": 1_000}


def step(column: str) -> Expression:
    """Step of a time, 3 % of one of seconds: a greater time never has a lesser step, and roots are the same on every machine."""
    fine = TIMED[column]
    return lambda f: func.floor(
        16 * func.sqrt(func.sqrt(func.least(func.greatest(f[column] * fine, 0), 1_000_000_000_000)))
    )


def spent_uc(f: Any) -> ColumnElement[Any]:
    """Micro-credits an entry spends: what a settle consumes, plus imports, less refunds (SPEC 2); 0 for other kinds."""
    return case(
        (f.kind == "settle", -(f.d_avail_uc + f.d_held_uc)),
        (f.kind.in_(("import", "refund")), -f.d_avail_uc),
        else_=0,
    )


def wanted_uc(f: Any) -> ColumnElement[Any]:
    """Demand for fresh, micro-credits: requests answered with a fresh one, those the balance did not cover, and recorded usage."""
    wanted = or_(f.outcome == "fresh", f.rule == "unaffordable")
    return case(
        (and_(f.rule.is_not(None), wanted), func.coalesce(f.cost_uc, 0)), (f.kind == "import", -f.d_avail_uc), else_=0
    )


def moved_uc(kind: str, sign: int) -> Expression:
    """Micro-credits that entries of one kind add (sign 1) or take (sign −1)."""
    return lambda f: case((f.kind == kind, sign * f.d_avail_uc), else_=0)


def outstanding_uc(f: Any) -> ColumnElement[Any]:
    """Micro-credits by which an entry changes what an account has, held ones included."""
    return f.d_avail_uc + f.d_held_uc  # type: ignore[no-any-return]


def at_price(amount: Expression) -> Expression:
    """Micro-dollars of an amount at the unit price of its lot: ``policy.pricing.value_usd_micro``, in steps that int64 holds."""

    def valued(f: Any) -> ColumnElement[Any]:
        price, size = func.coalesce(f.unit_price_usd_micro, 0), func.abs(amount(f))
        rest = (size % MICRO) * price + MICRO // 2
        value = _divided(size) * price + _divided(rest)
        return case((amount(f) < 0, -value), else_=value)

    return valued


def _divided(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Whole millions: what is divided is a multiple, so every engine's division is exact."""
    return cast((value - value % MICRO) // MICRO, BigInteger)


def sold(f: Any) -> ColumnElement[Any]:
    """Grants of packs that were bought."""
    return and_(legs("grant")(f), f.lot_kind == "purchased")


# Aggregates ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A figure over rows, and the condition on a row that it goes into the figure; ``told_apart``: it counts accounts."""

    figure: Expression
    rows: Expression
    told_apart: bool = False

    def __call__(self, f: Any) -> ColumnElement[Any]:
        """The figure."""
        return self.figure(f)


def total(amount: Expression) -> Aggregate:
    """Exact sum of an integer amount; 0 of nothing."""
    return Aggregate(lambda f: cast(func.coalesce(func.sum(amount(f)), 0), BigInteger), lambda f: amount(f) != 0)


def count(condition: Expression) -> Aggregate:
    """Number of rows that meet a condition."""
    return Aggregate(lambda f: func.count().filter(condition(f)), condition)


def rows(_: Any) -> ColumnElement[Any]:
    """Number of rows."""
    return func.count()


@cache
def accounts(condition: Expression) -> Aggregate:
    """Number of distinct accounts with a row that meets a condition; the same object for the same one."""
    return Aggregate(lambda f: func.count(distinct(f.account_id)).filter(condition(f)), condition, True)


def quantile(share: str, column: str) -> Aggregate:
    """Exact quantile of a column, interpolated; missing values do not count."""
    return Aggregate(
        lambda f: func.percentile_cont(literal_column(share)).within_group(f[column]), lambda f: f[column].is_not(None)
    )


def _open_legs(f: Any) -> ColumnElement[Any]:
    return func.count().filter(legs("reserve")(f)) - func.count().filter(legs(*ENDS)(f))


def _provider_cost(f: Any) -> ColumnElement[Any]:
    unknown = (func.count(f.cost_usd_micro) == 0) & (func.count().filter(legs("settle")(f)) > 0)
    return case((unknown, None), else_=total(lambda g: g.cost_usd_micro)(f))


#: Reserves less ends.
open_legs = Aggregate(_open_legs, legs("reserve", *ENDS))
#: Micro-dollars charged by providers; unknown where something was settled and no cost is known, not 0.
provider_cost = Aggregate(_provider_cost, lambda f: f.cost_usd_micro.is_not(None))


# Relations other than ``facts`` ----------------------------------------------------------------------------------------


def closings() -> FromClause:
    """Closed cycles of titrated plans by the instant they ended, and whether what was kept reached the cap: kept ≥ (c − 1)·Q."""
    c = relations.cycles.c
    columns = (c.account_id, c.plan, c.region, c.end_at.label("occurred_at"), at_cap(c).label("at_cap"))
    return select(*columns).where(c.closed_at.is_not(None), relations.paced(c.plan)).subquery("closings")


def repeated() -> FromClause:
    """Calls that came again, by account, call and the quarter of an hour: how many."""
    r = relations.repeats.c
    columns = (r.account_id, r.plan, r.region, r.call, r.refused, r.calls, r.quarter_at.label("occurred_at"))
    return select(*columns).subquery("repeated")


def at_cap(c: Any) -> ColumnElement[Any]:
    """Closed cycles that kept as much as the cap lets over; a member without a share in the cycle has nothing to be capped."""
    return and_(c.quota_uc > 0, c.kept_uc >= (c.cap_multiple - 1) * c.quota_uc)


def counted(c: Any) -> ColumnElement[bool]:
    """Cycles that :func:`finished` has, of whichever plan."""
    return and_(c.closed_at.is_not(None), c.quota_uc > 0)


def during(f: Any, c: Any) -> ColumnElement[bool]:
    """Entries of a cycle's account and time."""
    return and_(f.account_id == c.account_id, f.occurred_at >= c.start_at, f.occurred_at < c.end_at)


#: Kinds of the entries that :func:`finished` looks at.
FINISHED_BY = ("reserve", "grant")


def fresh_uc(f: Any) -> ColumnElement[Any]:
    """Micro-credits that an entry reserves."""
    return case((f.kind == "reserve", f.d_held_uc), else_=0)


def monthly_uc(f: Any) -> ColumnElement[Any]:
    """Micro-credits of a monthly grant; missing for any other entry."""
    return case((and_(f.kind == "grant", f.lot_kind == "monthly"), f.d_avail_uc))


def budget_uc(c: Any, granted: ColumnElement[Any], monthly: ColumnElement[Any]) -> ColumnElement[Any]:
    """min(opening + grants, demand): the opening has the cycle's own quota, so the first monthly grant is not counted again."""
    return func.least(c.opening_uc + granted - monthly, c.demand_uc)


def finished(ended: Period | None = None) -> FromClause:
    """Closed cycles of titrated plans by the instant they ended: fresh_uc reserved in them, and budget_uc, what could have been.

    ``ended``: of those that ended then alone. In the copy alone.
    """
    c, f = relations.cycles.c, relations.facts.c
    kept = [counted(c), relations.paced(c.plan)]
    if ended is not None:
        # Told inside, so that entries of other cycles are not looked for.
        kept += [c.end_at >= to_us(ended.start), c.end_at < to_us(ended.end)]
    moved = (
        select(
            c.account_id,
            c.cycle_no,
            func.sum(fresh_uc(f)).label("fresh_uc"),
            func.sum(moved_uc("grant", 1)(f)).label("granted_uc"),
            func.arg_min(monthly_uc(f), f.seq).label("monthly_uc"),
        )
        .select_from(relations.cycles.join(relations.facts, during(f, c)))
        .where(f.kind.in_(FINISHED_BY), *kept)
        .group_by(c.account_id, c.cycle_no)
        .subquery("moved")
    )
    joined = relations.cycles.outerjoin(moved, and_(moved.c.account_id == c.account_id, moved.c.cycle_no == c.cycle_no))
    granted, monthly, fresh = (func.coalesce(moved.c[name], 0) for name in ("granted_uc", "monthly_uc", "fresh_uc"))
    told = (budget_uc(c, granted, monthly).label("budget_uc"), fresh.label("fresh_uc"))
    columns = (c.account_id, c.plan, c.region, c.end_at.label("occurred_at"), *told)
    return select(*columns).select_from(joined).where(*kept).subquery("finished")


def neighbours(entries: FromClause) -> FromClause:
    """Fresh and library decisions, each with the outcome of the one before it in the same session of the same user."""
    e = entries.c
    before = func.lag(e.outcome).over(partition_by=(e.user_id, e.session_id), order_by=(e.occurred_at, e.id))
    columns = (*(e[name] for name in SHARED), e.occurred_at, e.outcome, before.label("outcome_before"))
    days = (e[name] for name in ("day", "hour", "dow") if name in e)
    return select(*columns, *days).where(judged(e)).subquery("neighbours")
