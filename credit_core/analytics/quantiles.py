"""Exact quantiles of a column without sorting all of its values: counted in steps, and looked at in the step that has the rank.

A roll-up counts the values of each step (:func:`credit_core.analytics.measures.step`), which tells the steps that a quantile's
two ranks lie in. Of the entries kept apart, which lie in order of their steps, those of the same steps alone are read and
ranked, and stay in memory (:mod:`credit_core.analytics.stepping`). What comes out is interpolated between the same two values
as the aggregate's: the same, but for a double's last bit.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement

from credit_core.analytics import measures, relations
from credit_core.analytics.parsed import FACTS, Node, column, normal


class Ranked(NamedTuple):
    """A column whose quantiles are told so, and its step. A roll-up counts that, and the entries kept apart have it."""

    column: str
    step: ColumnElement[Any]

    @property
    def subset(self) -> str:
        """Name of the entries kept apart that have the column."""
        return self.column.removesuffix("_ms")


#: What pages ask quantiles of.
RANKED = tuple(Ranked(name, measures.step(name)(relations.facts.c)) for name in measures.TIMED)


class Plan(NamedTuple):
    """How a ``SELECT`` of quantiles is asked: its groups, and the shares of its quantiles as SQL."""

    groups: list[Node]
    shares: list[str]


def plan_of(select: Node, values: Mapping[str, Any], ranked: Ranked) -> Plan | None:
    """None where a ``SELECT`` asks something else than groups, quantiles of the column, and constants."""
    groups = select["group_expressions"]
    known = {normal(one, values) for one in groups}
    asked = [one for one in select["select_list"] if normal(one, values) not in known and one["class"] != "CONSTANT"]
    shares = [_share(one, ranked.column) for one in asked]
    plain = (
        select["having"] is None and select["qualify"] is None and all(one["class"] == "COLUMN_REF" for one in groups)
    )
    ordered = [one["expression"] for one in _orders(select)]
    # By a group, or by the name of what is selected.
    named = (normal(one, values) in known or one.get("column_names", [FACTS])[0] != FACTS for one in ordered)
    distinct = any(modifier["type"] == "DISTINCT_MODIFIER" for modifier in select["modifiers"])
    if distinct or not (plain and all(named) and shares and None not in shares):
        return None
    return Plan(groups, list(dict.fromkeys(share for share in shares if share is not None)))


def counted(select: Node, plan: Plan, step: Node, count: Node) -> Node:
    """How many entries each step of each group has: a ``SELECT`` over ``facts``."""
    made = copy.deepcopy(select)
    made["select_list"] = [*_named(plan.groups), step | {"alias": "step"}, count | {"alias": "n"}]
    made["group_expressions"] = [*copy.deepcopy(plan.groups), step]
    return made | {"group_sets": [list(range(len(plan.groups) + 1))], "modifiers": []}


def entries(select: Node, plan: Plan, ranked: Ranked, relation: Node) -> Node:
    """Groups, step and value of each entry: a ``SELECT`` over what is kept apart."""
    made = copy.deepcopy(select)
    value = column(ranked.column)
    made["select_list"] = [*_named(plan.groups), column("step"), value | {"alias": "value"}]
    return made | {"group_expressions": [], "group_sets": [], "modifiers": [], "from_table": relation}


def sql_of_wanted(counts: str, plan: Plan) -> str:
    """SQL of the counted steps that the quantiles' ranks lie in, with how many values are below and in all."""
    keys = _keys(plan)
    by = f"PARTITION BY {', '.join(keys)} " if keys else ""
    within = " OR ".join(f"(below <= ceil({place}) AND below + n > floor({place}))" for place in _places(plan))
    return (
        f"WITH counted AS ({counts}), "
        f"placed AS (SELECT *, CAST(sum(n) OVER ({by}ORDER BY step) AS BIGINT) - n AS below, "
        f"CAST(sum(n) OVER ({by}) AS BIGINT) AS total FROM counted) "
        f"SELECT * FROM placed WHERE {within}"
    )


def sql_of_ranks(values: str, plan: Plan) -> str:
    """SQL of the quantiles ``q0`` … by the groups ``k0`` …, from the table ``wanted`` of steps and from entries."""
    keys, places = _keys(plan), _places(plan)
    same = " AND ".join(["e.step = w.step", *(f"e.{key} IS NOT DISTINCT FROM w.{key}" for key in keys)])
    of_wanted = "".join(f"w.{key}, " for key in keys)
    low, high = (
        [f"min(value) FILTER (WHERE place = {side}({place}))" for place in places] for side in ("floor", "ceil")
    )
    between = [f"any_value({place} - floor({place}))" for place in places]
    quantiles = [
        f"{one} * (1 - {share}) + {other} * {share} AS q{number}"
        for number, (one, other, share) in enumerate(zip(low, high, between, strict=True))
    ]
    return (
        f"WITH ranked AS (SELECT {of_wanted}e.value, w.total, "
        f"w.below + row_number() OVER (PARTITION BY {of_wanted}w.step ORDER BY e.value) - 1 AS place "
        f"FROM ({values}) AS e JOIN wanted AS w ON {same}) "
        f"SELECT {', '.join([*keys, *quantiles])} FROM ranked" + (f" GROUP BY {', '.join(keys)}" if keys else "")
    )


def over_ranks(select: Node, values: Mapping[str, Any], plan: Plan, ranked: Ranked, relation: Node) -> None:
    """Have a ``SELECT`` take its groups and quantiles from the relation that has them."""
    places = {normal(one, values): number for number, one in enumerate(plan.groups)}
    told = []
    for one in select["select_list"]:
        share = _share(one, ranked.column)
        if share is not None:
            told.append(column(f"q{plan.shares.index(share)}", one))
        elif (place := places.get(normal(one, values))) is not None:
            told.append(column(f"k{place}") | {"alias": one["alias"] or one["column_names"][-1]})
        else:
            told.append(one)
    for order in _orders(select):
        if (place := places.get(normal(order["expression"], values))) is not None:
            order["expression"] = column(f"k{place}")
    select |= {
        "select_list": told,
        "where_clause": None,
        "group_expressions": [],
        "group_sets": [],
        "from_table": relation,
    }


def _keys(plan: Plan) -> list[str]:
    return [f"k{number}" for number in range(len(plan.groups))]


def _places(plan: Plan) -> list[str]:
    """Ranks of the quantiles, from 0 on; between two of them most often."""
    return [f"(CAST({share} AS DOUBLE) * (total - 1))" for share in plan.shares]


def _share(node: Node, name: str) -> str | None:
    """The share of an exact quantile of a column."""
    if node.get("function_name") != "quantile_cont" or node["filter"] is not None or node["distinct"]:
        return None
    orders = (node["order_bys"] or {}).get("orders", [])
    (share, *more) = [one["expression"] for one in node["arguments"]]
    of_column = [one for one in orders if one["expression"].get("column_names") == [FACTS, name]]
    if (
        more
        or len(of_column) != 1
        or len(orders) != 1
        or orders[0]["type"] != "ORDER_DEFAULT"
        or share["class"] != "CONSTANT"
    ):
        return None
    return str(share["literal"].get("text"))


def _orders(select: Node) -> list[Node]:
    return [order for modifier in select["modifiers"] for order in modifier.get("orders", [])]


def _named(groups: Sequence[Node]) -> list[Node]:
    return [one | {"alias": f"k{number}"} for number, one in enumerate(copy.deepcopy(list(groups)))]
