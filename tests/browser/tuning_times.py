"""How long a slider let go takes to show: first the cards of the sample, then the charts.

::

    python -m tests.browser.tuning_times [LEDGER.db]

Moves the gain's slider by one key step at a time, each to a draft that nobody asked for before, and tells the medians. The
clock is the page's own: from the key's release to the moment in which the cards' words differ, and to the last change of
the first repainting of each chart. Processor time beside it: on a busy machine that is what compares.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import CDPSession, Page, expect, sync_playwright

from credit_core.importers import demo
from pages.components.warm import warm
from tests.browser.chromium import chromium_path
from tests.browser.conftest import DESKTOP, SETTLES_WITHIN_MS, Dashboard, _served, idle

STEPS = 30
CARDS = "[class*=st-key-kpi_tuning_preview_]"
CHARTS = ("tuning_s_curve", "tuning_bands", "tuning_burn")
#: Longer than this without a change, and a repainting is over.
STILL_MS = 120
#: Notes when a key was let go, when the cards' words first differed, and every change within each chart.
LISTEN = """([cards, charts]) => {
    const words = () => [...document.querySelectorAll(cards)].map(card => card.innerText).join('\\n');
    const noted = window.__noted = {released: null, cards: null, before: '', charts: {}};
    const begin = () => {
        noted.released = performance.now();
        noted.cards = null;
        noted.before = words();
        for (const chart of charts) noted.charts[chart] = [];
    };
    document.addEventListener('keyup', begin, true);
    new MutationObserver(changes => {
        if (noted.released === null) return;
        const now = performance.now();
        if (noted.cards === null && words() !== noted.before) noted.cards = now;
        for (const change of changes) {
            const node = change.target.nodeType === 1 ? change.target : change.target.parentElement;
            for (const chart of charts) {
                if (node && node.closest('svg') && node.closest('[class*=st-key-' + chart + ']')) {
                    const times = noted.charts[chart];
                    if (times.at(-1) !== now) times.push(now);
                }
            }
        }
    }).observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
}"""


class Times(NamedTuple):
    """Of each step, milliseconds from the key's release, and processor time of server and page."""

    cards_ms: list[float]
    charts_ms: list[float]
    server_ms: list[float]
    browser_ms: list[float]

    def words(self) -> str:
        """The medians, and the least."""
        each = (
            ("cards", self.cards_ms), ("charts", self.charts_ms),
            ("processor time of the server until all accounts are there", self.server_ms),
            ("of the page until the charts", self.browser_ms),
        )  # fmt: skip
        told = (f"{name} {statistics.median(values):.0f} ms (least {min(values):.0f})" for name, values in each)
        return f"{', '.join(told)}; {len(self.cards_ms)} steps, load {os.getloadavg()[0]:.1f}"


def measure(page: Page, dashboard: Dashboard, steps: int) -> Times:
    """Move the slider ``steps`` times on an open dashboard."""
    assert warm(int(dashboard.url.rsplit(":", 1)[1])), "the server did not answer"
    page.goto(f"{dashboard.url}/controller", wait_until="domcontentloaded")
    expect(page.get_by_text(re.compile(r"All [\d\s\u202f\u2009.,]+accounts"))).to_be_visible(timeout=300_000)
    idle(page)
    slider = page.locator(".st-key-tune_controller-k").get_by_role("slider")
    page.evaluate(LISTEN, [CARDS, list(CHARTS)])
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    times = Times([], [], [], [])
    for _ in range(steps):
        server, browser = _spent_ms(dashboard.pid), _browser_ms(session)
        slider.press("ArrowRight")
        page.wait_for_function("() => window.__noted.cards !== null")
        page.wait_for_function("() => Object.values(window.__noted.charts).every(times => times.length)")
        times.browser_ms.append(_browser_ms(session) - browser)
        idle(page)
        noted = page.evaluate("window.__noted")
        times.cards_ms.append(noted["cards"] - noted["released"])
        times.charts_ms.append(max(_first_burst(noted["charts"][name]) for name in CHARTS) - noted["released"])
        times.server_ms.append(_spent_ms(dashboard.pid) - server)
    return times


def _browser_ms(session: CDPSession) -> float:
    """Processor time of the page's main thread so far."""
    told = session.send("Performance.getMetrics")["metrics"]
    return next(float(each["value"]) for each in told if each["name"] == "TaskDuration") * 1_000.0


def _first_burst(changes: list[float]) -> float:
    """The last change before the first pause."""
    assert changes, "a chart was not painted again"
    return next((this for this, following in pairwise(changes) if following - this > STILL_MS), changes[-1])


def _spent_ms(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 10.0


def main(ledger: str | None) -> None:
    """Measure on a copy of ``ledger``, or on the demo in its full size."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "demo.db"
        if ledger is None:
            demo.make(f"sqlite:///{path}", datetime.now(UTC))
        (Path(folder) / "server").mkdir()
        with _served(Path(ledger) if ledger else path, Path(folder) / "server") as dashboard:
            browser: Any = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
            page = browser.new_page(viewport=DESKTOP)
            page.set_default_timeout(3 * SETTLES_WITHIN_MS)
            sys.stdout.write(f"{measure(page, dashboard, STEPS).words()}\n")
            browser.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
