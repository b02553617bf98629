"""The bar above every page: period, comparison, policies, plans, regions, teams and credit unit. What it says lives in the URL.

``app.py`` draws it once for all pages, so what is chosen stays when the page changes; pages read :func:`current`.
Which instants a choice means is told in :mod:`pages.components.periods`. Links between pages need not carry the choice: it
comes along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, fair
from credit_core.analytics.queries.running import Running, running_cycles
from pages.components import charts, numbers, periods, session, states
from pages.components.answers import ask
from pages.components.periods import (
    COMPARISONS,
    CUSTOM,
    CYCLE,
    DEFAULT_PERIOD,
    PERIODS,
    days_in_words,
    range_days,
    range_text,
)
from pages.components.text import escape_markdown, figure_text, sentence_list, title_of

#: Keys of the bound widgets, which are the names of the URL's parameters too.
PERIOD, RANGE, COMPARE, PLAN, REGION, TEAM = "period", "range", "compare", "plan", "region", "team"
POLICY, UNIT = "policy", "unit"
KEYS = (PERIOD, RANGE, COMPARE, PLAN, REGION, TEAM, POLICY, UNIT)
#: Streamlit takes the first of a list for the one that stays out of the URL.
_DEFAULT_FIRST = [DEFAULT_PERIOD, *(name for name in PERIODS if name != DEFAULT_PERIOD)]

#: Stands for the unit with most entries behind the other filters.
MOST = "most"
_PLURALS = {POLICY: "policies", PLAN: "plans", REGION: "regions", TEAM: "teams"}

_CHOSEN = "_chosen"
_UNREADABLE = "_range_unreadable"


class _Said(NamedTuple):
    """What the bar says: the filters, the period and comparison by name, and what they came from."""

    filters: Filters
    period: str
    compare: str
    until: periods.Anchor
    running: Running | None


def current() -> Filters:
    """What the bar says: the period, what it is compared with, and the policies, plans, regions, teams and unit kept."""
    return _said().filters


def compare_name() -> str:
    """What a comparison is called beside a change: 'previous 28 days'."""
    said = _said()
    return periods.compare_name(said.compare, said.filters.period, said.period, session.zone())


def by_cycle() -> bool:
    """True where the period is this cycle: days of the cycle say more than dates."""
    return _said().period == CYCLE


def shift() -> timedelta:
    """What moves the comparison's days onto those of the period, on the reporting zone's calendar."""
    chosen, zone = current(), session.zone()
    if chosen.compare is None:
        return timedelta(0)
    start, before = (p.start.astimezone(zone).date() for p in (chosen.period, chosen.compare))
    return start - before


def span() -> tuple[datetime, datetime]:
    """The period's first and last instant, for a time axis."""
    return current().period.start, current().period.end


def params(**of_page: Any) -> dict[str, Any]:
    """URL parameters for ``st.page_link`` and ``st.switch_page``: those of the page that is linked to.

    What the bar says comes along by itself: Streamlit keeps it, and refuses to be given it. ``st.switch_page`` must be
    given these even where there are none, or it tries to clear what is bound, and fails.
    """
    taken = [key for key in of_page if key in KEYS]
    if taken:
        raise ValueError(
            f"The bar holds {' and '.join(taken)}. Change it in a callback, with set_filters() or set_days()."
        )
    return {key: value for key, value in of_page.items() if value not in (None, "", [], ())}


def set_filters(*, plan: str | None = None, region: str | None = None, team: str | None = None) -> None:
    """Narrow to one plan, region or team. Only from a widget's callback, before the bar is drawn."""
    for key, value in ((PLAN, plan), (REGION, region), (TEAM, team)):
        if value is not None:
            st.session_state[key] = [value]


def set_days(first: date, last: date) -> None:
    """Make the period the custom one from ``first`` to ``last``. Only from a widget's callback."""
    st.session_state[PERIOD] = CUSTOM
    st.session_state[RANGE] = range_text((min(first, last), max(first, last)))


def widen() -> None:
    """Keep every plan, region and team again, of the same policies and unit. Only from a widget's callback."""
    for key in (PLAN, REGION, TEAM):
        st.session_state[key] = []


def clear() -> None:
    """Keep everything again. Only from a widget's callback."""
    widen()
    st.session_state[POLICY] = []
    st.session_state[UNIT] = MOST


def possible() -> dict[str, Sequence[str]]:
    """What each of :data:`KEYS` can say; an empty one can say anything."""
    present = session.options()
    return {
        PERIOD: list(PERIODS), RANGE: (), COMPARE: list(COMPARISONS), PLAN: present.plans, REGION: present.regions,
        TEAM: present.teams, POLICY: present.policies, UNIT: (MOST, *present.units),
    }  # fmt: skip


def credit_words() -> str:
    """What amounts are in: 'credits', or 'studio credits' where the ledger has credits of more than one unit."""
    unit = current().unit
    return "credits" if unit is None else unit if not charged() else f"{unit} credits"


def credit_unit() -> charts.Unit:
    """Credits as an axis, named as :func:`credit_words`."""
    return charts.CREDITS.titled(figure_text(credit_words()))


def charged() -> bool:
    """True where plans of the unit charge credits; the others count generations, and no credits move."""
    present = session.options()
    return not present.terms or present.charges(current().unit)


def paced() -> bool:
    """True where plans of the unit are paced by the controller, so that they have a surplus and a fresh rate."""
    present = session.options()
    return not present.terms or present.paced(current().unit)


def only_paced(what: str) -> bool:
    """True on a page of ``what`` that only paced plans have; else what is chosen has none, and says how to get there."""
    if paced():
        return True
    units = [unit for unit in session.options().units if session.options().paced(unit)]
    with st.container(border=True):
        st.markdown(f":material/filter_alt_off: **Plans that count {escape_markdown(credit_words())} have no {what}.**")
        st.caption(escape_markdown("Only plans that the controller paces have it."))
        for unit in units:
            st.button(f"Show {unit} plans", on_click=_to_unit, args=(unit,), key=f"_to_{unit}")
    return False


def _to_unit(unit: str) -> None:
    clear()
    st.session_state[UNIT] = unit


def nothing_here(what: str = "Nothing happened in this period with these filters.") -> None:
    """The state of a figure or page whose rows the filters leave empty, with the ways out."""
    with st.container(border=True):
        st.markdown(f":material/filter_alt_off: **{what}**")
        chosen = current()
        narrowed = chosen.plans or chosen.regions or chosen.teams or chosen.policies
        if narrowed or st.session_state.get(UNIT, MOST) != MOST:
            st.button("Clear filters", on_click=clear, key=f"_clear_{what}")
        else:
            st.caption("Choose a longer period above.")


def no_entries() -> None:
    """The whole page's state while the ledger is empty."""
    states.empty(
        "The ledger has no entries yet.",
        "Fill it with two months of made-up usage, import your own log, or send it requests; then reload.",
        command="python -m credit_core demo\npython -m credit_core import gentd26 FILE --mode govern --plan basic",
    )


def bar() -> DeltaGenerator:
    """Draw the bar and remember what it says. Called by ``app.py`` before the page runs. Gives the place beside it."""
    if st.session_state.pop(_UNREADABLE, False):
        st.session_state[RANGE] = ""
    zone, ledger, present = session.zone(), session.ledger(), session.options()
    until = periods.anchor(ledger.as_of, session.now(), zone)
    last = until.today(zone)
    first = min(ledger.first_at.astimezone(zone).date() if ledger.first_at else last, last)
    asked = _bound(present)
    chosen = range_days(asked.range, first, last) or (max(first, last - timedelta(days=27)), last)
    if asked.range and not range_days(asked.range, first, last):
        st.session_state[_UNREADABLE] = True
    # A cycle is of the accounts behind the filters, and those are of the unit with most entries: in days that are known before.
    kept = Filters(
        periods.period_of(asked.period, chosen, until, zone),
        plans=tuple(asked.plans),
        regions=tuple(asked.regions),
        teams=tuple(asked.teams),
        policies=tuple(asked.policies),
    )
    kept = _of_one_unit(kept, asked.unit, present)
    running = None
    if asked.period == CYCLE:
        running = ask(running_cycles, kept)
        kept = replace(kept, period=periods.this_cycle(running, until, zone))
    compare = periods.compared(asked.compare, kept.period, asked.period, zone)
    # Every figure and line of a page is compared over the same part of the period before, or two of them tell different stories.
    result = fair(replace(kept, compare=compare), ledger.as_of)
    st.session_state[_CHOSEN] = _Said(result, asked.period, asked.compare, until, running)
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="filter_bar"):
        st.selectbox(
            "Period", list(PERIODS), format_func=PERIODS.__getitem__, label_visibility="collapsed", width=112,
            **_twin(PERIOD, asked.period),
        )  # fmt: skip
        if asked.period == CUSTOM:
            st.date_input(
                "From – to", min_value=first, max_value=last, format="YYYY-MM-DD", label_visibility="collapsed",
                width=230, **_twin(RANGE, chosen),
            )  # fmt: skip
        st.selectbox(
            "Compare with", list(COMPARISONS), format_func=COMPARISONS.__getitem__, label_visibility="collapsed",
            width=138, **_twin(COMPARE, asked.compare),
        )  # fmt: skip
        _popover(asked, present, result.unit)
        return st.container(width="content")


def words() -> str:
    """What the bar says, in words: the days covered, those compared with, and what is kept."""
    bar_says, zone = _said(), session.zone()
    chosen, until = bar_says.filters, bar_says.until
    against = f" vs {days_in_words(chosen.compare, zone)}" if chosen.compare is not None else ""
    said = [f"{days_in_words(chosen.period, zone)}{against}, days of {zone.key}"]
    if bar_says.period == CYCLE:
        said.append(periods.cycle_in_words(bar_says.running))
    kept = [title_of(plan) for plan in chosen.plans], list(chosen.regions), list(chosen.teams)
    said += [sentence_list(names) for names in kept if names]
    if chosen.policies:
        said.append(sentence_list([title_of(policy) for policy in chosen.policies]))
    if chosen.unit is not None:
        said.append(credit_words())
    if until.old and until.newest is not None:
        age = numbers.duration((session.now() - until.newest).total_seconds())
        said.append(f"the newest entry is {age} old, so periods end with its day")
    return " · ".join(said)


def meaning() -> str | None:
    """What the period and the comparison mean, where that is more than days that were counted; for an (i)."""
    return periods.meaning(_said().compare, _said().period)


def _said() -> _Said:
    said: _Said = st.session_state[_CHOSEN]
    return said


_STYLE = """<style>
.st-key-filter_bound {display: none}
.stMainBlockContainer {padding-top: 3.75rem}
</style>"""


class _Asked(NamedTuple):
    period: str
    range: str
    compare: str
    plans: list[str]
    regions: list[str]
    teams: list[str]
    policies: list[str]
    unit: str


def _bound(present: queries.Options) -> _Asked:
    """What the URL asks for. The widgets bound to it are drawn on every page and unseen; what is seen are their twins.

    Streamlit forgets in the URL what is bound to a widget that is not on the page, such as one in a closed popover.
    Defaults come first, so that they stay out of the URL; a value that does not exist is dropped from it.
    """
    with st.container(key="filter_bound"):
        st.html(_STYLE)
        period = st.selectbox("Period asked", _DEFAULT_FIRST, key=PERIOD, bind="query-params")
        days = st.text_input("Days asked", key=RANGE, bind="query-params")
        compare = st.selectbox("Comparison asked", list(COMPARISONS), key=COMPARE, bind="query-params")
        plans = st.multiselect("Plans asked", present.plans, key=PLAN, bind="query-params")
        regions = st.multiselect("Regions asked", present.regions, key=REGION, bind="query-params")
        teams = st.multiselect("Teams asked", present.teams, key=TEAM, bind="query-params")
        policies = st.multiselect("Policies asked", present.policies, key=POLICY, bind="query-params")
        unit = st.selectbox("Unit asked", [MOST, *present.units], key=UNIT, bind="query-params")
    return _Asked(period, days or "", compare, plans, regions, teams, policies, unit)


def _of_one_unit(result: Filters, asked: str, present: queries.Options) -> Filters:
    """The filters with the plans that their policies leave of one unit: credits of different units are never summed."""
    kept = [one for one in present.terms if not result.policies or one.quota_policy in result.policies]
    unit = None
    if len(present.units) > 1:
        unit = asked if asked != MOST else _most_used(replace(result, within=tuple(one.plan for one in kept)), present)
        kept = [one for one in kept if one.credit_unit == unit]
    if unit is None and not result.policies:
        return result
    return replace(result, unit=unit, within=tuple(one.plan for one in kept))


def _most_used(kept: Filters, present: queries.Options) -> str:
    """The unit with most entries behind the filters; where there are none, that of paced plans before others."""
    entries = ask(queries.entries_by_plan, replace(kept, compare=None))
    possible = [
        one for one in present.terms if one.plan in (kept.within or ()) and (not kept.plans or one.plan in kept.plans)
    ] or present.terms
    counts = {one.credit_unit: 0 for one in possible}
    for one in possible:
        counts[one.credit_unit] += entries.get(one.plan, 0)
    return max(sorted(counts), key=lambda unit: (counts[unit], present.paced(unit)))


def _popover(asked: _Asked, present: queries.Options, unit: str | None) -> None:
    kept = [
        (PLAN, asked.plans, present.plans),
        (REGION, asked.regions, present.regions),
        (TEAM, asked.teams, present.teams),
    ]
    if len(present.policies) > 1:
        kept.insert(0, (POLICY, asked.policies, present.policies))
    active = sum(bool(values) for _, values, _ in kept) + (asked.unit != MOST)
    with st.popover(f"Filters · {active}" if active else "Filters", key="filter_popover"):
        for key, values, all_values in kept:
            st.multiselect(
                key.capitalize(), all_values, placeholder=f"All {_PLURALS[key]}", disabled=not all_values,
                format_func=title_of if key == POLICY else str, **_twin(key, values),
            )  # fmt: skip
        if unit is not None:
            st.selectbox(
                "Credit unit", present.units, format_func=title_of, help="Credits of different units are never summed.",
                **_twin(UNIT, unit),
            )  # fmt: skip
        st.button("Clear", on_click=clear, key="filter_clear", disabled=not active)


def _twin(key: str, value: Any) -> dict[str, Any]:
    """What makes a widget the visible twin of the bound one called ``key``: it shows its value, and sets it."""
    twin = f"_{key}_twin"
    st.session_state[twin] = value
    return {"key": twin, "on_change": _set_from_twin, "args": (key, twin)}


def _set_from_twin(key: str, twin: str) -> None:
    value = st.session_state[twin]
    st.session_state[key] = range_text(value) if key == RANGE else value
    if key == PERIOD:
        # A custom period starts out as the days that were on screen.
        shown, zone = current().period, session.zone()
        last = (shown.end - timedelta(microseconds=1)).astimezone(zone).date()
        st.session_state[RANGE] = range_text((shown.start.astimezone(zone).date(), last)) if value == CUSTOM else ""
