"""``python -m pages.components.warm PORT``: run the frame once right after the server starts.

A cold Streamlit process knows no page but the frame's own; an address typed before anybody opened the frame is told "Page
not found" first. Asking the script's health check once makes the pages known before anybody comes.
"""

from __future__ import annotations

import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

_GIVE_UP_S = 90.0
_PAUSE_S = 0.25


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


if __name__ == "__main__":
    sys.exit(0 if warm(int(sys.argv[1])) else 1)
