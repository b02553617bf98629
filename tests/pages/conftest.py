"""Ledgers to look at, and a way to open a page of the dashboard on one of them."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.runtime.context import ContextProxy, StreamlitHeaders
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from credit_core import CreditCore, Request
from credit_core.importers import demo
from credit_core.service import ends, generate
from credit_core.settings import DATABASE_VARIABLE
from credit_core.store.unit import Unit
from tests.made_once import MadeOnce
from tests.market import market
from tests.service.scenes import StoppedClock

APP = Path(__file__).resolve().parents[2] / "app.py"
TIMEOUT_S = 60
# AppTest reads every installed package's metadata for components at each run; what is installed stays the same.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)
#: Addresses by file, as ``app.navigation`` gives them; the overview is at the root.
ADDRESS = {
    "overview": "", "burn_rate": "burn", "coverage": "library", "surplus": "pace", "economics": "margins", "operations": "health",
    "explore": "question", "tuning": "controller", "lab": "laboratory", "releases": "versions", "users": "people", "integrity": "trust",
}  # fmt: skip

#: What people may call themselves and their cells: markdown, HTML, formulas, scripts that run right to left, and length.
HOSTILE = (
    "![x](http://evil.example/a.png)",
    "<script>alert(1)</script>",
    '=HYPERLINK("http://evil")',
    "$$x$$ :red[y] :material/bomb:",
    "[click](javascript:alert(1)) `code`",
    "مرحبا بالعالم",
    "a" * 128,
    "<a href='http://evil.example'>go</a> & <b>b</b>",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "Ελλάδα · 日本 · 🙂 %s {0}",
)
HOSTILE_START, HOSTILE_DAYS = datetime(2025, 3, 3, 8, tzinfo=UTC), 9
DEMO_END, DEMO_ZONE = datetime(2025, 4, 2, 12, tzinfo=UTC), ZoneInfo("Europe/Berlin")

#: What narrows a page: the URL's parameters, the same as columns of the ledger, and the number of days.
NARROWED = [
    ({}, {}, 28),
    ({"plan": "basic"}, {"plan": "basic"}, 28),
    ({"region": "eu"}, {"region": "eu"}, 28),
    ({"plan": "premium", "region": "eu", "period": "7d"}, {"plan": "premium", "region": "eu"}, 7),
    ({"period": "90d", "compare": "none"}, {}, 90),
]

OpenPage = Callable[..., AppTest]


@pytest.fixture(scope="session")
def ledgers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the ledgers. Cores and copies opened on them are let go at the end."""
    yield tmp_path_factory.mktemp("ledgers")
    st.cache_resource.clear()
    gc.collect()


@pytest.fixture(scope="session")
def empty_ledger(ledgers: Path) -> str:
    """A ledger without entries."""
    url = f"sqlite:///{ledgers / 'empty.db'}"
    CreditCore.open(url).close()
    return url


@pytest.fixture(scope="session")
def demo_ledger(ledgers: Path, made_once: MadeOnce) -> str:
    """The demo in small, read in a zone that is not UTC; it ends at noon, so its last day is unfinished."""

    def fill(url: str) -> None:
        demo.make(url, DEMO_END, users=120, days=40, seed=7, reporting_zone=DEMO_ZONE.key)

    return f"sqlite:///{shutil.copy(made_once('demo-of-pages', fill), ledgers / 'demo.db')}"


@pytest.fixture(scope="session")
def hostile_ledger(ledgers: Path, made_once: MadeOnce) -> str:
    """A ledger in which every text that somebody chooses is an attack on whoever shows it."""

    def fill(url: str) -> None:
        clock = StoppedClock(HOSTILE_START)
        with CreditCore.open(url, clock=clock) as core:
            _hostile(core, clock)

    return f"sqlite:///{shutil.copy(made_once('hostile', fill), ledgers / 'hostile.db')}"


@pytest.fixture(scope="session")
def market_ledger(ledgers: Path, made_once: MadeOnce) -> str:
    """A ledger of subscriptions, packs, guests and welcome credits, all at known prices."""
    return f"sqlite:///{shutil.copy(made_once('market', market), ledgers / 'market.db')}"


@pytest.fixture(params=["empty", "demo", "hostile"])
def any_ledger(request: pytest.FixtureRequest) -> str:
    """Each of the ledgers in turn."""
    url: str = request.getfixturevalue(f"{request.param}_ledger")
    return url


@pytest.fixture(scope="session")
def pages_seen() -> dict[str, AppTest]:
    """Pages that were opened to be looked at, by what was asked for."""
    return {}


@pytest.fixture
def look_at(open_page: OpenPage, pages_seen: dict[str, AppTest]) -> OpenPage:
    """As ``open_page``, for tests that only look: the same page is opened once. Touch nothing on it."""

    def looked(url: str, page: str, query: Mapping[str, Any] | None = None) -> AppTest:
        asked = repr((url, page, query or {}))
        if asked not in pages_seen:
            pages_seen[asked] = open_page(url, page, query)
        return pages_seen[asked]

    return looked


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenPage]:
    """Open a page cold, as a link does: ``open_page(url, "coverage", {"plan": "basic"})`` → the run AppTest."""

    def opened(url: str, page: str, query: Mapping[str, Any] | None = None) -> AppTest:
        monkeypatch.setenv(DATABASE_VARIABLE, url)
        # AppTest has no browser, so it is told where this one stands; the gate itself stays in place.
        monkeypatch.setattr(ContextProxy, "ip_address", "127.0.0.1")
        monkeypatch.setattr(ContextProxy, "headers", StreamlitHeaders([("Host", "localhost:8501")]))
        test = AppTest.from_file(str(APP), default_timeout=TIMEOUT_S)
        test.query_params.update(query or {})
        # The address's hash is what a browser sends first; AppTest.switch_page() would need a run of another page before.
        test._page_hash = calc_hash(ADDRESS[page])
        test.run()
        return test

    shown = st.get_option("client.showErrorDetails")
    st.set_option("client.showErrorDetails", "full")
    yield opened
    st.set_option("client.showErrorDetails", shown)


# How the ledgers are made ------------------------------------------------------------------------------------------


def _hostile(core: CreditCore, clock: StoppedClock) -> None:
    for place, name in enumerate(HOSTILE):
        core.add_user(name, ("free", "basic", "premium")[place % 3], region=name, segment=name, at=clock.now)
        core.library.put(name, HOSTILE[-1 - place], 3 * place + 1, at=clock.now)
    for day in range(HOSTILE_DAYS):
        asked = [(place, number) for place in range(len(HOSTILE)) for number in range(4)]
        clock.now = HOSTILE_START + timedelta(days=day, hours=len(HOSTILE))
        core.deployment.ledger.run(
            lambda unit, day=day, asked=asked: [_attack(unit, core, day, *which) for which in asked]
        )
        if day == HOSTILE_DAYS // 2:
            version = core.propose({"controller.k": 0.01}, author=HOSTILE[0], note=HOSTILE[1])
            core.release_version(version, author=HOSTILE[0], reason=HOSTILE[3])


def _attack(unit: Unit, core: CreditCore, day: int, place: int, number: int) -> None:
    name = HOSTILE[place]
    at = HOSTILE_START + timedelta(days=day, hours=place, minutes=7 * number)
    request = Request(
        user_id=name,
        request_id=f"{name[:100]} {day}.{number}",
        session_id=name,
        genre=HOSTILE[(place + number) % len(HOSTILE)],
        mood=HOSTILE[(place + day) % len(HOSTILE)],
    )
    if not generate.authorize_in(unit, core.deployment, generate.checked(request), at).fresh:
        return
    done = at + timedelta(seconds=9)
    if number == 3 and place % 2:
        ends.release_in(unit, core.deployment, name, request.request_id, name, done)
    else:
        ends.settle_in(unit, core.deployment, name, request.request_id, done, latency_ms=900.0 + place)
