"""Answers of queries, kept until the ledger moves on: a rerun that changes nothing asks nothing again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pages.components import session
from pages.components.kept import own, size_of

T = TypeVar("T")


def ask(query: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """``query(facts, *arguments, **named)``, remembered for as long as nothing new was copied from the ledger.

    The arguments must be values that say what they are when printed: filters, numbers, names, a configuration. Sessions
    that ask the same at the same time wait for one answer; whoever gets it may change it.
    """
    facts = session.facts()
    question = (facts.version, query.__module__, query.__qualname__, repr(arguments), repr(sorted(named.items())))
    return own(session.answers().get(question, lambda: query(facts, *arguments, **named), size_of))  # type: ignore[no-any-return]
