"""``python -m pages.components.warm PORT``: get ready what the first visitors would wait for, beside the server.

A cold Streamlit process knows no page but the frame's own; an address typed before anybody opened the frame is told "Page
not found" first. Asking the script's health check once makes the pages known before anybody comes. Then each page that asks
much is opened once, as a browser opens it: what everybody asks first is kept by the time somebody comes. After that the replay
is compiled, once per machine, in this process: the dashboard's own answers meanwhile, and reads the machine code afterwards.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from urllib.error import URLError
from urllib.request import urlopen

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

#: Pages that ask much, by their addresses, the one that people see first before the others.
PAGES = ("", "burn", "library", "pace", "margins", "health")
_FINISHED = "script_finished"
_GIVE_UP_S = 90.0
_PAUSE_S = 0.25
#: Pages are opened for so long at most: on a ledger that takes longer, whoever comes first asks for themselves.
_LOOKS_S = 60.0
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


def look(port: int, pages: Sequence[str] = PAGES, within_s: float = _LOOKS_S) -> int:
    """Open ``pages`` one after the other, with nothing chosen; how many stood within ``within_s`` seconds."""
    until, stood = time.monotonic() + within_s, 0
    here = f"127.0.0.1:{port}"
    try:
        with connect(
            f"ws://{here}/_stcore/stream", subprotocols=["streamlit"], origin=f"http://{here}", max_size=None
        ) as socket:  # type: ignore[list-item, arg-type]
            for page in pages:
                asked = BackMsg()
                asked.rerun_script.page_name = page
                socket.send(asked.SerializeToString())
                while ForwardMsg.FromString(socket.recv(until - time.monotonic())).WhichOneof("type") != _FINISHED:
                    pass
                stood += 1
    except (OSError, TimeoutError, WebSocketException):
        # Nobody is waiting for this: what is not kept is asked by whoever comes.
        return stood
    return stood


def main(port: int) -> int:
    """Ask the server, open its pages, then compile; 0 when it answered."""
    answered = warm(port)
    if answered:
        look(port)
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
