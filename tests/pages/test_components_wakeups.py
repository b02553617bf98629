"""The server's loop is woken once for what comes together, and never sleeps over what waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from pages.components import wakeups

WITHIN_S = 20.0


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of asyncio's own in a thread, with its wake-ups counted in ``loop.bytes_written``."""
    running = asyncio.SelectorEventLoop()
    running.bytes_written = 0  # type: ignore[attr-defined]
    write = running._write_to_self  # type: ignore[attr-defined]

    def counted() -> None:
        running.bytes_written += 1  # type: ignore[attr-defined]
        write()

    running._write_to_self = counted  # type: ignore[attr-defined]
    assert wakeups.coalesce(running)
    thread = threading.Thread(target=running.run_forever)
    thread.start()
    yield running
    running.call_soon_threadsafe(running.stop)
    thread.join(WITHIN_S)
    assert not thread.is_alive()
    running.close()


def test_what_comes_while_the_loop_is_busy_wakes_it_once(loop: asyncio.AbstractEventLoop) -> None:
    for _ in range(3):
        busy, go_on, done = threading.Event(), threading.Event(), threading.Event()

        def occupied(busy: threading.Event = busy, go_on: threading.Event = go_on) -> None:
            busy.set()
            go_on.wait(WITHIN_S)

        heard: list[int] = []
        loop.call_soon_threadsafe(occupied)
        assert busy.wait(WITHIN_S)
        before = loop.bytes_written  # type: ignore[attr-defined]
        for number in range(100):
            loop.call_soon_threadsafe(heard.append, number)
        loop.call_soon_threadsafe(done.set)
        written = loop.bytes_written - before  # type: ignore[attr-defined]
        go_on.set()
        assert done.wait(WITHIN_S)
        assert heard == list(range(100))
        assert written <= 1


def test_nothing_is_slept_over_however_many_threads_call(loop: asyncio.AbstractEventLoop) -> None:
    def call() -> None:
        for _ in range(300):
            heard = threading.Event()
            loop.call_soon_threadsafe(heard.set)
            # Nobody else wakes the loop for this one: a wake-up lost would be waited for in vain.
            assert heard.wait(WITHIN_S)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WITHIN_S)
        assert not thread.is_alive()


def test_without_a_server_there_is_nothing_to_wake() -> None:
    assert not wakeups.of_server()
