"""The sentence under a page's title, made of figures that queries gave: numbers agree with their nouns, unknowns are left out.

Every function returns markdown or nothing; names that somebody else chose are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd

from credit_core.analytics.queries.standing import SinceRelease
from pages.components import numbers
from pages.components.text import escape_markdown, sentence_list, shortened, title_of

#: Nearer to its pace than this, a plan is on it.
ON_PACE = 0.05
#: A day that was reached into its last hour counts as whole.
LAST_HOUR = 23


def joined(*clauses: str) -> str:
    """Clauses as sentences; empty ones are left out."""
    kept = [clause[0].upper() + clause[1:] for clause in clauses if clause]
    return " ".join(f"{clause}." for clause in kept)


def counted(number: int, one: str, many: str = "") -> str:
    """'1 user', '214 users', 'no users'."""
    noun = one if number == 1 else many or f"{one}s"
    return f"{numbers.count(number) if number else 'no'} {noun}"


def percent(share: float) -> str:
    """A share for reading aloud: 18 %, and one decimal under 10 %."""
    digits = 1 if abs(share) < 0.095 else 0
    return f"{numbers.decimal(share * 100, digits, trim=True)}{numbers.THIN}%"


def named(name: object) -> str:
    """A plan, cell or other name inside a sentence."""
    return escape_markdown(title_of(shortened(name)))


def cell(genre: object, mood: object) -> str:
    """A library cell inside a sentence."""
    return f"{escape_markdown(shortened(genre, 30))} × {escape_markdown(shortened(mood, 30))}"


def against_pace(over_share: float | None) -> str:
    """'18 % over pace', '42 % under pace', 'on pace'."""
    if over_share is None or numbers.is_unknown(over_share):
        return ""
    if abs(over_share) < ON_PACE:
        return "on pace"
    return f"**{percent(abs(over_share))} {'over' if over_share > 0 else 'under'}** pace"


def plan_pace(paces: pd.DataFrame, since: SinceRelease | None = None) -> str:
    """The plan furthest from pace, in credits: 'Basic burns 18 % over pace since release 3, 2 % under before'.

    ``paces`` has plan, over_credits and over_share. A release is named only where the plan's pace moved with it.
    """
    known = paces.dropna(subset=["over_share"])
    if known.empty:
        return ""
    most = known.loc[known["over_credits"].abs().idxmax()]
    if known["over_share"].abs().max() < ON_PACE:
        who = "every plan burns" if len(known) > 1 else f"{named(most['plan'])} burns"
        return f"{who} within {percent(ON_PACE)} of pace"
    told = _moved(most["plan"], since)
    return f"{named(most['plan'])} burns {told or against_pace(most['over_share'])}"


def _moved(plan: str, since: SinceRelease | None) -> str:
    """What a plan's pace was before and since a release; nothing where it stayed the same or is unknown."""
    if since is None:
        return ""
    shares = [frame.loc[frame["plan"] == plan, "over_share"].dropna() for frame in (since.before, since.since)]
    if any(share.empty for share in shares):
        return ""
    before, now = (float(share.iloc[0]) for share in shares)
    if abs(now - before) < ON_PACE:
        return ""
    what = "the rollback to release" if since.action == "rollback" else "release"
    was = against_pace(before).replace("*", "")
    return f"{against_pace(now)} since {what} {since.version}, {was} before"


def running_out(empty: int, soon: int, before: str) -> str:
    """'37 users have no credits left, and 77 more will run out before Sunday, 29 Nov at their present burn'."""
    none_left = f"**{counted(empty, 'user')}** {'has' if empty == 1 else 'have'} no credits left" if empty else ""
    if not soon:
        return (
            f"{none_left}, and nobody else will run out before {before}"
            if empty
            else f"nobody will run out before {before}"
        )
    more = f"**{numbers.count(soon)} more**" if empty else f"**{counted(soon, 'user')}**"
    ends = f"{more} will run out before {before} at {'the' if soon == 1 else 'their'} present burn"
    return f"{none_left}, and {ends}" if empty else ends


def within(comparison: str) -> str:
    """'in the previous 28 days', 'yesterday'."""
    return comparison if comparison == "yesterday" else f"in the {comparison}"


def weekday(instant: datetime, zone: ZoneInfo) -> str:
    """'Sunday, 29 Nov'."""
    local = instant.astimezone(zone)
    return f"{local:%A}, {local.day} {local:%b}"


def unfinished(as_of: datetime, end: datetime, zone: ZoneInfo) -> str:
    """That the last day on the charts is not whole, where that is so: '21 Nov reaches to 04:29 only'."""
    local = as_of.astimezone(zone)
    last = (end - timedelta(microseconds=1)).astimezone(zone)
    if local.date() != last.date() or local.hour == LAST_HOUR:
        return ""
    return f"{local.day} {local:%b} reaches to {local:%H:%M} only."


def unusual(days: pd.DataFrame) -> str:
    """Which days were not as usual, the most unusual first; how a usual one is told."""
    rule = "more than 3.5 robust deviations from the same weekday in the four weeks before"
    if days.empty:
        return f"No complete day was unusual ({rule})."
    told = [
        f"{numbers.day(row['day'].date(), year=False)} ({numbers.short(row['value'])}, usually {numbers.short(row['usual'])})"
        for row in days.to_dict("records")
    ]
    return f"Unusual: {sentence_list(told)}; a diamond marks what is {rule}."


def news(rows: pd.DataFrame, movers: Mapping[str, tuple[str, float]], limit: int = 6) -> list[str]:
    """What changed, a clause each: 'Credits spent rose by 12 % to 3 404, mostly by Premium (+210)'.

    ``rows`` have title, format, value, before and change; ``movers`` name who moved a metric most, and by how much.
    """
    told = []
    for row in rows.head(limit).to_dict("records"):
        verb = "rose" if row["value"] > row["before"] else "fell"
        if row["format"] == "share":
            by = f" by {numbers.decimal(abs(row['change']) * 100, 1)} points"
        else:
            by = f" by {percent(abs(row['change']))}" if row["value"] and not numbers.is_unknown(row["change"]) else ""
        who = movers.get(row["slug"])
        most = "" if who is None else f", most with {named(who[0])} ({numbers.decimal(who[1], 0, sign=True)})"
        told.append(f"**{row['title']}** {verb}{by} to {numbers.metric(row['value'], row['format'])}{most}")
    return told


def targets(missed: Sequence[str], known: int) -> str:
    """'2 of 6 targets are missed: coverage misses and run-outs', or that all are met."""
    if not known:
        return ""
    if not missed:
        return "the one target that can be told is met" if known == 1 else f"all {known} targets are met"
    names = sentence_list([escape_markdown(name[0].lower() + name[1:]) for name in missed], limit=4)
    return f"**{len(missed)} of {known} target{'' if known == 1 else 's'}** {'is' if len(missed) == 1 else 'are'} missed: {names}"


def listing(names: Iterable[object], limit: int = 3) -> str:
    """Names in a sentence: 'A, B and 4 more'."""
    return sentence_list([named(name) for name in names], limit)
