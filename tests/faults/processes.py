"""Other processes with a core of their own, which tests tell what to do, and kill.

One process imports everything and forks the others, so that each starts in milliseconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class _Forker:
    """The process that forks. It ends with the one that started it: its standard input does."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fork(self, **arguments: Any) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@cache
def _forker() -> _Forker:
    return _Forker()


class Process:
    """A forked process, by its id."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait(10)

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > until:
                raise TimeoutError(f"process {self.pid} is still there after {seconds} s")
            time.sleep(0.002)


class Worker:
    """One process. ``tell`` and ``hear`` apart let several work at once; ``call`` is both."""

    def __init__(self, url: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            told, said = f"{folder}/told", f"{folder}/said"
            os.mkfifo(told)
            os.mkfifo(said)
            self.process = Process(_forker().fork(url=url, told=told, said=said))
            # Each end waits for the other one, in the same order on both sides; close() closes them.
            self._told = Path(told).open("w")  # noqa: SIM115
            self._said = Path(said).open()  # noqa: SIM115

    def tell(self, name: str, **arguments: Any) -> None:
        self._told.write(json.dumps([name, arguments]) + "\n")
        self._told.flush()

    def hear(self) -> Any:
        """The next answer; None once the process has ended."""
        line = self._said.readline()
        # A process killed while it writes leaves half a line, which acknowledges nothing.
        return json.loads(line) if line.endswith("\n") else None

    def call(self, name: str, **arguments: Any) -> Any:
        self.tell(name, **arguments)
        return self.hear()

    def kill(self) -> list[Any]:
        """kill -9, and what it had still said."""
        self.process.kill()
        said = []
        while (answer := self.hear()) is not None:
            said.append(answer)
        return said

    def close(self) -> None:
        """Let it finish, and make sure that it is gone."""
        with suppress(BrokenPipeError):
            self._told.close()
        try:
            self.process.wait(10)
        except TimeoutError:
            self.process.kill()
        self._said.close()


@contextmanager
def workers(url: str, count: int = 1, *, opened: bool = True) -> Iterator[list[Worker]]:
    """``count`` processes on the ledger at ``url``, started, and with it ``opened``."""
    with ExitStack() as stack:
        started = []
        for _ in range(count):
            started.append(Worker(url))
            stack.callback(started[-1].close)
        assert [worker.hear() for worker in started] == ["ready"] * count
        if opened:
            assert [worker.call("open") for worker in started] == ["open"] * count
        yield started


class Child(Process):
    """A process that makes one call: what it said so far is in a file, each line written by one system call."""

    def __init__(self, pid: int, said: Path) -> None:
        super().__init__(pid)
        self._said = said

    def said(self) -> list[Any]:
        """What it acknowledged so far."""
        text = self._said.read_text() if self._said.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def killed(self) -> list[Any]:
        """kill -9, and what it had said."""
        self.kill()
        return self.said()

    def finished(self, seconds: float = 60) -> list[Any]:
        """All it said, once it has ended by itself."""
        self.wait(seconds)
        return self.said()


class Nursery:
    """Children by the dozen, and the files that they write what they say to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()
        self._children: list[Child] = []

    def spawn(self, url: str, name: str, **arguments: Any) -> Child:
        """A process that opens the ledger at ``url``, makes one call of :mod:`tests.faults.worker`, and ends."""
        said = self._folder / f"said-{next(self._numbers)}"
        pid = _forker().fork(url=url, call=name, arguments=arguments, said=str(said))
        self._children.append(Child(pid, said))
        return self._children[-1]

    def close(self) -> None:
        for child in self._children:
            child.kill()
