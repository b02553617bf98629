"""Other processes with a core of their own, which tests tell what to do, and kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """One process. ``tell`` and ``hear`` apart let several work at once; ``call`` is both."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker", url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, name: str, **arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, arguments]) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """The next answer; None once the process has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        # A process killed while it writes leaves half a line, which acknowledges nothing.
        return json.loads(line) if line.endswith("\n") else None

    def call(self, name: str, **arguments: Any) -> Any:
        self.tell(name, **arguments)
        return self.hear()

    def kill(self) -> list[Any]:
        """kill -9, and what it had still said."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        said = []
        while (answer := self.hear()) is not None:
            said.append(answer)
        return said

    def close(self) -> None:
        """Let it finish, and make sure that it is gone."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        if self.process.poll() is None:
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()


@contextmanager
def workers(url: str, count: int = 1, *, opened: bool = True) -> Iterator[list[Worker]]:
    """``count`` processes on the ledger at ``url``, started, and with it ``opened``."""
    with ExitStack() as stack:
        started = [Worker(url) for _ in range(count)]
        for worker in started:
            stack.callback(worker.close)
        assert [worker.hear() for worker in started] == ["ready"] * count
        if opened:
            assert [worker.call("open") for worker in started] == ["open"] * count
        yield started
