"""Several calls at once, and what each gave."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
A = TypeVar("A")


def together(act: Callable[[A], T], each: Iterable[A]) -> list[T]:
    """Run ``act`` on all of ``each`` at once, in threads; their results in order. The first error is raised."""
    arguments = list(each)
    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(act, arguments))


def outcomes(act: Callable[[A], T], each: Iterable[A], *caught: type[Exception]) -> list[T | Exception]:
    """As :func:`together`; errors of the types ``caught`` are results."""

    def guarded(argument: A) -> T | Exception:
        try:
            return act(argument)
        except caught as error:
            return error

    return together(guarded, each)
