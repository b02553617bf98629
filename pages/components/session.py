"""What every page needs before it can ask anything: the core, the facts, the gate and the guard.

Every page begins with ``session.guard()``; then ``session.core()`` and ``session.facts()`` are there. Both are opened
once per process; the facts follow the ledger at most once a second, whoever's rerun comes first.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import streamlit as st
from streamlit.errors import StreamlitAPIException

from credit_core.analytics import queries
from credit_core.analytics.opening import open_facts
from credit_core.analytics.sync import Facts
from credit_core.errors import CreditError, SchemaTooNew
from credit_core.service.core import CreditCore
from credit_core.settings import DATABASE_VARIABLE, database_url
from pages.components import states
from pages.components.checks import Checks
from pages.components.kept import Kept

#: The one operator there is without sign-in (SPEC 10); the author of what is released and drafted.
LOCAL_OPERATOR = "local operator"
#: The ledger is asked for news at most this often per process.
FOLLOW_EVERY_S = 1.0
#: While nothing new is written, periods that run until now end where they did, so long: everybody asks the same.
STANDS_STILL = timedelta(minutes=15)
#: Answers kept over all sessions of the process.
ANSWERS_BYTES = 128 * 2**20
_FRAMED = "_framed"
_RETURNED = "_returned_to_app"

_UNREACHABLE = (
    "The ledger could not be opened.",
    f"See that the database is there and running, and that {DATABASE_VARIABLE} names it; then reload this page.",
)
_LOG = logging.getLogger(__name__)
_HELD: ContextVar[datetime | None] = ContextVar("held", default=None)

T = TypeVar("T")


class _Reader:
    """The facts of one process, how far they have read, and when they last followed the ledger."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.standing: queries.AsOf | None = None
        self.trouble: Exception | None = None
        self._following = threading.Lock()
        self._tried_at = float("-inf")
        self._remembered: dict[tuple[str, int], Any] = {}
        self.answers = Kept(ANSWERS_BYTES)
        self.checks = Checks()
        self._moment: tuple[int, datetime] | None = None

    def follow(self) -> None:
        """Copy what is new, unless somebody did within the last second or is doing it now.

        The first reader of a process waits, and fails aloud: there is nothing to show yet. Later ones show what there
        is, whatever befalls the ledger.
        """
        first = self.standing is None
        if self._fresh() or not self._following.acquire(blocking=first):
            return
        try:
            if not self._fresh():
                self.facts.follow()
                self.standing, self.trouble = queries.as_of(self.facts, now()), None
                self._tried_at = time.monotonic()
        except Exception as error:
            if first:
                raise
            if self.trouble is None:
                _LOG.exception("The ledger cannot be followed; the last copy is shown")
            self.trouble, self._tried_at = error, time.monotonic()
        finally:
            self._following.release()

    def _fresh(self) -> bool:
        return time.monotonic() - self._tried_at < FOLLOW_EVERY_S

    def moment(self, at: datetime) -> datetime:
        """``at``, or an instant shortly before it at which nothing less had been copied."""
        known = self._moment
        if known is None or known[0] != self.facts.version or not timedelta(0) <= at - known[1] < STANDS_STILL:
            known = self._moment = (self.facts.version, at)
        return known[1]

    def remembered(self, name: str, compute: Callable[[Facts], T]) -> T:
        """``compute(facts)``, kept until something new was copied."""
        key = (name, self.facts.version)
        if key not in self._remembered:
            self._remembered = {k: v for k, v in self._remembered.items() if k[1] == key[1]}
            self._remembered[key] = compute(self.facts)
        return self._remembered[key]


#: What :func:`open_ledger` found for the run of this thread.
_OPENED: ContextVar[tuple[str, _Reader] | None] = ContextVar("opened", default=None)


@st.cache_resource(show_spinner="Opening the ledger …")
def _core(url: str) -> CreditCore:
    return CreditCore.open(url)


@st.cache_resource(show_spinner="Opening the ledger …")
def _reader(url: str) -> _Reader:
    return _Reader(open_facts(url))


def _opened() -> _Reader:
    """This run's reader. A page asks for it fifty times, and Streamlit's cache writes its key down anew each time."""
    url, known = database_url(), _OPENED.get()
    return known[1] if known is not None and known[0] == url else _reader(url)


def core() -> CreditCore:
    """The trusted core on this deployment's ledger."""
    return _core(database_url())


def facts() -> Facts:
    """The columnar copy of the ledger that every query reads."""
    return _opened().facts


def operator() -> str:
    """Who acts: the author of drafts, releases and adjustments."""
    return LOCAL_OPERATOR


def zone() -> ZoneInfo:
    """The reporting zone of this deployment: of filters, charts and exports alike."""
    return ZoneInfo(facts().zone)


def now() -> datetime:
    """The present instant, UTC. The pages' only clock."""
    return _HELD.get() or datetime.now(UTC)


@contextmanager
def held() -> Iterator[None]:
    """Within it the present is held for a while where nothing new is written, so that everybody's periods end together."""
    before = _HELD.set(_opened().moment(now()))
    try:
        yield
    finally:
        _HELD.reset(before)


def answers() -> Kept:
    """What was asked of this process's copy, by question; it goes when the copy does."""
    return _opened().answers


def checks() -> Checks:
    """What was found where this process's copy was compared with its ledger."""
    return _opened().checks


def options() -> queries.Options:
    """The plans, regions, models and cells present in the ledger."""
    return _opened().remembered("options", queries.options)


def ledger() -> queries.AsOf:
    """How far the facts have read: newest and first entry, how many, how many are missing still."""
    standing = _opened().standing
    assert standing is not None, "guard() comes first"
    return standing


def trouble() -> Exception | None:
    """Why the ledger could not be read just now, while the last copy is still shown; None when all is well."""
    return _opened().trouble


def gate() -> None:
    """Let only the local operator in: over loopback, not through a proxy, not under a foreign host name."""
    refusal = _refusal(st.context.ip_address, dict(st.context.headers.to_dict()))
    if refusal:
        states.failed(
            "This dashboard answers its own machine only.",
            "Nothing was read or written.",
            "Open it on the machine it runs on, at http://localhost, or tunnel its port there over SSH. "
            "There is no sign-in yet, so nobody else can be told apart from the operator.",
            detail=refusal,
        )
        st.stop()
    st.session_state[_FRAMED] = True


def guard() -> None:
    """Begin every page with this: nothing is shown outside the frame, and nothing without an open ledger.

    A page that was reached without ``app.py`` (a cold process, an address that is a file's name) goes back through it.
    """
    if not st.session_state.get(_FRAMED):
        _return_to_app()
    gate()
    open_ledger()


def _return_to_app() -> None:
    from app import navigation

    if not st.session_state.get(_RETURNED):
        st.session_state[_RETURNED] = True
        # A page that is itself the main script has no pages beside it: there is nothing to return to.
        with suppress(StreamlitAPIException):
            navigation()
            st.rerun()
    states.failed(
        "This page was started without its frame.",
        "Nothing was read or written.",
        "Start the dashboard through app.py.",
        command="streamlit run app.py",
    )
    st.stop()


def open_ledger() -> None:
    """Open what is needed and follow the ledger; a failure fills the page with what to do."""
    url = database_url()
    try:
        _core(url)
        reader = _reader(url)
        _OPENED.set((url, reader))
        waiting = st.spinner("Reading the ledger for the first time …") if reader.standing is None else nullcontext()
        with waiting:
            reader.follow()
    except SchemaTooNew as error:
        _refuse(
            "The ledger was written by a newer release of Titrate.",
            "Update this installation, then reload. Whoever runs the newer one goes on undisturbed.",
            str(error),
        )
    except CreditError as error:
        _refuse(*_UNREACHABLE, str(error))
    except Exception as error:
        # The last place before the browser: whatever a driver raises becomes words here, and a traceback in the log.
        _LOG.exception("The ledger could not be opened")
        _refuse(*_UNREACHABLE, f"{type(error).__name__}; the log of this process has the details.")


def _refuse(what: str, do: str, detail: str) -> None:
    states.failed(
        what,
        "The ledger: its entries are only ever added, and this page added none.",
        do,
        command=f"python -m credit_core verify --database {_without_password(database_url())}",
        detail=detail,
    )
    st.stop()


def _refusal(address: str | None, headers: dict[str, str]) -> str:
    """Why a connection is not the local operator's, or nothing. ``address`` None is loopback."""
    named = {name.lower(): value for name, value in headers.items()}
    forwarded = next((name for name in ("forwarded", "x-forwarded-for", "x-real-ip") if name in named), None)
    if forwarded:
        return f"The request came through a proxy (header {forwarded})."
    if address is not None and not _loopback(address):
        return f"The request came from {address}."
    try:
        host = urlsplit(f"//{named.get('host', 'localhost')}").hostname or ""
    except ValueError:
        host = named["host"]
    if host != "localhost" and not host.endswith(".localhost") and not _loopback(host):
        return f"The request was made to {host}."
    return ""


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if not parts.password:
        return url
    return url.replace(f":{parts.password}@", ":…@", 1)
