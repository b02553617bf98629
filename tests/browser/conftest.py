"""A dashboard to look at in a real browser: a small demo ledger, the server on it, and pages that were given time to settle."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from credit_core.importers import demo
from credit_core.lab import replay
from credit_core.settings import DATABASE_VARIABLE
from tests.browser.chromium import chromium_path
from tests.browser.crowd import watch

ROOT = Path(__file__).resolve().parents[2]
STARTS_WITHIN_S = 60.0
SETTLES_WITHIN_MS = 40_000
POLL_S = 0.05
#: A script that stood still for this long has nothing left to run: fragments and reruns follow each other sooner.
STILL_MS = 350
STANDS = "[data-testid=stApp][data-test-script-state=notRunning]"
DESKTOP = {"width": 1440, "height": 1000}

expect.set_options(timeout=20_000)


class Dashboard(NamedTuple):
    """A running server: where it answers, which ledger it reads, where its log is, and its process."""

    url: str
    ledger: str
    log: Path
    pid: int


#: ``serve(copy_of_the_ledger)`` runs a fresh server until its block ends.
Serve = Callable[..., "contextmanager[Dashboard]"]
#: ``opened(width=…, height=…, color_scheme=…)``: a page in a browser context of its own.
OpenBrowserPage = Callable[..., Page]


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo in small, up to this moment; it is only ever copied."""
    path = tmp_path_factory.mktemp("browser") / "demo.db"
    demo.make(f"sqlite:///{path}", datetime.now(UTC), users=90, days=28, seed=7)
    return path


@pytest.fixture(scope="session")
def serve(small_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], object]:
    """Run a fresh server on a copy of the demo, for as long as a block lasts."""

    def served() -> object:
        return _served(small_demo, tmp_path_factory.mktemp("server"))

    return served


@pytest.fixture(scope="session")
def dashboard(serve: Callable[[], contextmanager]) -> Iterator[Dashboard]:
    """The server that tests share. Somebody has looked at it: the first visitor of a process waits for the copy of the ledger."""
    with serve() as running:
        asyncio.run(watch(running.url, running.pid, sessions=1, seconds=0.0, pause_s=0.0))
        yield running


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_browser_page(chromium: Browser) -> Iterator[OpenBrowserPage]:
    """Pages in contexts of their own, closed with the test."""
    contexts: list[BrowserContext] = []

    def opened(**how: object) -> Page:
        # What moves is drawn sixty times a second by the processor, and a click may miss it.
        contexts.append(chromium.new_context(**({"viewport": DESKTOP, "reduced_motion": "reduce"} | how)))
        contexts[-1].set_default_timeout(SETTLES_WITHIN_MS)
        return contexts[-1].new_page()

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_browser_page: OpenBrowserPage) -> Page:
    """A page as wide as a desk's screen."""
    return open_browser_page()


def idle(page: Page) -> None:
    """Wait until the script stands still, and goes on standing still."""
    page.wait_for_selector(STANDS, timeout=SETTLES_WITHIN_MS)
    page.wait_for_function(
        """([stands, still]) => {
            const quiet = document.querySelector(stands) !== null
                && document.querySelector('[data-testid=stSkeleton], [data-testid=stSpinner]') === null;
            if (!quiet) { window.__quietSince = undefined; return false; }
            window.__quietSince ??= performance.now();
            return performance.now() - window.__quietSince > still;
        }""",
        arg=[STANDS, STILL_MS],
        timeout=SETTLES_WITHIN_MS,
    )
    page.evaluate("window.__quietSince = undefined")


def visit(page: Page, url: str) -> None:
    """Open an address and let it settle."""
    page.goto(url, wait_until="domcontentloaded")
    idle(page)


def sound(page: Page) -> None:
    """Nothing on the page is a program's words instead of a person's."""
    assert page.get_by_test_id("stException").count() == 0
    words = page.locator("body").inner_text()
    assert not re.search(r"Traceback|File \".*\", line \d+|Error: ", words), words


@contextmanager
def _served(demo_ledger: Path, folder: Path) -> Iterator[Dashboard]:
    ledger = folder / "ledger.db"
    shutil.copy(demo_ledger, ledger)
    # What `make run` compiles beside the server is there before it starts: no test waits for a compiler.
    replay.warm_up()
    with served(f"sqlite:///{ledger}", folder) as running:
        yield running


@contextmanager
def served(url: str, folder: Path) -> Iterator[Dashboard]:
    """A fresh server on the ledger at ``url``; its log goes to ``folder``."""
    log, port = folder / "server.log", free_port()
    command = [
        sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port), "--server.headless", "true",
    ]  # fmt: skip
    environment = os.environ | {DATABASE_VARIABLE: url, "TMPDIR": str(folder)}
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            base = f"http://127.0.0.1:{port}"
            _await_health(base, process, log)
            yield Dashboard(base, url, log, process.pid)
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_health(base: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urlopen(f"{base}/_stcore/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(POLL_S)
    raise RuntimeError(f"The dashboard did not start:\n{log.read_text(errors='replace')}")
