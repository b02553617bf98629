"""Asking how many accounts came: distinct accounts of days that are over from their visits, of the others account by account.

A question is one of these where all that it adds up is distinct accounts that did something, it tells entries apart by nothing
but their instant and their place, and it is of whole days, or by day. Its days from which on nothing is counted yet, or of which
it asks for a part, come from entries or the roll-up by person; whoever of them came before, within the period, is known from
what is added up until then.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple

from credit_core.analytics.by_week import PEOPLE
from credit_core.analytics.parsed import FACTS, Node, nodes
from credit_core.analytics.visits import ANY, COUNTED, NAME
from credit_core.policy.cycles import first_instant, local_day
from credit_core.units import checked_zone, from_us, to_us

#: Stands where the question's conditions on places go.
_PLACED = "placed"


class Held(NamedTuple):
    """Of which days visits are there."""

    first: date
    through: date


@dataclass(frozen=True, slots=True)
class Counting:
    """Such a question: what is counted by each part of it (None: a constant), its conditions on places, and its instants."""

    counted: Sequence[str | None]
    places: Sequence[Node]
    since_us: int | None
    before_us: int | None
    by_day: bool


def recognised(
    select: Node,
    counts: Mapping[str, str],
    bound: Callable[[Node], tuple[int | None, int | None] | None],
    normal: Callable[[Node], str],
) -> Counting | None:
    """The question that a ``SELECT`` over ``facts`` is; None where it is another.

    ``counts``: conditions by :func:`parsed.normal` → counts of the roll-up by person. ``bound``: of a comparison of the entry's
    instant with a constant, (first instant, None) or (None, first instant after).
    """
    day = [FACTS, "day"]
    grouped = [one.get("column_names") for one in select["group_expressions"]]
    if select["modifiers"] or select["having"] or select["qualify"] or grouped not in ([], [day]):
        return None
    counted = []
    for one in select["select_list"]:
        constant = one["class"] == "CONSTANT" or (grouped and one.get("column_names") == day)
        counted.append(None if constant else _accounts(one, counts, normal))
        if not constant and counted[-1] is None:
            return None
    sinces, befores, places = [], [], []
    for condition in _flat(select["where_clause"]):
        since, before = bound(condition) or (None, None)
        if since is not None:
            sinces.append(since)
        elif before is not None:
            befores.append(before)
        elif _of_places(condition):
            places.append(condition)
        else:
            return None
    since, before = max(sinces, default=None), min(befores, default=None)
    return Counting(counted, places, since, before, bool(grouped)) if any(counted) else None


def _of_places(condition: Node) -> bool:
    named = {tuple(one["column_names"]) for one in nodes(condition, "COLUMN_REF")}
    return named <= {(FACTS, "plan"), (FACTS, "region")} and not any(nodes(condition, "SUBQUERY"))


def days(asked: Counting, held: Held, within: Collection[date], zone: str) -> tuple[date, date] | None:
    """The days asked for, whole, of which visits are there; None where that is none, or says nothing of the others.

    ``within``: the days that the question cuts through.
    """
    place = checked_zone(zone)
    first, last = held
    try:
        if asked.since_us is not None:
            day = local_day(from_us(asked.since_us), place)
            if day in within and not asked.by_day:
                return None
            first = max(first, day + timedelta(days=1) if day in within else day)
        if asked.before_us is not None:
            last = min(last, local_day(from_us(asked.before_us), place) - timedelta(days=1))
    except OverflowError:
        return None
    return (first, last) if first <= last else None


def source(asked: Counting, held: tuple[date, date], rows: str, carried: Sequence[date], zone: str) -> str:
    """SQL of visits of the days ``held``, and of the question's other days ``rows`` like the roll-up by person.

    Columns day, plan, region, what, accounts; and account_id, and for each thing counted whether it was done. ``carried``: days
    up to whose end everything is added up.
    """
    first, last = held
    counted = [name for name in COUNTED if name in asked.counted]
    since = "v.day" if asked.by_day else f"DATE '{first}'"
    firsts = "" if asked.by_day else f" AND (v.since IS NULL OR v.since < {since})"
    nobody = ", ".join(f"FALSE AS {name}" for name in counted)
    came = ", ".join(f"({_came(name, asked, held, carried, zone)}) AS {name}" for name in counted)
    # Of what is sorted by day, only that part is read.
    begins = asked.since_us is not None and asked.since_us >= to_us(first_instant(first, checked_zone(zone)))
    bounds = [
        *([] if asked.since_us is None else [f"occurred_at >= {asked.since_us}"]),
        *([] if asked.before_us is None else [f"occurred_at < {asked.before_us}"]),
        f"day > DATE '{last}'" if begins else f"(day < DATE '{first}' OR day > DATE '{last}')",
    ]
    return (
        f"SELECT v.day, v.plan, v.region, v.what, v.accounts, NULL AS account_id, {nobody} FROM {NAME} AS v "
        f"WHERE v.day >= DATE '{first}' AND v.day <= DATE '{last}'{firsts} AND (v.others IS NULL OR NOT EXISTS ("
        f"SELECT 1 FROM (SELECT unnest(v.others, recursive := true)) AS facts WHERE facts.since >= {since} AND facts.{_PLACED}))"
        f" UNION ALL SELECT rest.day, rest.plan, rest.region, '{ANY}', 0, rest.account_id, {came} "
        f"FROM (SELECT * FROM ({rows}) WHERE {' AND '.join(bounds)}) AS rest"
    )


def answered(select: Node, asked: Counting, relation: Node, expression: Callable[[str], Node]) -> Node:
    """The same ``SELECT`` over the ``relation`` of :func:`source`."""
    made: Node = copy.deepcopy(select)
    made["from_table"] = _placed(relation, asked.places, expression)
    made["where_clause"] = _all(asked.places, expression)
    for number, name in enumerate(asked.counted):
        if name is not None:
            both = expression(
                f"CAST(coalesce(sum(facts.accounts) FILTER (facts.what = '{name}'), 0) AS BIGINT) "
                f"+ count(DISTINCT facts.account_id) FILTER (facts.{name})"
            )
            made["select_list"][number] = both | {"alias": select["select_list"][number]["alias"]}
    return made


def _came(name: str, asked: Counting, held: tuple[date, date], carried: Sequence[date], zone: str) -> str:
    """Of a row of the rest: its account did it, and, where days are not told apart, had not done it in the days ``held``."""
    did = f"rest.{name} > 0"
    return did if asked.by_day else f"{did} AND rest.account_id NOT IN ({_seen(name, held, carried, zone)})"


def _seen(name: str, held: tuple[date, date], carried: Sequence[date], zone: str) -> str:
    """SQL of the accounts that did it in these days."""
    first, last = held
    until = max((day for day in carried if first <= day <= last), default=None)
    since = first if until is None else until + timedelta(days=1)
    found = (
        f"SELECT facts.account_id FROM {PEOPLE.table} AS facts WHERE facts.day >= DATE '{since}' "
        f"AND facts.day <= DATE '{last}' AND facts.{name} > 0 AND facts.{_PLACED}"
    )
    if until is None:
        return found
    # The newest time up to then lies within the days or before them.
    first_us = to_us(first_instant(first, checked_zone(zone)))
    return (
        f"{found} UNION ALL SELECT facts.account_id FROM {PEOPLE.until(until)} AS facts "
        f"WHERE facts.{COUNTED[name]} >= {first_us} AND facts.{_PLACED}"
    )


def _accounts(node: Node, counts: Mapping[str, str], normal: Callable[[Node], str]) -> str | None:
    if node.get("function_name") != "count" or not node["distinct"] or node["filter"] is None:
        return None
    if [one["expression"].get("column_names") for one in node["arguments"]] != [[FACTS, "account_id"]]:
        return None
    name = counts.get(normal(node["filter"]))
    return name if name in COUNTED else None


def _flat(condition: Node | None) -> list[Node]:
    """What must all hold."""
    if condition is None:
        return []
    if condition["type"] == "CONJUNCTION_AND":
        return [one for part in condition["children"] for one in _flat(part)]
    return [condition]


def _all(conditions: Sequence[Node], expression: Callable[[str], Node]) -> Node:
    made = expression("TRUE AND TRUE")
    return made | {"children": [expression("TRUE"), expression("TRUE"), *copy.deepcopy(list(conditions))]}


def _placed(node: Any, places: Sequence[Node], expression: Callable[[str], Node]) -> Any:
    """A statement with the conditions on places where they go."""
    if isinstance(node, list):
        return [_placed(one, places, expression) for one in node]
    if not isinstance(node, dict):
        return node
    if node.get("class") == "COLUMN_REF" and node["column_names"][-1] == _PLACED:
        return _all(places, expression)
    return {name: _placed(part, places, expression) for name, part in node.items()}
