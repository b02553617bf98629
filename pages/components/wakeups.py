"""The server's loop is woken once for all messages that wait for it, not once for each.

A page sends about a hundred messages, each handed from its thread to the loop. asyncio writes a byte to the loop's own socket
every time: a system call that gives the interpreter lock away, and a turn of the loop for a single message. One byte is enough
while the loop has not read it.
"""

from __future__ import annotations

import asyncio
from asyncio.selector_events import BaseSelectorEventLoop

from streamlit.runtime import Runtime


def coalesce(loop: asyncio.AbstractEventLoop) -> bool:
    """Have ``loop`` woken once for what comes together; False where it is none of asyncio's own (uvloop does so itself)."""
    if not isinstance(loop, BaseSelectorEventLoop):
        return False
    write, read = loop._write_to_self, loop._process_self_data  # type: ignore[attr-defined]
    on_its_way = False

    def write_once() -> None:
        nonlocal on_its_way
        if not on_its_way:
            # Before the byte: the loop forgets it after reading, so it never waits for one that was not sent.
            on_its_way = True
            write()

    def read_and_forget(data: bytes) -> None:
        nonlocal on_its_way
        # Whoever comes before this line is in the loop's queue, which it looks through before it sleeps.
        on_its_way = False
        read(data)

    loop._write_to_self, loop._process_self_data = write_once, read_and_forget  # type: ignore[attr-defined]
    return True


def of_server() -> bool:
    """The same for the loop of the server that runs in this process; False where none does."""
    if not Runtime.exists():
        return False
    return coalesce(Runtime.instance()._get_async_objs().eventloop)
