"""``python -m pages.components.warm PORT``: get ready what the first visitors would wait for, beside the server.

A cold Streamlit process knows no page but the frame's own; an address typed before anybody opened the frame is told "Page
not found" first. Asking the script's health check once makes the pages known before anybody comes. After that the replay
is compiled, once per machine, in this process: the dashboard's own answers meanwhile, and reads the machine code afterwards.
"""

from __future__ import annotations

import os
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

_GIVE_UP_S = 90.0
_PAUSE_S = 0.25
#: What compiling leaves the dashboard: most of a shared core.
_NICENESS = 10
#: Reading machine code takes less than this.
_WORTH_SAYING_S = 3.0


def warm(port: int, give_up_s: float = _GIVE_UP_S) -> bool:
    """Ask until the server answers; False where it never did."""
    until = time.monotonic() + give_up_s
    while time.monotonic() < until:
        try:
            with urlopen(f"http://127.0.0.1:{port}/_stcore/script-health-check", timeout=30) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            time.sleep(_PAUSE_S)
    return False


def main(port: int) -> int:
    """Ask the server, then compile; 0 when it answered."""
    answered = warm(port)
    # Imported after the server has answered: it is long, and nobody should wait for a page meanwhile.
    from credit_core.lab import replay

    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    began = time.monotonic()
    replay.warm_up()
    took_s = time.monotonic() - began
    if took_s > _WORTH_SAYING_S:
        sys.stdout.write(f"The replay of the tuning page was compiled for this machine, once, in {took_s:.0f} s.\n")
    return 0 if answered else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
