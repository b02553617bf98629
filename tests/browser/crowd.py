"""Many people at one dashboard: sessions over real WebSockets, each of which changes a filter every few seconds.

    python -m tests.browser.crowd --database sqlite:///data/ledger.db --sessions 20 --seconds 60
    python -m tests.browser.crowd --database sqlite:///data/ledger.db --costs

Speaks Streamlit's own protocol, as a browser does, and stops the clock when the server says that the script has finished.
``--costs`` sends one person instead, who opens every page with filters that nobody has asked for, and then again: what a
rerun costs in processor time, which other work on the machine does not lengthen as it does seconds on the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

from pages.components.warm import PAGES, look, warm

#: What a person sets on a page.
PERIODS = ("7d", "28d", "90d")
PLANS = ("free", "basic", "premium")
ANSWERS_WITHIN_S = 120.0


@dataclass
class Watched:
    """What a crowd saw. ``opened_s`` and ``changed_s``: seconds until a page stood; ``rss_bytes``: the server's most memory.

    ``cpu_s``: the server's processor time, of all its threads.
    """

    opened_s: list[float] = field(default_factory=list)
    changed_s: list[float] = field(default_factory=list)
    exceptions: int = 0
    rss_bytes: int = 0
    cpu_s: float = 0.0
    messages: int = 0
    bytes: int = 0

    def told(self) -> dict[str, float | int | None]:
        """The figures as one JSON object."""
        return {
            "opened": len(self.opened_s),
            "changes": len(self.changed_s),
            "median_s": _rounded(statistics.median(self.changed_s)) if self.changed_s else None,
            "p95_s": _rounded(_p95(self.changed_s)) if self.changed_s else None,
            "opened_p95_s": _rounded(_p95(self.opened_s)) if self.opened_s else None,
            "cpu_s_a_rerun": _rounded(self.cpu_s / max(1, len(self.opened_s) + len(self.changed_s))),
            "exceptions": self.exceptions,
            "rss_mb": round(self.rss_bytes / 2**20),
        }


async def watch(url: str, pid: int, sessions: int, seconds: float, pause_s: float, seed: int = 1) -> Watched:
    """Let ``sessions`` people look at ``url`` for so long, each changing one filter every ``pause_s``; ``pid``: the server's."""
    seen = Watched()
    ends = asyncio.Event()
    meter = asyncio.create_task(_measure(pid, seen, ends))
    before = cpu_s(pid)
    try:
        await asyncio.gather(
            *(_person(url, seen, random.Random(seed * 1_000 + number), seconds, pause_s) for number in range(sessions))
        )
    finally:
        ends.set()
        await meter
    seen.cpu_s = cpu_s(pid) - before
    return seen


class Cost(NamedTuple):
    """Mean processor time of a page's rerun in seconds: ``cold``, with filters not asked for before, and ``kept``, the same again."""

    page: str
    cold_cpu_s: float
    kept_cpu_s: float
    elements: int
    kilobytes: int


async def costs(
    url: str, pid: int, pages: Sequence[str] = (*PAGES, "question"), changes: int = 6, seed: int = 1
) -> list[Cost]:
    """What each page's rerun costs the server whose process is ``pid``."""
    found = []
    filters = [{"period": period, "plan": plan} for period in PERIODS for plan in PLANS]
    for page in pages:
        seen, cold, kept = Watched(), [], []
        async with _connected(url) as socket:
            await _run(socket, seen, page, {"period": "28d"})
            for chosen in random.Random(seed).sample(filters, changes):
                for spent in (cold, kept):
                    seen.messages = seen.bytes = 0
                    before = cpu_s(pid)
                    await _run(socket, seen, page, chosen)
                    # What follows the last message, such as cleaning up, is the rerun's too.
                    await asyncio.sleep(0.05)
                    spent.append(cpu_s(pid) - before)
        named = page or "overview"
        found.append(
            Cost(
                named,
                _rounded(statistics.mean(cold)),
                _rounded(statistics.mean(kept)),
                seen.messages,
                seen.bytes // 1024,
            )
        )
    return found


async def _person(url: str, seen: Watched, chance: random.Random, seconds: float, pause_s: float) -> None:
    async with _connected(url) as socket:
        page, chosen = chance.choice(PAGES), {"period": "28d"}
        seen.opened_s.append(await _run(socket, seen, page, chosen))
        # People do not come in step.
        await asyncio.sleep(chance.uniform(0.0, pause_s))
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            started = time.monotonic()
            if chance.random() < 0.5:
                chosen["period"] = chance.choice([period for period in PERIODS if period != chosen["period"]])
            else:
                chosen["plan"] = chance.choice([plan for plan in PLANS if plan != chosen.get("plan")])
            seen.changed_s.append(await _run(socket, seen, page, chosen))
            await asyncio.sleep(max(0.0, pause_s - (time.monotonic() - started)))


def _connected(url: str) -> connect:
    address = f"ws://{urlsplit(url).netloc}/_stcore/stream"
    return connect(address, subprotocols=["streamlit"], origin=url, max_size=None)  # type: ignore[list-item, arg-type]


async def _run(socket: ClientConnection, seen: Watched, page: str, chosen: dict[str, str]) -> float:
    """Seconds from asking until the script has finished."""
    asked = BackMsg()
    asked.rerun_script.page_name = page
    asked.rerun_script.query_string = "&".join(f"{name}={value}" for name, value in chosen.items())
    started = time.perf_counter()
    await socket.send(asked.SerializeToString())
    while True:
        answer = ForwardMsg()
        received = await asyncio.wait_for(socket.recv(), ANSWERS_WITHIN_S)
        answer.ParseFromString(received if isinstance(received, bytes) else received.encode())
        seen.messages += 1
        seen.bytes += len(received)
        if answer.WhichOneof("type") == "delta" and answer.delta.new_element.WhichOneof("type") == "exception":
            seen.exceptions += 1
        if answer.WhichOneof("type") == "script_finished":
            return time.perf_counter() - started


async def _measure(pid: int, seen: Watched, ends: asyncio.Event) -> None:
    server = psutil.Process(pid)
    while not ends.is_set():
        seen.rss_bytes = max(seen.rss_bytes, server.memory_info().rss)
        try:
            await asyncio.wait_for(ends.wait(), 0.25)
        except TimeoutError:
            continue


def cpu_s(pid: int) -> float:
    """Processor time of all threads of a process so far, in seconds."""
    spent = psutil.Process(pid).cpu_times()
    return float(spent.user + spent.system)


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


def _rounded(seconds: float) -> float:
    return round(seconds, 3)


def main() -> None:
    """Start a dashboard on a ledger, send the crowd, print what it saw."""
    from tests.browser.conftest import served

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", required=True, metavar="URL")
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=5.0, metavar="SECONDS", help="between two changes of one person")
    parser.add_argument("--costs", action="store_true", help="processor time of each page's rerun, one person alone")
    options = parser.parse_args()
    with TemporaryDirectory() as folder, served(options.database, Path(folder)) as running:
        # What `make run` does beside the server: the first visitor of a process would wait for the copy of the ledger.
        port = urlsplit(running.url).port
        if port is None or not warm(port) or look(port) < len(PAGES):
            raise RuntimeError(f"The pages did not open:\n{running.log.read_text(errors='replace')}")
        if options.costs:
            for cost in asyncio.run(costs(running.url, running.pid)):
                sys.stdout.write(json.dumps(cost._asdict()) + "\n")
            return
        seen = asyncio.run(watch(running.url, running.pid, options.sessions, options.seconds, options.pause))
    sys.stdout.write(json.dumps(seen.told()) + "\n")


if __name__ == "__main__":
    main()
