"""Answers of queries, kept until the ledger moves on: a rerun that changes nothing asks nothing again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, TypeVar

from credit_core.analytics.sync import Facts
from pages.components import session
from pages.components.kept import own, size_of

T = TypeVar("T")


class Question(NamedTuple):
    """A query and what it is asked beside the facts."""

    query: Callable[..., Any]
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]

    def __call__(self, facts: Facts) -> Any:
        """Its answer."""
        return self.query(facts, *self.arguments, **self.named)

    def key(self, facts: Facts) -> Hashable:
        """What its answer is kept under."""
        told = repr(self.arguments), repr(sorted(self.named.items()))
        return (facts.version, self.query.__module__, self.query.__qualname__, *told)


#: Where a run's questions are noted down, in their order.
NOTING: ContextVar[list[Question] | None] = ContextVar("noting", default=None)


def ask(query: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """``query(facts, *arguments, **named)``, remembered for as long as nothing new was copied from the ledger.

    The arguments must be values that say what they are when printed: filters, numbers, names, a configuration. Sessions
    that ask the same at the same time wait for one answer; whoever gets it may change it.
    """
    facts, question = session.facts(), Question(query, arguments, named)
    if (noted := NOTING.get()) is not None:
        noted.append(question)
    return own(session.answers().get(question.key(facts), partial(question, facts), size_of))  # type: ignore[no-any-return]
