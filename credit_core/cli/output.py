"""What the command line prints: words for people, JSON for machines, progress on the error stream."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from credit_core.errors import CreditError, InvalidConfig

#: Where the error stream is no terminal, progress is told this often.
_EVERY_S = 5.0


class Output:
    """One command's output."""

    def __init__(self, *, machine: bool) -> None:
        """``machine``: only one JSON document on standard output."""
        self._machine = machine
        self._began = self._told = time.monotonic()
        self._line = ""

    def result(self, document: Mapping[str, Any] | Sequence[Any], words: str) -> None:
        """The command's result: ``document`` for machines, ``words`` for people."""
        self._end_line()
        print(json.dumps(document, indent=2, default=str) if self._machine else words)

    def say(self, words: str) -> None:
        """A remark beside the result."""
        self._end_line()
        print(words, file=sys.stderr)

    def error(self, error: CreditError) -> None:
        """What went wrong and what to do next; several faults one to a line."""
        faults = error.faults if isinstance(error, InvalidConfig) else (str(error),)
        self._end_line()
        for fault in faults:
            print(f"error: {fault}", file=sys.stderr)

    def progress(self, share: float, words: str) -> None:
        """How far the work is, and how long it will take if it goes on as it did."""
        text, now = f"{min(max(share, 0.0), 1.0):4.0%}  {words}", time.monotonic()
        if 0.05 <= share < 1.0 and (left_s := (now - self._began) * (1.0 - share) / share) >= 2.0:
            text += f", about {left_s:,.0f} s left"
        if sys.stderr.isatty():
            if now - self._told >= 0.1 or share >= 1.0:
                print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)
                self._line, self._told = text, now
        elif now - self._told >= _EVERY_S:
            print(text, file=sys.stderr, flush=True)
            self._told = now

    def _end_line(self) -> None:
        if self._line:
            print(file=sys.stderr)
            self._line = ""


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Left-aligned columns."""
    texts = [[str(value) for value in row] for row in (header, *rows)]
    widths = [max(len(row[place]) for row in texts) for place in range(len(header))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in texts
    )
