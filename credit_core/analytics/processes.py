"""Processes that run a module of this package, and answer each line of JSON with another, through pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO


def begun(module: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that runs a module."""
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def ask(process: subprocess.Popen[str], question: Any) -> None:
    """Give it something to answer. Raises :class:`OSError` where it has ended."""
    assert process.stdin is not None, "opened with a pipe"
    print(json.dumps(question), file=process.stdin, flush=True)


def answered(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    """Its next answer, waited for, which has ``error`` where something went wrong; None where it ended before."""
    assert process.stdout is not None, "opened with a pipe"
    answer = process.stdout.readline()
    document: dict[str, Any] | None = json.loads(answer) if answer else None
    return document


def serve(asked: TextIO, answers: TextIO, answer: Callable[[Any], dict[str, Any]]) -> None:
    """In such a process: answer each line, until there are no more."""
    questions: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        for line in asked:
            questions.put(line)
        # Whoever asked is gone, or wants no more: nobody would name what is being written.
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        question = json.loads(questions.get())
        try:
            document = answer(question)
        except Exception as error:
            document = {"error": str(error)}
        print(json.dumps(document), file=answers, flush=True)
