"""A statement is compiled once for its shape, and says what SQLAlchemy itself would make of it, values and all."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, case, func, literal, select

from credit_core.analytics import relations
from credit_core.analytics.compiling import Compiler
from credit_core.analytics.dialect import DUCKDB

_F = relations.facts.c


def asked(start: int, plans: tuple[str, ...], kinds: tuple[str, ...] = ("settle",)) -> Select[Any]:
    """A question as pages ask it: a value used twice, lists of any length, a subquery."""
    amount = case((_F.kind.in_(kinds), _F.cost_uc), else_=literal(start))
    within = select(_F.plan, func.sum(amount).label("spent"), amount.label("each"))
    found = within.where(_F.occurred_at >= start, _F.plan.in_(plans)).group_by(_F.plan, amount).subquery()
    return select(found.c.plan, found.c.spent / 10).where(found.c.spent > start).limit(5)


def plainly(statement: Select[Any]) -> tuple[str, list[Any]]:
    """Compiled anew, whatever was compiled before."""
    result = statement.compile(dialect=DUCKDB, compile_kwargs={"render_postcompile": True})
    return str(result), [result.params[name] for name in result.positiontup or ()]


def test_one_shape_serves_every_period_and_every_number_of_names() -> None:
    compiled = Compiler(DUCKDB)
    questions = [
        asked(1, ("basic",)), asked(2, ("free", "premium")), asked(3, ()), asked(4, ("a", "b", "c"), ("settle", "partial")),
    ]  # fmt: skip
    assert [compiled(one) for one in questions] == [plainly(one) for one in questions]
    assert len(compiled) == 1
    assert compiled(questions[0]) == plainly(questions[0])


def test_another_shape_is_another_statement() -> None:
    compiled = Compiler(DUCKDB)
    questions = [asked(1, ("basic",)), asked(1, ("basic",)).order_by("plan"), select(_F.plan), select(_F.region)]
    assert [compiled(one) for one in questions] == [plainly(one) for one in questions]
    assert len(compiled) == len(questions)


def test_the_shape_unused_longest_goes_first() -> None:
    compiled = Compiler(DUCKDB, most=2)
    first, second, third = select(_F.plan), select(_F.region), select(_F.model)
    for one in (first, second, first, third):
        assert compiled(one) == plainly(one)
    assert len(compiled) == 2
    assert set(compiled._known) == {one._generate_cache_key().key for one in (first, third)}
