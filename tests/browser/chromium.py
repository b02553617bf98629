"""Where the browser tests find a Chromium: the machine's own, else Playwright's, else the distribution's package."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL_TIMEOUT_S = 900


@cache
def chromium_path() -> str:
    """The path of a Chromium that starts, installed if need be.

    In this order: the environment variable CHROMIUM, the names above on PATH, Playwright's own, Playwright's after
    ``playwright install chromium``, and as root ``apt-get install chromium``. Raises RuntimeError with what to do.
    """
    told = os.environ.get("CHROMIUM")
    if told:
        if not _starts(told):
            raise RuntimeError(f"CHROMIUM={told} does not start. Point it at a Chromium's executable, or unset it.")
        return told
    # Workers of one test run must not install at the same time.
    with _machine_wide_lock():
        path = _on_path() or _of_playwright() or _installed_by_playwright() or _installed_by_apt()
    if path is None:
        raise RuntimeError(
            "No Chromium for the browser tests. Install one (Debian: apt-get install chromium; anywhere: "
            "python -m playwright install --with-deps chromium), or set CHROMIUM to its executable."
        )
    return path


def _on_path() -> str | None:
    found = (shutil.which(name) for name in NAMES)
    return next((path for path in found if path and _starts(path)), None)


def _of_playwright() -> str | None:
    answer = _run(
        sys.executable,
        "-c",
        "from playwright.sync_api import sync_playwright as p\nwith p() as it: print(it.chromium.executable_path)",
        timeout_s=60,
    )
    path = answer.stdout.strip() if answer else ""
    return path if path and Path(path).exists() and _starts(path) else None


def _installed_by_playwright() -> str | None:
    done = _run(sys.executable, "-m", "playwright", "install", "chromium", timeout_s=INSTALL_TIMEOUT_S)
    return _of_playwright() if done else None


def _installed_by_apt() -> str | None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (("apt-get", "update"), ("apt-get", "install", "-y", "chromium")):
        if _run(*command, timeout_s=INSTALL_TIMEOUT_S, env=quiet) is None:
            return None
    return _on_path()


def _starts(path: str) -> bool:
    # A browser that was copied without its libraries is found but cannot run.
    return _run(path, "--version", timeout_s=30) is not None


def _run(*command: str, timeout_s: float, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout_s, env=env)
    except (OSError, subprocess.SubprocessError):
        return None


@contextmanager
def _machine_wide_lock() -> Iterator[None]:
    with (Path(tempfile.gettempdir()) / f"titrate-chromium-{os.geteuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
