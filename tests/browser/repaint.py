"""From a click on a filter to the repainted charts, in a real browser.

    python -m tests.browser.repaint --database sqlite:///data/ledger.db --changes 20

Opens each page in turn, chooses another period, and looks at the charts themselves: the clock starts with the click on the choice
and stops with the last change inside the charts on screen (``seen_ms``), and inside any chart (``last_ms``), before the page stands
still. On a machine that does other work too, look at the
processor time instead: the server's, and that of the browser's thread that draws.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from playwright.sync_api import CDPSession, Page, sync_playwright

from pages.components.warm import PAGES
from tests.browser.chromium import chromium_path
from tests.browser.conftest import DESKTOP, Dashboard, idle, served, visit
from tests.browser.crowd import cpu_s

PERIODS = ("Today", "7 days", "28 days", "90 days")
#: Looks at what is drawn: when somebody chose, when the first chart changed after it, and when each one last did. What is taken
#: off the page changes too as it goes, and is not looked at.
_WATCH = """() => {
    const seen = window.__repaint = {chosen: null, first: null, drawn: new Map()};
    document.addEventListener("click", event => {
        if (event.target.closest("[role=option]")) Object.assign(seen, {chosen: event.timeStamp, first: null, drawn: new Map()});
    }, true);
    const plots = ({target, addedNodes}) => {
        const inside = target instanceof Element ? target.closest(".js-plotly-plot") : null;
        if (inside !== null) return [inside];
        return [...addedNodes].filter(node => node instanceof Element).flatMap(node => [...node.querySelectorAll(".js-plotly-plot")]);
    };
    new MutationObserver(changes => {
        if (seen.chosen === null) return;
        const now = performance.now();
        for (const plot of new Set(changes.flatMap(plots))) {
            if (!plot.isConnected) continue;
            seen.first ??= now;
            seen.drawn.set(plot, now);
        }
    }).observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true});
}"""
#: Milliseconds from the choice to the first change in a chart, to the last in those that are on screen, and to the last in any.
_TOLD = """() => {
    const {chosen, first, drawn} = window.__repaint;
    const plots = [...drawn.keys()].filter(plot => plot.isConnected);
    const seen = plots.filter(plot => {
        const {top, bottom} = plot.getBoundingClientRect();
        return top < innerHeight && bottom > 0;
    });
    const last = some => some.length ? Math.max(...some.map(plot => drawn.get(plot))) - chosen : null;
    return [first === null ? null : first - chosen, last(seen), last(plots)];
}"""


class Repaint(NamedTuple):
    """One change: the page, the period chosen, milliseconds until charts changed, and what it cost.

    ``first_ms``: until the first change in a chart; ``seen_ms``: until the last in the charts on screen, None where no chart on
    screen changed; ``last_ms``: until the last in any.
    """

    page: str
    period: str
    first_ms: float
    seen_ms: float | None
    last_ms: float
    server_cpu_ms: float
    browser_cpu_ms: float


def repaints(
    page: Page, dashboard: Dashboard, changes: int, seed: int = 1, pages: Sequence[str] = PAGES
) -> list[Repaint]:
    """Choose another period ``changes`` times, on ``pages`` in turn; a change that leaves all charts as they are is not told."""
    chance, found, url = random.Random(seed), [], dashboard.url
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
    rounds = [pages[number % len(pages)] for number in range(changes)]
    for address in sorted(rounds, key=pages.index):
        if not page.url.split("?")[0].rstrip("/").endswith(f"{url}/{address}".rstrip("/")):
            visit(page, f"{url}/{address}")
            page.evaluate(_WATCH)
        shown = page.get_by_role("combobox", name="Period", exact=True)
        period = chance.choice([name for name in PERIODS if name != shown.input_value()])
        shown.click()
        server_s, browser_s = cpu_s(dashboard.pid), _drawing_s(devtools)
        page.get_by_role("option", name=period, exact=True).click()
        idle(page)
        first, seen, last = page.evaluate(_TOLD)
        if last is not None:
            costs = 1_000 * (cpu_s(dashboard.pid) - server_s), 1_000 * (_drawing_s(devtools) - browser_s)
            rounded = (None if value is None else round(value, 1) for value in (first, seen, last, *costs))
            found.append(Repaint(address or "overview", period, *rounded))
    return found


def _drawing_s(devtools: CDPSession) -> float:
    """Processor time of the page's main thread so far, in seconds."""
    metrics = devtools.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


def told(found: Sequence[Repaint]) -> dict[str, float | int | None]:
    """The figures as one JSON object."""
    lasts = sorted(one.last_ms for one in found)
    seen = [one.seen_ms for one in found if one.seen_ms is not None]
    return {
        "changes": len(found),
        "first_median_ms": statistics.median(one.first_ms for one in found),
        "seen_median_ms": statistics.median(seen) if seen else None,
        "last_median_ms": statistics.median(lasts),
        "last_p95_ms": lasts[min(len(lasts) - 1, int(0.95 * len(lasts)))],
        "server_cpu_median_ms": statistics.median(one.server_cpu_ms for one in found),
        "browser_cpu_median_ms": statistics.median(one.browser_cpu_ms for one in found),
    }


def main() -> None:
    """Start a dashboard on a ledger, change periods, print each repaint and what they come to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", required=True, metavar="URL")
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--again", action="store_true", help="repeat the same changes: what is kept need not be asked")
    options = parser.parse_args()
    with (
        TemporaryDirectory() as folder,
        served(options.database, Path(folder)) as running,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"]) as browser,
    ):
        for _ in range(2 if options.again else 1):
            page = browser.new_page(viewport=DESKTOP)
            found = repaints(page, running, options.changes)
            page.close()
            for one in found:
                sys.stdout.write(json.dumps(one._asdict()) + "\n")
            sys.stdout.write(json.dumps(told(found)) + "\n")


if __name__ == "__main__":
    main()
