"""What ClickHouse says in other words than PostgreSQL and DuckDB: the one place where a metric's SQL differs.

Metrics and pages are written once, in SQLAlchemy Core, with the functions of PostgreSQL and DuckDB; this dialect renders
those. What SETTINGS mend (NULL of nothing, outer joins, casts) needs no rendering.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from clickhouse_connect.cc_sqlalchemy.dialect import ClickHouseDialect
from clickhouse_connect.cc_sqlalchemy.sql.compiler import ChStatementCompiler
from sqlalchemy import BigInteger, Boolean, Integer, SelectBase

#: Statements mean on ClickHouse what they mean on PostgreSQL.
SETTINGS: dict[str, Any] = {
    # Sums, extremes and quantiles of nothing are NULL, not 0.
    "aggregate_functions_null_for_empty": 1,
    # What an outer join does not find is NULL, not 0 or ''.
    "join_use_nulls": 1,
    # CAST(NULL AS BIGINT) is NULL, not an error.
    "cast_keep_nullable": 1,
    # least and greatest skip NULL.
    "least_greatest_legacy_null_behavior": 0,
    "count_distinct_implementation": "uniqExact",
    "transform_null_in": 0,
    # A row that was sent twice counts once (tables.py).
    "final": 1,
    "do_not_merge_across_partitions_select_final": 1,
}


class _Compiler(ChStatementCompiler):
    """Renders what differs; everything else is the driver's own."""

    def bindparam_string(self, name: str, *args: Any, **kw: Any) -> str:
        """Whole numbers are bound as 64 bits, whatever size SQLAlchemy guessed from the other side."""
        if isinstance(kw.get("bindparam_type"), Integer):
            kw["bindparam_type"] = BigInteger()
        rendered: str = super().bindparam_string(name, *args, **kw)  # type: ignore[no-untyped-call]
        return rendered

    def visit_count_func(self, function: Any, counted: bool = False, **kw: Any) -> str:
        """A signed number, which can be subtracted from and stand beside others; ``counted``: somebody else makes it one."""
        count = f"count{self.function_argspec(function, **kw)}"
        return count if counted else f"toInt64({count})"

    def visit_funcfilter(self, funcfilter: Any, **kw: Any) -> str:
        """The filter belongs to the aggregate, inside of what makes a count signed."""
        counts = funcfilter.func.name == "count"
        told = {"counted": True} if counts else {}
        filtered: str = super().visit_funcfilter(funcfilter, **told, **kw)  # type: ignore[no-untyped-call]
        return f"toInt64({filtered})" if counts else filtered

    def visit_over(self, over: Any, **kw: Any) -> str:
        """As :meth:`visit_funcfilter`, of what a count looks at."""
        counts = getattr(over.element, "name", None) == "count"
        told = {"counted": True} if counts else {}
        seen: str = super().visit_over(over, **told, **kw)  # type: ignore[no-untyped-call]
        return f"toInt64({seen})" if counts else seen

    def visit_withingroup(self, withingroup: Any, **kw: Any) -> str:
        """``percentile_cont(p) WITHIN GROUP (ORDER BY x)``: exact, between the two nearest ranks."""
        share = self.process(withingroup.element.clauses, **kw)
        return f"quantileExactInclusive({share})({self.process(withingroup.order_by, **kw)})"

    def visit_quantile_cont_func(self, function: Any, **kw: Any) -> str:
        """DuckDB's ``quantile_cont(x, p)``, and of several p at once."""
        column, shares = function.clauses
        # Parameters of an aggregate are constants: they cannot be bound.
        levels = self.process(shares, **kw | {"literal_binds": True})
        several = levels.startswith("[")
        return f"quantile{'s' if several else ''}ExactInclusive({levels.strip('[]')})({self.process(column, **kw)})"

    def visit_make_timestamptz_func(self, function: Any, **kw: Any) -> str:
        """An instant from microseconds since the epoch."""
        return f"fromUnixTimestamp64Micro({self.process(function.clauses, **kw)}, 'UTC')"

    def visit_timezone_func(self, function: Any, **kw: Any) -> str:
        """Local time in a zone, which a cast to a date then takes the day of."""
        zone, instant = function.clauses
        return f"toTimeZone({self.process(instant, **kw)}, {self.process(zone, **kw)})"

    def visit_lag_func(self, function: Any, **kw: Any) -> str:
        """Before the first row comes NULL, also of columns that never are."""
        return f"lag(toNullable({self.process(function.clauses, **kw)}))"

    def visit_lead_func(self, function: Any, **kw: Any) -> str:
        """After the last row comes NULL, also of columns that never are."""
        return f"lead(toNullable({self.process(function.clauses, **kw)}))"

    def visit_md5_func(self, function: Any, **kw: Any) -> str:
        """As text, small letters."""
        return f"lower(hex(MD5{self.function_argspec(function, **kw)}))"

    def visit_arg_min_func(self, function: Any, **kw: Any) -> str:
        """What stands beside the least of another column."""
        return f"argMin{self.function_argspec(function, **kw)}"

    def visit_arg_max_func(self, function: Any, **kw: Any) -> str:
        """What stands beside the greatest of another column."""
        return f"argMax{self.function_argspec(function, **kw)}"

    def visit_row_func(self, function: Any, **kw: Any) -> str:
        """Several columns as one, told apart by the first that differs."""
        return f"tuple{self.function_argspec(function, **kw)}"

    def visit_list_func(self, function: Any, **kw: Any) -> str:
        """Values as an array."""
        return f"groupArray({self.process(function.clauses, **kw)})"

    def visit_floordiv_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """``/`` is a fraction here, of whole numbers too."""
        return f"intDiv({self.process(binary.left, **kw)}, {self.process(binary.right, **kw)})"

    def visit_truediv_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """No cast is needed to keep the fraction."""
        return f"{self.process(binary.left, **kw)} / {self.process(binary.right, **kw)}"


class _Dialect(ClickHouseDialect):
    statement_compiler = _Compiler


_DIALECT = _Dialect(server_side_params=True)


class Query(NamedTuple):
    """A statement as it is sent. ``names`` of the columns in their order; those in ``flags`` are true or false."""

    sql: str
    parameters: dict[str, Any]
    names: tuple[str, ...]
    flags: frozenset[str]


def written_out(statement: SelectBase) -> str:
    """The statement with its values in it and the settings that it needs, to be run as it stands."""
    settings = ", ".join(f"{name} = {value!r}" for name, value in SETTINGS.items())
    return f"{statement.compile(dialect=_DIALECT, compile_kwargs={'literal_binds': True})}\nSETTINGS {settings}"


def compiled(statement: SelectBase) -> Query:
    """The statement in ClickHouse's dialect, which names columns and types conditions in its own way."""
    result = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    columns = list(statement.selected_columns)
    names = tuple(getattr(column, "name", "") or f"column_{place}" for place, column in enumerate(columns))
    flags = frozenset(name for name, column in zip(names, columns, strict=True) if isinstance(column.type, Boolean))
    return Query(str(result), dict(result.params), names, flags)
