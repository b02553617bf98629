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

_PLACE = {"plan", "region"}
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


def recognised(select: Node, counts: Mapping[str, str], bound: Callable[[Node], tuple[int | None, int | None] | None],
               normal: Callable[[Node], str]) -> Counting | None:  # fmt: skip
    """The question that a ``SELECT`` over ``facts`` is; None where it is another.

    ``counts``: conditions by :func:`parsed.normal` → counts of the roll-up by person. ``bound``: of a comparison of the entry's
    instant with a constant, (first instant, None) or (None, first instant after).
    """
    day = [FACTS, "day"]
    grouped = [one.get("column_names") for one in select["group_expressions"]]
    if select["modifiers"] or select["having"] or select["qualify"] or grouped not in ([], [day]):
        return None
    counted: list[str | None] = []
    for one in select["select_list"]:
        if one["class"] == "CONSTANT" or (grouped and one.get("column_names") == day):
            counted.append(None)
            continue
        name = _accounts(one, counts, normal)
        if name is None:
            return None
        counted.append(name)
    if not any(counted):
        return None
    since, before, places = None, None, []
    for condition in _flat(select["where_clause"]):
        ends = bound(condition)
        if ends is not None:
            since = ends[0] if since is None else max(since, ends[0] or since)
            before = ends[1] if before is None else min(before, ends[1] or before)
        elif {tuple(one["column_names"]) for one in nodes(condition, "COLUMN_REF")} <= {
            (FACTS, name) for name in _PLACE
        } and not any(nodes(condition, "SUBQUERY")):
            places.append(condition)
        else:
            return None
    return Counting(counted, places, since, before, bool(grouped))


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


def rest(rows: str, asked: Counting, held: tuple[date, date]) -> str:
    """Of rows like the roll-up by person, those of the question's other days."""
    bounds = [
        *([] if asked.since_us is None else [f"occurred_at >= {asked.since_us}"]),
        *([] if asked.before_us is None else [f"occurred_at < {asked.before_us}"]),
    ]
    others = f"(day < DATE '{held[0]}' OR day > DATE '{held[1]}')"
    return f"SELECT * FROM ({rows}) WHERE {' AND '.join([others, *bounds])}"


def answered(
    select: Node, asked: Counting, held: tuple[date, date], rest: str, seen: Mapping[str, str], expression: Callable[[str], Node],
    relation: Callable[[str], Node],
) -> Node:  # fmt: skip
    """The same ``SELECT`` over visits of the days ``held``, and rows like the roll-up by person of the ``rest``.

    ``seen``: what is counted → SQL of the accounts that came in those days.
    """
    first, last = held
    since = "v.day" if asked.by_day else f"DATE '{first}'"
    columns = ", ".join(f"{_came(name, seen)} AS {name}" for name in COUNTED if name in asked.counted)
    nobody = ", ".join(f"FALSE AS {name}" for name in COUNTED if name in asked.counted)
    earlier = "" if asked.by_day else f" AND (v.since IS NULL OR v.since < {since})"
    source = (
        f"SELECT v.day, v.plan, v.region, v.what, v.accounts, NULL AS account_id, {nobody} FROM {NAME} AS v "
        f"WHERE v.day >= DATE '{first}' AND v.day <= DATE '{last}'{earlier} AND (v.others IS NULL OR NOT EXISTS ("
        f"SELECT 1 FROM (SELECT unnest(v.others, recursive := true)) AS facts WHERE facts.since >= {since} AND facts.{_PLACED}))"
        f" UNION ALL SELECT rest.day, rest.plan, rest.region, '{ANY}', 0, rest.account_id, {columns} FROM ({rest}) AS rest"
    )
    made: Node = copy.deepcopy(select)
    made["from_table"] = _placed(relation(f"SELECT * FROM ({source}) AS {FACTS}"), asked.places, expression)
    made["where_clause"] = _all(asked.places, expression)
    for number, name in enumerate(asked.counted):
        if name is not None:
            both = expression(
                f"CAST(coalesce(sum(facts.accounts) FILTER (facts.what = '{name}'), 0) AS BIGINT) "
                f"+ count(DISTINCT facts.account_id) FILTER (facts.{name})"
            )
            made["select_list"][number] = both | {"alias": select["select_list"][number]["alias"]}
    return made


def seen(name: str, held: tuple[date, date], carried: Sequence[date], zone: str) -> str:
    """SQL of the accounts that came in these days, all of which are over and held."""
    first, last = held
    until = max((day for day in carried if first <= day <= last), default=None)
    since = first if until is None else until + timedelta(days=1)
    parts = [f"SELECT facts.account_id FROM {PEOPLE.table} AS facts WHERE facts.day >= DATE '{since}' AND facts.day <= DATE '{last}' "
             f"AND facts.{name} > 0 AND facts.{_PLACED}"]  # fmt: skip
    if until is not None:
        first_us = to_us(first_instant(first, checked_zone(zone)))
        parts.append(
            f"SELECT facts.account_id FROM {PEOPLE.until(until)} AS facts WHERE facts.{COUNTED[name]} >= {first_us} AND facts.{_PLACED}"
        )
    return " UNION ALL ".join(parts)


def _came(name: str, seen: Mapping[str, str]) -> str:
    """Whether a row of the rest has somebody who came, and, where that is asked, had not come in the days held."""
    return f"(rest.{name} > 0" + (f" AND rest.account_id NOT IN ({seen[name]}))" if name in seen else ")")


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
