"""Statements as SQL text: compiled once for each shape, whatever the values in it.

Pages ask the same questions with other periods and names. SQLAlchemy tells a statement's shape from its values, and puts other
values into what it compiled before; writing the text anew would take three times as long.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from sqlalchemy import BindParameter, SelectBase
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql.compiler import Compiled, SQLCompiler

from credit_core.analytics.dialect import DUCKDB

_MOST_SHAPES = 512


class Compiler:
    """Compiles statements for one dialect. Threads share it."""

    def __init__(self, dialect: Dialect, most: int = _MOST_SHAPES) -> None:
        """Nothing is compiled yet; the ``most`` shapes asked last are kept."""
        self._dialect, self._most = dialect, most
        self._lock = threading.Lock()
        self._known: OrderedDict[Any, tuple[Compiled, list[str]]] = OrderedDict()

    def __len__(self) -> int:
        """How many shapes are kept."""
        return len(self._known)

    def __call__(self, statement: SelectBase) -> tuple[str, list[Any]]:
        """The statement's SQL, and its parameters in order."""
        shape = statement._generate_cache_key()
        if shape is None:
            return _told(statement.compile(dialect=self._dialect), {})
        with self._lock:
            known = self._known.get(shape.key)
            if known is not None:
                self._known.move_to_end(shape.key)
        if known is None:
            known = statement.compile(dialect=self._dialect), [one.key for one in shape.bindparams]
            with self._lock:
                self._known[shape.key] = known
                if len(self._known) > self._most:
                    self._known.popitem(last=False)
        found, names = known
        return _told(found, dict(zip(names, map(_value, shape.bindparams), strict=True)))


def _value(parameter: BindParameter[Any]) -> Any:
    return parameter.effective_value


def _told(found: Compiled, values: dict[str, Any]) -> tuple[str, list[Any]]:
    assert isinstance(found, SQLCompiler)
    written = found.construct_expanded_state(values)
    return written.statement, [written.parameters[name] for name in written.positiontup or ()]


compiled = Compiler(DUCKDB)
