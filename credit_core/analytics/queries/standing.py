"""How plans stand against pace, and who runs out by when: what pages put into a sentence, as figures."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

import pandas as pd
from sqlalchemy import select

from credit_core.analytics import measures
from credit_core.analytics.days import reporting_days
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries.burn import burn_against_pace
from credit_core.analytics.queries.releases import release_marks
from credit_core.analytics.queries.series import NONE, covered, daily
from credit_core.analytics.queries.surplus import endings, running, sides, soonest, surplus_bands
from credit_core.analytics.sync import Facts
from credit_core.units import from_us, to_us

#: Less than this on one side of a release says nothing about it.
ENOUGH = timedelta(days=1)


class Standing(NamedTuple):
    """Spent credits beside pace; ``over_share`` is spent ÷ pace − 1. Both are None where there is no pace."""

    spent_uc: int
    spent_credits: float
    pace_credits: float | None
    over_share: float | None


class SinceRelease(NamedTuple):
    """Plans against pace before and since the newest release of the period. ``action``: release or rollback."""

    version: int
    action: str
    released_at: datetime
    before: pd.DataFrame
    since: pd.DataFrame


class Ends(NamedTuple):
    """How many accounts have nothing left, how many have credits that end soon, and when the first of those does."""

    empty: int
    soon: int
    first_at: datetime | None


class Spread(NamedTuple):
    """Accounts on either side of pace at one instant; median and shares are None without accounts."""

    accounts: int
    behind: int
    on_pace: int
    ahead: int
    median: float | None
    behind_share: float | None
    ahead_share: float | None


NOBODY = Spread(0, 0, 0, 0, None, None, None)


def burn_by_day(facts: Facts, filters: Filters, by: str = "plan") -> pd.DataFrame:
    """day, ``by``, spent_uc, spent_credits, and pace_credits of all together on that day.

    No value of ``by`` is :data:`NONE`.
    """
    frame = burn_against_pace(facts, filters)
    frame["pace_credits"] = frame.groupby("day")["pace_credits"].transform("sum", min_count=1)
    if by == "plan":
        return frame
    parts = daily(facts, filters, "spent", by).rename(columns={"numerator": "spent_uc", "value": "spent_credits"})
    paces = frame[["day", "pace_credits"]].drop_duplicates("day")
    parts[by] = parts[by].astype("object").where(parts[by].notna(), NONE)
    # Whoever spent nothing on any day is no part of the burn.
    parts = parts[parts.groupby(by)["spent_uc"].transform("any")]
    return parts[["day", by, "spent_uc", "spent_credits"]].merge(paces, on="day", how="left")


def fleet_burn(facts: Facts, filters: Filters) -> pd.DataFrame:
    """One row per day over all plans: spent_uc, spent_credits, pace_credits, cum_spent_credits, cum_pace_credits."""
    return _summed(burn_against_pace(facts, filters), ["day"], _BURN)


def pace_by_plan(facts: Facts, filters: Filters) -> pd.DataFrame:
    """plan, spent_uc, spent_credits, pace_credits, over_credits, over_share over the part of the period that the ledger covers.

    Most credits off pace first. The last two are NaN where there is no pace.
    """
    lived = filters.narrowed(period=covered(facts, filters.period), compare=None)
    frame = _summed(burn_against_pace(facts, lived), ["plan"], _DAY)
    return _judged(frame).sort_values("over_credits", key=abs, ascending=False, na_position="last", ignore_index=True)


def pace_of_all(facts: Facts, filters: Filters) -> Standing:
    """All plans together, those with a quota against pace, over the part of the period that the ledger covers."""
    frame = pace_by_plan(facts, filters)
    # What plans without a quota spend has no pace to be compared with.
    paced = frame[frame["pace_credits"].notna()]
    whole = _judged(paced[list(_DAY)].sum(min_count=1).to_frame().T)
    pace, over = (
        None if whole[name].isna().any() else float(whole[name].iloc[0]) for name in ("pace_credits", "over_share")
    )
    return Standing(int(frame["spent_uc"].sum()), float(frame["spent_credits"].sum()), pace, over)


def since_release(facts: Facts, filters: Filters) -> SinceRelease | None:
    """Plans against pace on either side of the newest release; None without a day of entries on each side of it."""
    marks = release_marks(facts, filters)
    if marks.empty:
        return None
    newest = marks.iloc[-1]
    at = newest["released_at"].to_pydatetime()
    lived = covered(facts, filters.period)
    if not lived.start + ENOUGH <= at <= lived.end - ENOUGH:
        return None
    before, since = (
        pace_by_plan(facts, filters.narrowed(period=Period(*span), compare=None))
        for span in ((lived.start, at), (at, lived.end))
    )
    return SinceRelease(int(newest["version"]), str(newest["action"]), at, before, since)


def ends(facts: Facts, filters: Filters, before: datetime | None = None) -> Ends:
    """Who has no credits left, and whose end before their reset (and before ``before``) at their present burn, counted."""
    frame = endings(facts, filters)
    empty, at = frame["available_credits"] <= 0, frame["runs_out_at"]
    soon = at[~empty & (at.notna() if before is None else at < before)]
    return Ends(int(empty.sum()), len(soon), soon.min() if len(soon) else None)


def running_out(facts: Facts, filters: Filters, before: datetime, limit: int | None = None) -> pd.DataFrame:
    """Rows of :func:`surplus_now` of accounts that run out before an instant, soonest first; all, or the first ``limit``."""
    frame = soonest(facts, filters, limit)
    return frame[frame["runs_out_at"] < before].reset_index(drop=True)


def spread(facts: Facts, filters: Filters) -> Spread:
    """How many accounts are behind (< −3 surplus days), on pace and ahead (> +3) at the period's end, or now."""
    now = running(facts, filters)
    median = measures.quantile("0.5", "surplus_days")(now.c)
    accounts, behind, ahead, middle = facts.rows(select(*sides(now), median).select_from(now))[0]
    if not accounts:
        return NOBODY
    on_pace = accounts - behind - ahead
    return Spread(accounts, behind, on_pace, ahead, float(middle), behind / accounts, ahead / accounts)


def spread_before(facts: Facts, filters: Filters) -> Spread:
    """As :func:`spread`, when the last reporting day ended that the period reaches the end of: what today is compared with.

    Where such days are counted, no account is looked at; the median is then right to half a step of ``day_ends.STEP_DAYS``.
    """
    days = reporting_days(Period(filters.period.end - timedelta(days=2), filters.period.end), facts.zone)
    ended = [day for day in days if day.end_us <= to_us(filters.period.end)]
    last = Period(from_us(ended[-1].start_us), from_us(ended[-1].end_us))
    (row,) = surplus_bands(facts, filters.narrowed(period=last, compare=None)).to_dict("records")
    if not row["accounts"] > 0:
        return NOBODY
    accounts, shares = int(row["accounts"]), (float(row["behind_share"]), float(row["ahead_share"]))
    behind, ahead = (round(share * accounts) for share in shares)
    return Spread(accounts, behind, accounts - behind - ahead, ahead, float(row["median"]), *shares)


_DAY = ("spent_uc", "spent_credits", "pace_credits")
_BURN = (*_DAY, "cum_spent_credits", "cum_pace_credits")


def _summed(frame: pd.DataFrame, by: list[str], columns: tuple[str, ...]) -> pd.DataFrame:
    return frame.groupby(by, as_index=False)[list(columns)].sum(min_count=1)


def _judged(frame: pd.DataFrame) -> pd.DataFrame:
    pace = frame["pace_credits"].where(frame["pace_credits"] > 0)
    return frame.assign(
        over_credits=frame["spent_credits"] - pace,
        over_share=frame["spent_credits"] / pace - 1.0,
    )
