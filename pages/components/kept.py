"""Things that cost something to make, kept for whoever asks next: bounded in bytes, made once however many ask at once."""

from __future__ import annotations

import dataclasses
import pickle
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from hashlib import blake2b
from io import BytesIO
from types import FunctionType
from typing import Any, TypeVar

import pandas as pd

T = TypeVar("T")

#: What a thread enters while it waits for what another one is making.
WAITING: ContextVar[Callable[[], AbstractContextManager[None]]] = ContextVar("waiting", default=nullcontext)


class Kept:
    """What was made, by key, the longest unused dropped first. Threads share it; what it gives must not be changed."""

    def __init__(self, most_bytes: int) -> None:
        """Keep at most ``most_bytes``."""
        self.most_bytes = most_bytes
        self.bytes = 0
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._making: dict[Hashable, Future[Any]] = {}

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._made)

    def get(self, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """What is kept under ``key``, else what ``make`` gives. Whoever asks while it is being made waits for it.

        Nothing is kept of a ``make`` that raises; those who waited for it get its error.
        """
        with self._lock:
            found = self._made.get(key)
            if found is not None:
                self._made.move_to_end(key)
                return found[0]  # type: ignore[no-any-return]
            waiting = self._making.get(key)
            if waiting is None:
                mine: Future[Any] = Future()
                self._making[key] = mine
        if waiting is not None:
            with WAITING.get()():
                return waiting.result()  # type: ignore[no-any-return]
        try:
            value = make()
            self._keep(key, value, size(value))
            mine.set_result(value)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._making[key]
        return value

    def _keep(self, key: Hashable, value: Any, size: int) -> None:
        if size > self.most_bytes:
            return
        with self._lock:
            self._made[key] = (value, size)
            self.bytes += size
            while self.bytes > self.most_bytes:
                self.bytes -= self._made.popitem(last=False)[1][1]


def own(value: Any) -> Any:
    """``value`` so that whoever got it may change its frames: they share their memory until somebody writes."""
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return value.copy(deep=False)
    if isinstance(value, tuple):
        parts = [own(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [own(part) for part in value]
    if isinstance(value, dict):
        return {name: own(part) for name, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        changed = {name: own(part) for name, part in parts.items() if isinstance(part, _CHANGEABLE)}
        return dataclasses.replace(value, **changed) if changed else value
    return value


_CHANGEABLE = (pd.DataFrame, pd.Series, tuple, list, dict)


#: About what a name takes.
_OBJECT_BYTES = 64


def size_of(value: Any) -> int:
    """About how many bytes an answer takes."""
    if isinstance(value, pd.DataFrame):
        return 1_000 + sum(size_of(value.iloc[:, place]) for place in range(value.shape[1]))
    if isinstance(value, pd.Series):
        # Looking at each object would cost more than what it tells; Arrow knows what its texts take.
        objects = value.dtype.kind == "O" and getattr(value.dtype, "storage", "python") == "python"
        return 500 + int(value.memory_usage()) + (_OBJECT_BYTES * len(value) if objects else 0)
    if isinstance(value, dict):
        return 200 + sum(size_of(part) for part in value.values())
    if isinstance(value, (tuple, list)):
        return 100 + sum(size_of(part) for part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return 100 + sum(size_of(getattr(value, field.name)) for field in dataclasses.fields(value))
    return sys.getsizeof(value)


class _Telling(pickle.Pickler):
    """Writes down arguments; a function without a name of its own is its code, with what it closes over."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, FunctionType):
            return NotImplemented
        module = value.__module__
        if module != "__main__" and getattr(sys.modules.get(module), value.__qualname__, None) is value:
            return NotImplemented
        closed = tuple(cell.cell_contents for cell in value.__closure__ or ())
        code = value.__code__
        return _function, (module, value.__qualname__, code.co_code, repr(code.co_consts), closed)


def _function(*_told: Any) -> None:
    """What a function is written down as; nothing reads it back."""


def fingerprint(told: Any) -> bytes | None:
    """A hash of arguments (16 bytes), the same for equal ones; None where they cannot be written down."""
    out = BytesIO()
    telling = _Telling(out, 5)
    # Without a memo: it would write equal arguments differently where one object stands in two places.
    telling.fast = True
    try:
        telling.dump(told)
    except (pickle.PicklingError, TypeError, AttributeError):
        return None
    return blake2b(out.getvalue(), digest_size=16).digest()
