"""Policy functions as machine code: the functions themselves and all they call, with Numba, from their one source.

:func:`compiled` makes a copy of a function whose globals lead to compiled copies of what it calls, module by module, so
that the interpreted original stays what it is. Without fast-math: both paths give the same bits.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

from credit_core import settings

F = TypeVar("F", bound=Callable[..., Any])
_PACKAGE = "credit_core"
#: Files of the laboratory that hold what is compiled.
_SOURCES = ("compiling.py", "tables.py", "holding.py", "kernels.py", "pacing.py")
_LOCK = threading.RLock()


def compiled(function: F) -> F:
    """``function`` as machine code, compiled on its first call or read from the cache of an earlier process."""
    with _LOCK:
        _prepare()
        made: F = _compile(function)
        return made


@lru_cache(maxsize=1)
def _prepare() -> Path | None:
    """Keep machine code in a folder of these very sources: Numba itself only notices changes of a function's own file.

    None where nothing can be kept.
    """
    import numba

    folder = settings.cache_folder() / f"lab-{digest_of(_SOURCES)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return folder


def digest_of(names: Iterable[str]) -> str:
    """Changes with the policy's sources and with these files of the laboratory."""
    digest, root = hashlib.sha256(), Path(__file__).resolve().parent.parent
    for path in sorted([root / "units.py", *(root / "policy").glob("*.py"), *(root / "lab" / name for name in names)]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def alone() -> Iterator[None]:
    """Compile in one process of this machine at a time: the others wait here, and then read what it has compiled."""
    with ExitStack() as held:
        folder = _prepare()
        # Where there is no such lock two processes may compile the same: that is slower, and nothing worse.
        with suppress(ImportError, OSError):
            import fcntl

            if folder is not None:
                lock = held.enter_context((folder / "compiling.lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@cache
def _compile(function: Callable[..., Any]) -> Any:
    from numba import njit

    assert isinstance(function, FunctionType), f"{function!r} is no function of Python"
    named = _names(function.__code__)
    bound = {name: _bound(value, named) for name, value in function.__globals__.items() if name in named}
    bound["__builtins__"] = __builtins__
    bound["__name__"] = function.__module__
    copy = FunctionType(function.__code__, bound, function.__name__, function.__defaults__, function.__closure__)
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    # Division by zero gives inf or nan: the laboratory refuses accounts without a quota before they come here.
    return njit(cache=True, nogil=True, fastmath=False, error_model="numpy")(copy)


def _bound(value: Any, named: frozenset[str]) -> Any:
    """What a compiled function sees in place of a global."""
    if isinstance(value, FunctionType) and value.__module__.startswith(_PACKAGE):
        return _compile(value)
    if isinstance(value, ModuleType) and value.__name__.startswith(_PACKAGE):
        twin = ModuleType(value.__name__)
        for name in named & vars(value).keys():
            setattr(twin, name, _bound(getattr(value, name), frozenset()))
        return twin
    return value


def _names(code: CodeType) -> frozenset[str]:
    inner = [_names(part) for part in code.co_consts if isinstance(part, CodeType)]
    return frozenset(code.co_names).union(*inner)
