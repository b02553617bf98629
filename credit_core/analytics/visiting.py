"""Asking how many accounts came: distinct accounts of days that are over from their visits, which are sums.

A question is one of these where all that it adds up is distinct accounts that did something, it tells entries apart by nothing
but their instant and their place, and it begins where a day does. Days from which on nothing is counted yet, and the one that its
end cuts through, have a relation of visits account by account, kept for all who ask (:func:`credit_core.analytics.visits.of_day`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple

from credit_core.analytics.asked import Cut, Held, RolledUp
from credit_core.analytics.by_week import PEOPLE
from credit_core.analytics.dialect import sql_of
from credit_core.analytics.parsed import FACTS, Node, nodes
from credit_core.analytics.visits import ANY, COUNTED, NAME, of_day
from credit_core.policy.cycles import first_instant, local_day
from credit_core.units import checked_zone, from_us, to_us

#: Stands where the question's conditions on places go.
_PLACED = "placed"
_KEYS = "account_id, plan, region"
#: Days that are not over at most; with more of them, because late entries came, roll-ups answer.
_MOST_OPEN = 7


class Days(NamedTuple):
    """The days of a question: from the ``first`` to the ``last``, visits are there up to ``through``, but for those ``cut``."""

    first: date
    last: date
    through: date
    cut: frozenset[date]

    def alone(self) -> list[date]:
        """Those that have a relation of their own."""
        numbers = range(self.first.toordinal(), self.last.toordinal() + 1)
        return [day for day in map(date.fromordinal, numbers) if day > self.through or day in self.cut]


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


def days(asked: Counting, held: Held, there: RolledUp) -> Days | None:
    """The days asked for; None where the question begins within one, or too many of them are not over."""
    place = checked_zone(there.zone)
    if there.last_us is None:
        return None
    within = there.days_cut(at for at in (asked.since_us, asked.before_us) if at is not None)
    first, last = held.first, max(there.last, local_day(from_us(there.last_us), place))
    try:
        if asked.since_us is not None:
            since = local_day(from_us(asked.since_us), place)
            if since >= first and first_instant(since, place) != from_us(asked.since_us):
                return None
            first = max(first, since)
        if asked.before_us is not None:
            last = min(last, local_day(from_us(asked.before_us - 1), place))
    except OverflowError:
        return None
    asks = first <= last and (last - held.through).days <= _MOST_OPEN
    return Days(first, last, held.through, frozenset(within)) if asks else None


def own(asked: Days, held: Held, there: RolledUp) -> list[Cut]:
    """The relations of the days that have one."""
    return [_own(day, day in asked.cut, held, there) for day in asked.alone()]


def source(asked: Counting, span: Days, relations_of: Sequence[Cut], zone: str) -> str:
    """SQL of the question's visits: columns day, plan, region, what, accounts."""
    place = checked_zone(zone)
    since = "v.day" if asked.by_day else f"DATE '{span.first}'"
    parts = []
    days_alone = span.alone()
    whole = min([span.through, span.last, *(day - timedelta(days=1) for day in days_alone)])
    if span.first <= whole:
        firsts = "" if asked.by_day else f" AND (v.since IS NULL OR v.since < {since})"
        parts.append(
            f"SELECT v.day, v.plan, v.region, v.what, v.accounts FROM {NAME} AS v "
            f"WHERE v.day >= DATE '{span.first}' AND v.day <= DATE '{whole}'{firsts} AND {_nowhere_else(since)}"
        )
    for day, one in zip(days_alone, relations_of, strict=True):
        began_us = to_us(first_instant(day if asked.by_day else span.first, place))
        parts += _of_own(asked, day, one.name, began_us)
    return " UNION ALL ".join(parts)


def _of_own(asked: Counting, day: date, name: str, began_us: int) -> list[str]:
    """SQL of a day's visits from its own relation: the first ones since an instant."""
    ends = "IS NOT NULL" if asked.before_us is None else f"< {asked.before_us}"
    rows = f"SELECT DATE '{day}' AS day, v.plan, v.region, '{{}}' AS what, {{}} AS accounts FROM {name} AS v WHERE v.{{}} {ends}"
    # Before the day; the day's own instants alone tell where else the account came first.
    parts = [
        f"{rows.format(what, 1, what)} AND (v.{instant} IS NULL OR v.{instant} < {began_us}) AND {_nowhere_else(str(began_us))}"
        for what, instant in COUNTED.items()
        if what in asked.counted
    ]
    return [*parts, rows.format(ANY, 0, ANY)] if asked.by_day else parts


def _nowhere_else(since: str) -> str:
    """Of a visit ``v``: its account had not come to another place that is asked for."""
    return f"coalesce(len(list_filter(v.others, lambda facts: facts.since >= {since} AND facts.{_PLACED})) = 0, TRUE)"


def answered(select: Node, asked: Counting, relation: Node, expression: Callable[[str], Node]) -> Node:
    """The same ``SELECT`` over the ``relation`` of :func:`source`."""
    made: Node = copy.deepcopy(select)
    made["from_table"] = _placed(relation, asked.places, expression)
    made["where_clause"] = _all(asked.places, expression)
    for number, name in enumerate(asked.counted):
        if name is not None:
            total = expression(f"CAST(coalesce(sum(facts.accounts) FILTER (facts.what = '{name}'), 0) AS BIGINT)")
            made["select_list"][number] = total | {"alias": select["select_list"][number]["alias"]}
    return made


def _own(day: date, cut: bool, held: Held, there: RolledUp) -> Cut:
    """A day's visits account by account: of entries where it is cut through, else of the roll-up by person and what is new."""
    over = day <= held.through
    entries = over or cut
    new = ["facts_new"] if there.fresh and not over else []
    relations = [*(["facts_closed"] if entries else []), *new]
    did = [_did(one, {what: sql_of(PEOPLE.counts[what]) for what in COUNTED}, day) for one in relations]
    if not entries:
        did.append(_did(PEOPLE.table, {what: f"{what} > 0" for what in COUNTED}, day))
    # The roll-up has one row of nearly every account.
    alone = len(did) == 1 and not entries
    firsts = ", ".join(f"min({what}) AS {what}" for what in COUNTED)
    rows = did[0] if alone else f"SELECT {_KEYS}, {firsts} FROM ({' UNION ALL '.join(did)}) GROUP BY {_KEYS}"
    places = " UNION ALL ".join(
        f"SELECT plan, region, occurred_at FROM {one} WHERE day = DATE '{day}'"
        for one in ([] if entries else [PEOPLE.table]) + relations
    )
    name = f"came_{day:%Y%m%d}" + ("_cut" if cut and not over else "")
    return Cut(name, of_day(rows, places, _before(day, held, there)), None, held.newest if over else None)


def _did(relation: str, done: Mapping[str, str], day: date) -> str:
    """SQL of who did something on a day: the instants of rows that meet the conditions ``done``."""
    instants = ", ".join(f"CASE WHEN {condition} THEN occurred_at END AS {what}" for what, condition in done.items())
    some = " OR ".join(f"({condition})" for condition in done.values())
    return f"SELECT {_KEYS}, {instants} FROM {relation} AS {FACTS} WHERE day = DATE '{day}' AND ({some})"


def _before(day: date, held: Held, there: RolledUp) -> str | None:
    """SQL of the newest instants before a day: what is added up, and the days from there on."""
    instants = COUNTED.values()
    carried = dict(there.carried).get(PEOPLE.name, ())
    until = max((one for one in carried if one < day and one <= held.through), default=None)
    rows = [] if until is None else [f"SELECT {_KEYS}, {', '.join(instants)} FROM {PEOPLE.until(until)}"]
    first = there.first if until is None else until + timedelta(days=1)
    if first < day:
        relations = [PEOPLE.table, *([PEOPLE.fresh] if there.fresh else [])]
        between = f"WHERE day >= DATE '{first}' AND day < DATE '{day}'"
        rows += [f"SELECT {_KEYS}, {', '.join(instants)} FROM {one} {between}" for one in relations]
        newest = ", ".join(f"max({one}) AS {one}" for one in instants)
        return f"SELECT {_KEYS}, {newest} FROM ({' UNION ALL '.join(rows)}) GROUP BY {_KEYS}"
    return rows[0] if rows else None


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
