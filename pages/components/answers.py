"""Answers of queries, kept until the ledger moves on: a rerun that changes nothing asks nothing again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from credit_core.analytics.sync import Facts
from credit_core.settings import database_url
from pages.components import session

#: Different questions kept at once, over all sessions of the process.
MOST_ANSWERS = 512

T = TypeVar("T")


def ask(query: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """``query(facts, *arguments, **named)``, remembered for as long as nothing new was copied from the ledger.

    The arguments must be values that say what they are when printed: filters, numbers, names, a configuration.
    """
    facts = session.facts()
    question = f"{query.__module__}.{query.__qualname__}{arguments!r}{sorted(named.items())!r}"
    return _answer(query, facts, arguments, named, question, facts.version, database_url())


@st.cache_data(show_spinner=False, max_entries=MOST_ANSWERS)
def _answer(
    _query: Callable[..., T],
    _facts: Facts,
    _arguments: tuple[Any, ...],
    _named: dict[str, Any],
    question: str,
    version: int,
    url: str,
) -> T:
    return _query(_facts, *_arguments, **_named)
