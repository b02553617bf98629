"""Where figures come from and whether they add up: the line that every page bears."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import get_script_run_ctx

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters
from credit_core.units import from_us
from pages.components import filters, numbers, session, states
from pages.components.text import escape_markdown

#: A ledger that grows is checked at every change; one that stands still, this often for each million entries begun: a forgery
#: may add no entry.
CHECKED_AGAIN_S = 60
#: From so many entries on a page does not wait for its check: it stands, and looks again this often.
_MANY, _LOOKS_AGAIN_S = 1_000_000, 3.0
_WAITS_S = 60.0


def caption(beside: DeltaGenerator) -> None:
    """Which days, as of when, how many entries, how far behind; and ``beside`` the bar whether sums equal the ledger's."""
    ledger, zone = session.ledger(), session.zone()
    if session.trouble() is not None:
        states.stale(
            "The ledger cannot be read just now",
            "These are the figures of the last copy. Nothing is lost: the dashboard catches up as soon as it can.",
        )
    st.sidebar.caption(f":material/person: {session.operator()}, loopback only")
    if ledger.as_of is None:
        st.caption("The ledger is empty.")
        return
    said = [filters.words(), f"as of {numbers.instant(ledger.as_of, zone)}", numbers.counted(ledger.entries, "entry")]
    if ledger.lag_entries:
        said.append(f"{numbers.count(ledger.lag_entries)} more on their way")
    begin = session.facts().begin
    if begin is not None:
        said.append(f"begins {numbers.instant(from_us(begin.at_us), zone)}: older entries are in the ledger alone")
    st.caption(escape_markdown(" · ".join(said)), help=filters.meaning())
    with beside:
        if session.trouble() is not None:
            _not_checked()
            return
        check, many = _check(filters.current()), _many()
        if check.done():
            _tie_out(check, 0.0)
        else:
            # Beside the page, not before it.
            how = {"run_every": _LOOKS_AGAIN_S} if many else {"parallel": True}
            st.fragment(_tie_out, **how)(check, 0.0 if many else _WAITS_S)


def _tie_out(check: Future[queries.TieOut], patience_s: float) -> None:
    try:
        badge(check.result(patience_s))
    except TimeoutError:
        st.badge("Being checked against the ledger", icon=":material/hourglass_top:", color="gray")
    except Exception:
        # Whatever keeps the ledger from answering, the page stands; the next run checks again.
        _not_checked()


def _not_checked() -> None:
    st.badge("Not checked against the ledger", icon=":material/help:", color="gray")


def tied(chosen: Filters) -> queries.TieOut | None:
    """The tie-out for these filters; None while it is being made, where entries are so many that nobody waits for it."""
    try:
        return _check(chosen).result(0.0 if _many() else _WAITS_S)
    except TimeoutError:
        return None


def looking_again(part: Callable[..., None]) -> Callable[..., None]:
    """A part of a page that says what :func:`tied` found: drawn anew every few seconds where that takes long."""
    return st.fragment(part, run_every=_LOOKS_AGAIN_S) if _many() else part


def _many() -> bool:
    return session.ledger().entries >= _MANY


def _check(chosen: Filters) -> Future[queries.TieOut]:
    """The tie-out for these filters: there, or being made."""
    facts, context = session.facts(), get_script_run_ctx()
    lasts_s = CHECKED_AGAIN_S * (1 + session.ledger().entries // _MANY)
    question = chosen, facts.version, int(session.now().timestamp() // lasts_s)
    who = "" if context is None else context.session_id
    return session.checks().ask(who, question, lambda: queries.tie_out(facts, chosen))


def badge(tie: queries.TieOut) -> None:
    """Green where the figures' sums equal the ledger's own, to the micro-credit; red with the difference where not."""
    if tie.made_up is not None:
        said = f"These figures are {tie.made_up}. There is no ledger to compare them with."
        st.badge("Made up: no ledger behind it", icon=":material/science:", color="gray", help=said)
        return
    if tie.exact:
        st.badge("Ties out to the ledger", icon=":material/check:", color="green", help=_lines(tie))
        return
    wrong = next(line for line in tie.lines if line.difference)
    off = _amount(wrong.name, abs(wrong.difference))
    said = f"Entries and balances differ by {off}" if wrong.name in queries.BALANCES else f"Off the ledger by {off}"
    st.badge(said, icon=":material/warning:", color="red", help=_lines(tie))


def _lines(tie: queries.TieOut) -> str:
    rows = [
        f"| {_NAMES.get(line.name, line.name)} | {_amount(line.name, line.facts)} | {_amount(line.name, line.ledger)} |"
        for line in tie.lines
    ]
    return "\n".join(["|  | these figures | the ledger |", "|---|---:|---:|", *rows])


_NAMES = {
    "entries": "Entries",
    "spent_uc": "Spent",
    "granted_uc": "Granted",
    "d_avail_uc": "Change of available",
    "d_held_uc": "Change of held",
    "avail_uc": "Available, all accounts: entries, balances",
    "held_uc": "Held, all accounts: entries, balances",
}


def _amount(name: str, value: int | None) -> str:
    if value is None:
        return "–"
    if not name.endswith("_uc"):
        return numbers.count(value)
    return f"{numbers.decimal(value / 1_000_000, 6, trim=True)}{numbers.THIN}credits"
