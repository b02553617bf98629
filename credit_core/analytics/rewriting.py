"""Answering a question over ``facts`` from a roll-up, where one has all that the question asks.

The statement is read by DuckDB's own parser. Of each ``SELECT … FROM facts`` that adds up, the relation is replaced by the
roll-up's rows and, entry by entry, by what is not rolled up: new entries, and days that the question cuts through. Counts
become sums of ``n``. Whatever the roll-up does not know leaves the statement as it was: a roll-up changes times, not answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache, partial
from typing import Any

import duckdb

from credit_core.analytics import relations, visiting
from credit_core.analytics.asked import Asked, Cut, Held, Rolled, RolledUp
from credit_core.analytics.by_week import PEOPLE
from credit_core.analytics.carrying import AddedUp, Told, not_told_apart
from credit_core.analytics.days import day_within, end_us
from credit_core.analytics.dialect import sql_of
from credit_core.analytics.narrowing import Narrower
from credit_core.analytics.parsed import (
    AGGREGATES,
    FACTS,
    Node,
    adds_up,
    column,
    copied,
    is_facts,
    nodes,
    normal,
    selects,
    times_n,
)
from credit_core.analytics.rollups import RollUp
from credit_core.policy.cycles import local_day
from credit_core.units import checked_zone, from_us

#: Statements whose rewriting is kept: a page asks the same ones again and again.
_REMEMBERED = 1_024
#: SQL of what roll-ups declare → :func:`normal` of it: the same for every copy that this process opens.
_NORMAL: dict[str, str] = {}
_COMPARISONS = {
    "COMPARE_GREATERTHANOREQUALTO": 0, "COMPARE_LESSTHAN": 0, "COMPARE_GREATERTHAN": 1, "COMPARE_LESSTHANOREQUALTO": 1,
}  # fmt: skip
_MIRRORED = {
    "COMPARE_GREATERTHANOREQUALTO": 1,
    "COMPARE_LESSTHAN": 1,
    "COMPARE_GREATERTHAN": 0,
    "COMPARE_LESSTHANOREQUALTO": 0,
}


class _NotKnown(Exception):
    """The roll-up does not have what the question asks."""


class Rewriter:
    """Rewrites statements for one reporting zone. ``parser``: a connection that nobody else uses."""

    def __init__(self, parser: duckdb.DuckDBPyConnection, rollups: Sequence[RollUp]) -> None:
        """Reads the roll-ups' own expressions once."""
        self._parser = parser
        self._rollups = [self._rolled(one) for one in rollups]
        self._narrower = Narrower(self._expression, self._relation, self._written)
        self.parse = lru_cache(maxsize=_REMEMBERED)(self._parse)
        self._known: dict[tuple[str, tuple[str, ...], RolledUp], Asked] = {}

    def __call__(self, sql: str, parameters: Sequence[Any], there: RolledUp) -> Asked:
        """The statement and its parameters, over roll-ups where they can answer."""
        key = (sql, tuple(map(repr, parameters)), there)
        if key not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = self._rewritten(sql, parameters, there)
        return self._known[key]

    def _rewritten(self, sql: str, parameters: Sequence[Any], there: RolledUp) -> Asked:
        statement = copied(self.parse(sql))
        values = {str(place): value for place, value in enumerate(parameters, 1)}
        touched = False
        cuts: dict[str, Cut] = {}
        for select in list(selects(statement)):
            if is_facts(select.get("from_table")):
                rolled_up = partial(self._rewrite, values=values, there=there, cuts=cuts)
                touched |= rolled_up(select) or self._narrower(select, values, there, rolled_up, cuts)
        if not touched:
            return Asked(sql, list(parameters))
        kept: list[Any] = []
        numbers: dict[str, str] = {}
        for parameter in nodes(statement, "PARAMETER"):
            name = parameter["identifier"]
            if name not in numbers:
                kept.append(values[name])
                numbers[name] = str(len(kept))
            parameter["identifier"] = numbers[name]
        return Asked(self._text(statement), kept, tuple(cuts.values()))

    def _rewrite(self, select: Node, values: Mapping[str, Any], there: RolledUp, cuts: dict[str, Cut]) -> bool:
        if there.visits is not None and self._visited(select, values, there, there.visits, cuts):
            return True
        for rolled in self._rollups:
            if rolled.rollup.name not in there.names:
                continue
            translation = _Translation(rolled, values, self._expression)
            try:
                made = translation.select(select)
            except _NotKnown:
                continue
            within = there.days_cut(translation.cuts)
            added_up = _added_up(translation, dict(there.carried).get(rolled.rollup.name, ()), there.zone)
            made["from_table"] = self._relation(self._rows(rolled.rollup, within, added_up, there, cuts))
            select.clear()
            select.update(made)
            return True
        return False

    def _visited(
        self, select: Node, values: Mapping[str, Any], there: RolledUp, held: Held, cuts: dict[str, Cut]
    ) -> bool:
        """Have visits answer how many accounts came, where that is what is asked."""
        people = next((one for one in self._rollups if one.rollup.name == PEOPLE.name), None)
        if people is None or PEOPLE.name not in there.names:
            return False
        asking = _Translation(people, values, self._expression)
        asked = visiting.recognised(select, people.counts, asking.bound, asking.normal)
        span = None if asked is None else visiting.days(asked, held, there)
        if asked is None or span is None:
            return False
        own = visiting.own(span, held, there)
        cuts.update((one.name, one) for one in own)
        source = visiting.source(asked, span, own, there.zone)
        made = visiting.answered(select, asked, self._relation(source), self._expression)
        select.clear()
        select.update(made)
        return True

    def _rows(
        self,
        rollup: RollUp,
        cut: Mapping[date, Sequence[int]],
        added_up: AddedUp,
        there: RolledUp,
        cuts: dict[str, Cut],
    ) -> str:
        """The rolled up days, or hours, that no bound cuts through, and entries: those of the others, and all that are not rolled up.

        What is added up is there as one row for each of the roll-up's keys.
        """
        split = {day: rollup.split(day, at, there.zone) for day, at in cut.items()}
        conditions = [f"NOT ({rows})" for rows in split.values()]
        covered = added_up.days()
        conditions += [f"NOT ({days})" for days in covered]
        parts = [f"SELECT * FROM {rollup.table}" + (f" WHERE {' AND '.join(conditions)}" if conditions else "")]
        if added_up.until is not None:
            parts.append(f"SELECT * FROM {rollup.until(added_up.until)}")
        for after, until in added_up.spans:
            parts.append(rollup.between(after, until, end_us(until, there.zone) - 1))
        if covered and rollup.name in there.late:
            parts.append(f"SELECT * FROM {rollup.late} WHERE {' OR '.join(covered)}")
        for day, at in cut.items():
            entries = f"SELECT * FROM {rollup.closed} WHERE {split[day]}"
            if rollup.in_memory:
                name = rollup.cut(day, at)
                made = rollup.cut_from(relations.facts.name + "_closed", day, at, there.zone)
                cuts[name] = Cut(name, made, entries)
                entries = f"SELECT * FROM {name}"
            parts.append(entries)
        if there.fresh:
            parts.append(f"SELECT * FROM {rollup.fresh}")
        return " UNION ALL ".join(parts)

    def _relation(self, sql: str) -> Node:
        """Rows of a statement in the place of ``facts``."""
        source: Node = copied(self.parse(f"SELECT * FROM ({sql}) AS {FACTS}"))
        found: Node = source["statements"][0]["node"]["from_table"]
        return found

    def _rolled(self, rollup: RollUp) -> Rolled:
        said = (
            {self._normal(sql_of(expression)): name for name, expression in group.items()}
            for group in (rollup.conditions, rollup.measures, rollup.counts, rollup.latest)
        )
        return Rolled(rollup, *said)

    def _normal(self, sql: str) -> str:
        """A declared expression's normal text, which every copy in this process asks for."""
        if sql not in _NORMAL:
            _NORMAL[sql] = normal(self._expression(sql), {})
        return _NORMAL[sql]

    def _expression(self, sql: str) -> Node:
        found: Node = self._parse(f"SELECT {sql} FROM facts")["statements"][0]["node"]["select_list"][0]
        return found

    def _parse(self, sql: str) -> Node:
        parsed: Node = json.loads(self._asked("SELECT json_serialize_sql($1)", sql))
        if parsed["error"]:
            raise duckdb.ParserException(parsed["error_message"])
        return parsed

    def _written(self, select: Node) -> str:
        return self._text({"error": False, "statements": [{"node": select, "named_param_map": []}]})

    def _text(self, statement: Node) -> str:
        return self._asked("SELECT json_deserialize_sql($1)", json.dumps(statement))

    def _asked(self, sql: str, text: str) -> str:
        with self._parser.cursor() as cursor:
            answer: str = cursor.execute(sql, [text]).fetchall()[0][0]
        return answer

    def close(self) -> None:
        """Let go of the connection."""
        self.parse.cache_clear()
        self._parser.close()


class _Translation:
    """One ``SELECT`` over ``facts`` in a roll-up's terms; ``cuts``: instants that split the entries it looks at.

    ``days``: the first of the days that it tells from all those before them; ``by_day``: it tells every day from the others,
    ``by_day_from`` each from this one on.
    """

    def __init__(self, rolled: Rolled, values: Mapping[str, Any], expression: Callable[[str], Node]) -> None:
        self._rolled = rolled
        self._values = values
        self._expression = expression
        self._keys = frozenset(rolled.rollup.keys)
        self._sums = frozenset(rolled.rollup.sums)
        self.cuts: set[int] = set()
        self.days: set[date] = set()
        self.by_day = False
        self.by_day_from = date.max

    def select(self, select: Node) -> Node:
        made: Node = copied(select)
        distinct = any(one["type"] == "DISTINCT_MODIFIER" for one in made["modifiers"])
        if not (made["group_expressions"] or distinct or any(map(adds_up, made["select_list"]))):
            raise _NotKnown
        for name in ("select_list", "group_expressions"):
            made[name] = [self._translated(one) for one in made[name]]
        for name in ("where_clause", "having", "qualify"):
            made[name] = None if made[name] is None else self._translated(made[name])
        for modifier in made["modifiers"]:
            for order in modifier.get("orders", []):
                order["expression"] = self._translated(order["expression"])
        return made

    def _translated(self, node: Any) -> Any:
        """The same expression over the roll-up's columns."""
        if isinstance(node, list):
            return [self._translated(one) for one in node]
        if not isinstance(node, dict):
            return node
        kind = node.get("class")
        if kind == "FUNCTION" and not node["is_operator"] and node["function_name"] in AGGREGATES:
            return self._aggregate(node)
        if kind in ("COMPARISON", "CONJUNCTION", "OPERATOR", "FUNCTION", "CASE"):
            if (name := self._rolled.conditions.get(self.normal(node))) is not None:
                return column(name, node)
            if kind == "COMPARISON" and (cut := self._cut(node)) is not None:
                self.cuts.add(cut)
                return node
            if (first := self._first_told(node)) is not None:
                self.days.add(first)
                return node
        if kind == "WINDOW":
            raise _NotKnown
        if kind == "COLUMN_REF":
            return self._checked(node)
        if kind == "SUBQUERY":
            return node | {"child": self._translated(node.get("child"))}
        return {name: self._translated(part) for name, part in node.items()}

    def _checked(self, node: Node) -> Node:
        """A column that the rows of the roll-up are told apart by, or one of another name: that of a column selected."""
        if node["column_names"][0] == FACTS and node["column_names"][-1] not in self._keys:
            raise _NotKnown
        self.by_day |= node["column_names"] == [FACTS, "day"]
        return node

    def _cut(self, node: Node) -> int | None:
        """Where a comparison of the entry's instant with a constant splits entries: the first instant of the later part."""
        for instant, other, steps in (("left", "right", _COMPARISONS), ("right", "left", _MIRRORED)):
            if node[instant].get("column_names") == [FACTS, "occurred_at"] and node["type"] in steps:
                bound = self._constant(node[other])
                return None if bound is None else bound + steps[node["type"]]
        return None

    def bound(self, node: Node) -> tuple[int | None, int | None] | None:
        """Of a comparison of the entry's instant with a constant: (its first instant, None), or (None, the first after)."""
        at = self._cut(node) if node["class"] == "COMPARISON" else None
        if at is None:
            return None
        on_left = node["left"].get("column_names") == [FACTS, "occurred_at"]
        from_on = ("GREATER" in node["type"]) is on_left
        return (at, None) if from_on else (None, at)

    def _first_told(self, node: Node) -> date | None:
        """Of a comparison of the entry's day with a constant, and of the later one of both: the first day told from those before."""
        if node["class"] == "COMPARISON" and node["type"] in _COMPARISONS:
            left, right, later = node["left"], node["right"], _COMPARISONS[node["type"]]
        elif node["class"] == "FUNCTION" and node["function_name"] == "greatest":
            (left, right), later = (one["expression"] for one in node["arguments"]), 1
        else:
            return None
        day = self._day(right) if left.get("column_names") == [FACTS, "day"] else None
        if day is not None and node["class"] == "FUNCTION":
            self.by_day_from = min(self.by_day_from, day)
        return None if day is None else day + timedelta(days=later)

    def _day(self, node: Node) -> date | None:
        if node["class"] == "CAST":
            node = node["child"]
        value = self._values[node["identifier"]] if node["class"] == "PARAMETER" else None
        return value if isinstance(value, date) and not isinstance(value, datetime) else None

    def _constant(self, node: Node) -> int | None:
        if node["class"] == "PARAMETER":
            value = self._values[node["identifier"]]
            return value if isinstance(value, int) else None
        if node["class"] == "CONSTANT" and node["literal"]["kind"] == "INTEGER":
            return int(node["literal"]["text"])
        return None

    def _aggregate(self, node: Node) -> Node:
        name, given = node["function_name"], [one["expression"] for one in node["arguments"]]
        condition = node["filter"]
        if name in ("count_star", "count") and not node["distinct"] and (name == "count_star" or not given):
            return self._counted(node, condition)
        if name == "count" and node["distinct"]:
            return self._of_keys(node)
        if name == "max" and condition is not None and given[0].get("column_names") == [FACTS, "occurred_at"]:
            return self._newest(node, condition)
        if name in ("min", "max"):
            return self._of_keys(node)
        if name == "count" and given[0].get("column_names", [""])[-1] in self._sums:
            return self._summed(node, column(f"known_{given[0]['column_names'][-1]}"), condition, counted=True)
        if name == "sum" and not node["distinct"]:
            if condition is not None and (kept := self._kept_amount(given[0], condition)) is not None:
                return self._summed(node, kept, None)
            try:
                amount = self._linear(given[0])
            except _NotKnown:
                amount = times_n(self._expression, self._translated(given[0]))
            return self._summed(node, amount, condition)
        raise _NotKnown

    def _newest(self, node: Node, condition: Node) -> Node:
        """The newest instant of the entries that meet a condition."""
        if (name := self._rolled.latest.get(self.normal(condition))) is None:
            raise _NotKnown
        return node | {"arguments": [node["arguments"][0] | {"expression": column(name)}], "filter": None}

    def _kept_amount(self, amount: Node, condition: Node) -> Node | None:
        """An amount that is kept of entries that meet a condition alone."""
        chosen = self._expression("CASE WHEN facts.own THEN facts.n END")
        chosen["case_checks"][0] |= {"when_expr": condition, "then_expr": amount}
        name = self._rolled.measures.get(self.normal(chosen))
        return None if name is None else column(name)

    def _counted(self, node: Node, condition: Node | None) -> Node:
        if condition is not None and (name := self._rolled.counts.get(self.normal(condition))) is not None:
            return self._summed(node, column(name), None, counted=True)
        return self._summed(node, column("n"), condition, counted=True)

    def _of_keys(self, node: Node) -> Node:
        """Distinct values, the least and the greatest are the same however often a row stands for."""
        made = node | {"arguments": self._translated(node["arguments"])}
        condition = node["filter"]
        if condition is not None:
            name = self._rolled.counts.get(self.normal(condition))
            made["filter"] = self._translated(condition) if name is None else self._expression(f"facts.{name} > 0")
        return made

    def _summed(self, node: Node, amount: Node, condition: Node | None, *, counted: bool = False) -> Node:
        made = self._expression("CAST(coalesce(sum(facts.n), 0) AS BIGINT)" if counted else "sum(facts.n)")
        inner = made["child"]["children"][0] if counted else made
        inner["arguments"][0]["expression"] = amount
        inner["filter"] = None if condition is None else self._translated(condition)
        return made | {"alias": node["alias"]}

    def _linear(self, node: Node) -> Node:
        """An amount of which sums of entries are the amount of their sums: added, taken away, or chosen by keys."""
        if (measure := self._rolled.measures.get(self.normal(node))) is not None:
            return column(measure)
        kind = node["class"]
        if kind == "COLUMN_REF":
            if node["column_names"][-1] not in self._sums:
                raise _NotKnown
            return node
        if kind == "FUNCTION" and node["is_operator"] and node["function_name"] in ("+", "-"):
            arguments = [one | {"expression": self._linear(one["expression"])} for one in node["arguments"]]
            return node | {"arguments": arguments}
        if kind == "FUNCTION" and node["is_operator"] and node["function_name"] == "*":
            times, amount = node["arguments"]
            if self._constant(times["expression"]) is None:
                raise _NotKnown
            return node | {"arguments": [times, amount | {"expression": self._linear(amount["expression"])}]}
        if kind == "CASE":
            checks = [
                {"when_expr": self._translated(one["when_expr"]), "then_expr": self._linear(one["then_expr"])}
                for one in node["case_checks"]
            ]
            return node | {"case_checks": checks, "else_expr": self._linear(node["else_expr"])}
        if kind in ("CONSTANT", "PARAMETER") and self._constant(node) == 0:
            return node
        raise _NotKnown

    def normal(self, node: Node) -> str:
        """The same text for expressions that mean the same."""
        return normal(node, self._values)


def _added_up(asked: _Translation, days: Sequence[date], zone: str) -> AddedUp:
    """Of the spans between the ends of these days, those whose entries need not be told apart."""
    if asked.by_day or not days:
        return AddedUp(None, ())
    told = [Told(day, False) for day in asked.days]
    try:
        told += [
            Told(local_day(from_us(at), checked_zone(zone)), day_within(at, zone) is not None) for at in asked.cuts
        ]
    except OverflowError:
        return AddedUp(None, ())
    return not_told_apart(days, told, asked.by_day_from)
