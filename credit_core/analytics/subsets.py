"""The few entries that a question looks at, kept apart beside closed segments: it need not look through all the others for them.

A subset is a condition on an entry, and the columns that are kept of those that meet it. Which question it answers is found
out (:mod:`credit_core.analytics.rewriting`): one whose own conditions have the subset's among them, and that asks no other column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement

from credit_core.analytics import measures, relations
from credit_core.analytics.dialect import keyed, sql_of

_F = relations.facts.c
#: What filters ask of an entry.
_FILTERED = ("occurred_at", "day", "plan", "region", "model", "account_id", "user_id", "team_id", "genre", "mood")


@dataclass(frozen=True, slots=True)
class Subset:
    """The entries that meet all of ``conditions``, in some columns of ``facts``; with a ``step``, in whose order files have them."""

    name: str
    conditions: tuple[ColumnElement[Any], ...]
    columns: tuple[str, ...]
    step: ColumnElement[Any] | None = None

    @property
    def table(self) -> str:
        """Its name among the tables of the copy."""
        return f"subset_{self.name}"

    @property
    def key(self) -> str:
        """Its name and definition, as a segment names the file."""
        return keyed(self.table, self.filed_from("facts"))

    def made_from(self, relation: str) -> str:
        """SQL of its rows over a relation with the columns of ``facts``."""
        step = () if self.step is None else (f"{sql_of(self.step)} AS step",)
        columns = ", ".join([*step, *(f'"{name}"' for name in self.columns)])
        met = " AND ".join(f"({sql_of(one)})" for one in self.conditions)
        return f"SELECT {columns} FROM {relation} AS facts WHERE {met}"

    def filed_from(self, relation: str) -> str:
        """The same as it stands in a file."""
        return self.made_from(relation) + ("" if self.step is None else " ORDER BY step, occurred_at")


#: The first that can answer a question does.
SUBSETS = (
    Subset("incidents", (measures.incident(_F),), (*_FILTERED, "kind", "line", "reason", "rule", "anomaly")),
    Subset(
        "sold", tuple(measures.sold(_F).clauses),
        (*_FILTERED, "kind", "line", "lot_kind", "d_avail_uc", "unit_price_usd_micro"),
    ),
    Subset("welcome", (_F.lot_kind == "welcome",), (*_FILTERED, "kind", "line", "lot_kind", "d_avail_uc", "d_held_uc")),
    *(
        Subset(
            name.removesuffix("_ms"), (_F[name].is_not(None),), ("occurred_at", "day", "plan", "region", "model", name),
            measures.step(name)(_F),
        )
        for name in measures.TIMED
    ),
)  # fmt: skip
