"""Statements as DuckDB's parser gives them: nested mappings, which are looked through, compared and written here."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

Node = dict[str, Any]
FACTS = "facts"
#: Of a parsed expression, what does not change its meaning.
_ASIDE = frozenset(
    {"alias", "query_location", "query_location_length", "qualified_name", "schema", "catalog", "export_state"}
)
AGGREGATES = frozenset({
    "count_star", "count", "sum", "min", "max", "avg", "quantile_cont", "percentile_cont", "median", "first", "last", "any_value",
    "list", "string_agg", "arg_max", "arg_min", "bool_or", "bool_and", "stddev", "stddev_samp", "var_samp", "approx_count_distinct",
    "quantile_disc", "mode", "histogram", "product", "array_agg", "count_if",
})  # fmt: skip


def copied(node: Any) -> Any:
    """The same, to be changed; a parser's answer is a tree, of which :func:`copy.deepcopy` cannot know."""
    if isinstance(node, dict):
        return {name: copied(part) for name, part in node.items()}
    return [copied(one) for one in node] if isinstance(node, list) else node


def adds_up(node: Any) -> bool:
    """Whether some part of an expression adds up."""
    return any(one["function_name"] in AGGREGATES for one in nodes(node, "FUNCTION"))


def is_facts(table: Any) -> bool:
    """Whether a relation is ``facts`` itself."""
    return (
        isinstance(table, dict)
        and table["type"] == "BASE_TABLE"
        and table["table_name"] == FACTS
        and not table["alias"]
    )


def column(name: str, like: Node | None = None) -> Node:
    """A column of ``facts``, named as ``like`` is."""
    alias = "" if like is None else like["alias"]
    return {
        "class": "COLUMN_REF", "type": "COLUMN_REF", "alias": alias, "query_location": 0, "query_location_length": 0,
        "column_names": [FACTS, name],
    }  # fmt: skip


def times_n(expression: Callable[[str], Node], amount: Node) -> Node:
    """An amount times the entries that a row stands for."""
    product = expression("facts.n * facts.n")
    product["arguments"][1]["expression"] = amount
    return product


def normal(node: Any, values: Mapping[str, Any]) -> str:
    """The same text for expressions that mean the same, whether a constant is written or bound."""
    return json.dumps(_plain(node, values), sort_keys=True)


def _plain(node: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_plain(one, values) for one in node]
    if not isinstance(node, dict):
        return node
    kind = node.get("class")
    if kind == "PARAMETER":
        return {"constant": str(values.get(node["identifier"]))}
    if kind == "CONSTANT":
        return {"constant": node["literal"].get("text")}
    return {name: _plain(part, values) for name, part in node.items() if name not in _ASIDE}


def conjuncts(node: Node | None) -> Iterator[Node]:
    """The conditions all of which a condition asks for."""
    if node is not None and node["type"] == "CONJUNCTION_AND":
        for one in node["children"]:
            yield from conjuncts(one)
    elif node is not None:
        yield node


def reads_only(select: Node, columns: Collection[str]) -> bool:
    """Whether of ``facts`` a ``SELECT`` reads no other column."""
    read = (one["column_names"] for one in nodes(select, "COLUMN_REF"))
    return not any(nodes(select, "STAR")) and all(names[0] != FACTS or names[-1] in columns for names in read)


def selects(node: Any) -> Iterator[Node]:
    """Every ``SELECT`` of a statement, the outer before the inner."""
    if isinstance(node, list):
        for one in node:
            yield from selects(one)
    elif isinstance(node, dict):
        if node.get("type") == "SELECT_NODE":
            yield node
        for part in node.values():
            yield from selects(part)


def nodes(node: Any, kind: str) -> Iterator[Node]:
    """Every part of a kind."""
    if isinstance(node, list):
        for one in node:
            yield from nodes(one, kind)
    elif isinstance(node, dict):
        if node.get("class") == kind:
            yield node
        for part in node.values():
            yield from nodes(part, kind)
