"""The preview of the tuning page: what the draft would have made of the period, first of a sample, then of all accounts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters
from credit_core.analytics.sync import Facts
from credit_core.errors import CreditError
from credit_core.lab import demand as demand_of
from credit_core.lab import preview
from credit_core.lab.background import Job
from credit_core.lab.outcomes import METRICS, Comparison
from credit_core.lab.preview import Ready
from credit_core.policy.advice import Cell, Demand
from credit_core.policy.config import Config
from credit_core.policy.plans import Catalog
from credit_core.settings import database_url
from credit_core.units import from_us
from pages.components import filters, kpi, numbers, plots, session, states, tuning_diff, tuning_jobs
from pages.components import tuning_draft as drafts
from pages.components.numbers import THIN, Better
from pages.components.text import sentence_list

#: Recent decisions that demand is read from, and how long that is kept while controls move.
READ, KEPT_S = 10_000, 60
#: What every figure of the preview rests on.
STATED = "Demand is taken as it was: nobody is assumed to ask more or less because they got other answers."


@dataclass(frozen=True)
class Shown:
    """What there is to show of a draft. ``whole``: of all accounts, not of a sample; ``same``: it equals what is live."""

    ready: Ready
    found: Comparison
    whole: bool
    same: bool


@dataclass(frozen=True)
class Kpi:
    """A metric of the replay as a card."""

    slug: str
    label: str
    better: Better
    means: str


FIRST: Sequence[Kpi] = (
    Kpi("fresh_rate", "Fresh rate", "neutral", "Decisions by rules 4 to 8 that were fresh."),
    Kpi("run_out_share", "Run-outs", "down", "Users who run out: active accounts that could not afford a request before the next grant."),
    Kpi("dry_days", "Dry days", "down", "Days from a run-out until the next grant, per active account."),
    Kpi("pacing_efficiency", "Efficiency", "up", "Pacing efficiency: fresh credits over the lesser of budget and demand, of ended cycles."),
    Kpi("unspent_credits", "Unspent", "down", "Monthly and rollover credits that were left when cycles ended."),
    Kpi("provider_cost", "Provider cost", "down", "Fresh ones at what the provider took, or at the catalogue's price."),
)  # fmt: skip
SECOND: Sequence[Kpi] = (
    Kpi("flicker", "Flicker", "down", "Neighbouring answers in a session that differ: fresh after library, or the other way."),
    Kpi("idle_library", "Library while ahead", "down", "Drawn library answers to accounts more than 3 surplus days ahead."),
    Kpi("behind", "Days behind", "down", "Account-days that end more than 3 surplus days behind pace."),
    Kpi("ahead", "Days ahead", "neutral", "Account-days that end more than 3 surplus days ahead of pace."),
    Kpi("premium_share", "Premium model", "neutral", "Fresh ones that go to the premium model, where the caller named none."),
)  # fmt: skip
UNITS = {metric.slug: metric.unit for metric in METRICS}


@st.cache_resource(show_spinner="Reading recent decisions …", max_entries=4, ttl=KEPT_S)
def demands(_facts: Facts, _catalog: Catalog, url: str, chosen: Filters) -> dict[str, Demand]:
    """What the accounts behind the filters in the ledger at ``url`` ask for, by plan."""
    return demand_of.demands(demand_of.recent(_facts, chosen, READ), _catalog)


@st.cache_resource(show_spinner="Reading the library …", max_entries=4, ttl=KEPT_S, hash_funcs={Config: str})
def cells(_facts: Facts, url: str, chosen: Filters, live: Config) -> list[Cell]:
    """The library's cells that were asked for behind the filters."""
    frame = queries.cells(_facts, chosen, live)
    asked = frame[frame["requests"] > 0]
    return [
        Cell(int(requests), int(assets)) for requests, assets in zip(asked["requests"], asked["assets"], strict=True)
    ]


def find(chosen: Filters, live: Config, draft: Config, catalog: Catalog) -> Shown | None:
    """What the draft comes to; None where there is nothing to show yet, and then it is said why.

    Figures of a sample come at once; those of all accounts are begun, and replace them when they are there.
    """
    if session.ledger().as_of is None:
        filters.no_entries()
        return None
    job = tuning_jobs.reading(session.facts(), catalog, database_url(), chosen, live, draft)
    if not job.finished:
        if tuning_jobs.paused():
            _resume("Nothing was replayed: you called it off.")
        else:
            st.markdown("Reading what was asked for in this period, so that it can be decided again.")
            tuning_jobs.watch(job, tuning_jobs.READING_POLL_S)
        return None
    if job.error is not None:
        _failed(job.error)
        return None
    ready = job.result
    if ready is None:
        filters.nothing_here("Nobody was decided on in this period, so there is nothing to decide again.")
        return None
    try:
        whole = preview.known(ready, live, draft)
        found = whole or preview.at_once(ready, live, draft)
    except CreditError as error:
        _failed(error)
        return None
    return Shown(ready, found, whole is not None or ready.sample is None, draft == live)


def standing(shown: Shown, live: Config, draft: Config, number: int) -> None:
    """Of whom and when the figures are, what they rest on; and the rest of the replay, where it goes on."""
    ready, zone = shown.ready, session.zone()
    start, end = (from_us(at) for at in (ready.period.start_us, ready.period.end_us))
    accounts = numbers.counted(ready.accounts, "account")
    whom = (
        f"**All {accounts}**"
        if shown.whole or ready.weights is None or ready.sample is None
        else f"**Sample of {numbers.count(len(ready.weights))} accounts**, scaled to all {numbers.count(ready.accounts)}"
    )
    st.markdown(
        f"{whom} · {numbers.counted(ready.decisions, 'decision')}, {numbers.instant(start, zone)} to {numbers.instant(end, zone)} · "
        f"live is version {number} throughout"
    )
    if not shown.whole:
        if tuning_jobs.paused():
            _resume("The other accounts were called off.")
        else:
            _refine(tuning_jobs.refining(ready, live, draft))
    if ready.unlike:
        st.warning(
            f"{numbers.counted(ready.unlike, 'decision')} of these accounts do not come out as they were logged when replayed by their "
            "own versions, so do not rely on this preview. Check the ledger: python -m credit_core verify",
            icon=":material/warning:",
        )


def _refine(job: Job[Comparison]) -> None:
    if job.error is not None:
        _failed(job.error)
    else:
        tuning_jobs.watch(job)


def _resume(words: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(words, width="content")
        st.button(
            "Replay", icon=":material/play_arrow:", key="tuning_go_on", on_click=tuning_jobs.go_on, type="tertiary"
        )


def _failed(error: Exception) -> None:
    if not isinstance(error, CreditError):
        tuning_jobs.failed(error)
    states.failed(
        "The period could not be replayed.",
        "The ledger, what is live and the draft: a preview only reads.",
        "Change a filter or reload to try again. Where it stays so, check the ledger.",
        command="python -m credit_core verify",
        detail=str(error) if isinstance(error, CreditError) else f"{type(error).__name__}; the log has the details.",
    )


def metrics(shown: Shown, which: Sequence[Kpi], key: str, by_row: int = kpi.MOST_CARDS) -> None:
    """Metrics as cards, live → draft, with the interval of the difference; ``by_row`` side by side, on a phone two."""
    by_row = 2 if plots.on_phone() else by_row
    drawn = [_card(shown, each) for each in which]
    for row, place in enumerate(range(0, len(drawn), by_row)):
        kpi.row(drawn[place : place + by_row], key=f"{key}_{row}")


def _card(shown: Shown, each: Kpi) -> kpi.Card:
    live, draft, low, high = (shown.found.value(each.slug, side) for side in ("live", "candidate", "low", "high"))
    unit = UNITS[each.slug]
    # A difference that may be nothing is not judged.
    better: Better = each.better if low > 0 or high < 0 else "neutral"
    means = kpi.Help(each.means, unit=unit)
    if shown.same:
        return kpi.Card(each.label, written(live, unit), target_text="live", help=means)
    interval = "no interval" if numbers.is_unknown(low) else f"95{THIN}%: {moved(low, unit)} to {moved(high, unit)}"
    return kpi.Card(
        each.label, written(draft, unit), target_text=f"live {written(live, unit)} · {interval}",
        change=change(draft, live, unit, better), help=means,
    )  # fmt: skip


def written(value: float, unit: str) -> str:
    """A metric's value for people."""
    if unit.startswith("share"):
        return numbers.share(value)
    if unit == "dollars":
        return numbers.in_dollars(value)
    return f"{numbers.decimal(value, 2)} d" if unit == "days" else numbers.short(value)


def moved(value: float, unit: str) -> str:
    """A difference for people, shares in points."""
    if unit.startswith("share"):
        return numbers.decimal(value * 100, 1, sign=True)
    return numbers.decimal(value, 2 if unit in ("days", "dollars") else 1, sign=True, trim=unit == "credits")


def change(now: float, before: float, unit: str, better: Better) -> numbers.Change:
    """A difference with its judgement."""
    if unit.startswith("share"):
        return numbers.points(now, before, better=better)
    return numbers.difference(now, before, lambda value: moved(value, unit), better=better)


def sentence(shown: Shown) -> str:
    """What changes, in words."""
    if shown.same:
        return "The draft equals what is live, so nothing differs yet. Move a control on the left."
    found = shown.found
    live, draft, low, high = (found.value("fresh_rate", side) for side in ("live", "candidate", "low", "high"))
    about = "" if shown.whole else "about "
    words = (
        f"**{about.capitalize()}{numbers.counted(found.winners, 'account')}** could expect at least half a fresh credit more, "
        f"**{about}{numbers.counted(found.losers, 'account')}** as much less. The fresh rate changes by "
        f"{moved(draft - live, 'share')} points"
    )
    if numbers.is_unknown(low):
        return f"{words}; too few accounts make the difference up for an interval."
    sure = low > 0 or high < 0
    return (
        f"{words} (95 % interval {moved(low, 'share')} to {moved(high, 'share')}, accounts resampled"
        f"{'' if sure else ', so it may be nothing'})."
    )


def headline(shown: Shown | None) -> str:
    """For the bar: the fresh rate, live → draft."""
    if shown is None or shown.same:
        return ""
    live, draft = (numbers.share(shown.found.value("fresh_rate", side)) for side in ("live", "candidate"))
    return f"fresh {live} → {draft}"


def rests_on(shown: Shown) -> None:
    """What the figures rest on, and which changes they cannot show."""
    words = STATED
    if not shown.ready.unlike:
        words += " Replayed by their own versions, all of these accounts' decisions come out as they were logged."
    if shown.found.left_out:
        words += f" {numbers.counted(shown.found.left_out, 'account')} that nobody decided on, or by another quota policy, are left out."
    st.caption(words)
    keys = preview.unseen(drafts.current().changes)
    if keys:
        names = tuning_diff.known()
        titles = [names[key].title if key in names else key for key in keys]
        verb = "governs" if len(keys) == 1 else "govern"
        states.unknown(f"{sentence_list(titles, 4)} {verb} what a replay takes as it was logged; it is not shown here.")
