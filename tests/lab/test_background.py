"""Work in the background: told, called off, failed, done."""

from __future__ import annotations

import subprocess
import sys
import threading

from credit_core.errors import Stopped
from credit_core.lab.background import Asked, Job, Progress


def test_it_tells_how_far_it_is_and_what_it_came_to() -> None:
    told, seen = threading.Event(), threading.Event()

    def work(progress: Progress, _stopped: Asked) -> int:
        progress(0.5, "half of it")
        told.set()
        seen.wait(10.0)
        return 42

    job = Job(work, "beginning")
    told.wait(10.0)
    assert (job.share, job.words, job.finished) == (0.5, "half of it", False)
    assert job.left_s is not None
    seen.set()
    assert job.wait(10.0)
    assert (job.result, job.error, job.called_off) == (42, None, False)


def test_it_ends_without_a_result_when_it_is_called_off() -> None:
    begun = threading.Event()

    def work(_progress: Progress, stopped: Asked) -> int:
        begun.set()
        while not stopped():
            threading.Event().wait(0.001)
        raise Stopped("called off")

    job = Job(work)
    begun.wait(10.0)
    assert job.left_s is None, "nothing is done yet, so nobody knows"
    job.stop()
    assert job.wait(10.0)
    assert (job.result, job.error, job.called_off) == (None, None, True)


def test_a_failure_is_kept() -> None:
    def work(_progress: Progress, _stopped: Asked) -> int:
        raise ZeroDivisionError

    job = Job(work)
    assert job.wait(10.0)
    assert isinstance(job.error, ZeroDivisionError)


def test_a_process_that_ends_calls_its_work_off_and_ends_well() -> None:
    """A thread that is cut off within DuckDB would abort the process: exit code 134."""
    program = """
import duckdb
from threading import Event
from credit_core.lab.background import Job

begun = Event()

def work(progress, stopped):
    while not stopped():
        begun.set()
        duckdb.sql("SELECT sum(i) FROM range(1000000) t(i)").fetchall()

Job(work)
begun.wait()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert (ended.returncode, ended.stderr) == (0, "")
