"""``python -m tests.browser.deciding URL``: another process with its own core, that decides without pause and never restarts.

Prints a line whenever a decision bears another version than the one before it: the version, and when it was answered (µs).
Ends when its input does.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time

from credit_core import CreditCore, Request

USER = "deciding elsewhere"
PAUSE_S = 0.02


def decide(url: str, ended: threading.Event) -> None:
    """Authorize again and again until told to end; nothing is left held."""
    borne = None
    with CreditCore.open(url) as core:
        core.add_user(USER, "premium")
        for number in itertools.count():
            decision = core.authorize(Request(USER, f"elsewhere-{number}", session_id="elsewhere"))
            answered_us = time.time_ns() // 1_000
            if decision.fresh:
                core.release(USER, decision.request_id, reason="only asking")
            if decision.config_version != borne:
                borne = decision.config_version
                sys.stdout.write(f"{borne} {answered_us}\n")
                sys.stdout.flush()
            if ended.wait(PAUSE_S):
                return


if __name__ == "__main__":
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    decide(sys.argv[1], over)
