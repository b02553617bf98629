"""Sums of closed segments, kept beside them: questions that a sum can answer need not read the entries.

A roll-up is a declaration over ``facts``: the columns that its rows are told apart by, conditions on an entry that are kept
as such, amounts that are added up, and what is counted. Which question it answers is found out, not declared
(:mod:`credit_core.analytics.rewriting`): metrics stay written over ``facts`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, and_, case

from credit_core.analytics import day_ends, measures, relations
from credit_core.analytics.dialect import keyed, sql_of
from credit_core.units import checked_zone, from_us

_FACTS = relations.facts.name
_F = relations.facts.c


@dataclass(frozen=True, slots=True)
class RollUp:
    """One declared roll-up.

    ``keys``: columns of ``facts``; ``day`` is one. ``conditions``: kept as they come out, keys too. ``sums``: whole-number
    columns, added up. ``measures``: whole-number amounts of an entry, worked out and added up. ``counts``: entries that meet
    a condition. ``latest``: the newest instant of those that do. ``in_memory``: small however long the ledger is.
    ``carried``: sums of everything up to the end of some days are kept too (:mod:`credit_core.analytics.carrying`).
    """

    name: str
    keys: tuple[str, ...]
    conditions: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    sums: tuple[str, ...] = ()
    measures: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    counts: Mapping[str, ColumnElement[bool]] = field(default_factory=dict)
    latest: Mapping[str, ColumnElement[bool]] = field(default_factory=dict)
    in_memory: bool = True
    carried: bool = False

    @property
    def key(self) -> str:
        """Its name and definition: rows of another definition are of another roll-up."""
        return keyed(self.name, self.made_from(_FACTS))

    @property
    def table(self) -> str:
        """Its name among the tables of the copy."""
        return f"rollup_{self.name}"

    @property
    def closed(self) -> str:
        """The closed segments' entries in its columns, each by itself."""
        return f"closed_{self.name}"

    @property
    def fresh(self) -> str:
        """The entries that are not rolled up yet, in its columns."""
        return f"fresh_{self.name}"

    def until(self, day: date) -> str:
        """Everything up to the end of a day, added up."""
        return f"until_{self.name}_{day:%Y%m%d}"

    def between(self, after: date, until: date, at_us: int) -> str:
        """SQL of what came after one day's end and up to another's, as rows of that day, at an instant within.

        Rows of the earlier end are the first ones of the later, in the same order (:mod:`credit_core.analytics.carrying`).
        """
        amounts = (*self.sums, *(f"known_{name}" for name in self.sums), *self.measures, *self.counts)
        parts = [
            *(f"DATE '{until}' AS day" if key == "day" else f'b."{key}"' for key in self.keys),
            *(f"b.{name}" for name in self.conditions),
            *(f'b."{name}" - coalesce(a."{name}", 0) AS "{name}"' for name in amounts),
            *(f"CASE WHEN b.{name} IS DISTINCT FROM a.{name} THEN b.{name} END AS {name}" for name in self.latest),
            "b.n - coalesce(a.n, 0) AS n",
            f"{at_us} AS occurred_at",
        ]
        rows = f"{self.until(until)} AS b POSITIONAL JOIN {self.until(after)} AS a"
        return f"SELECT {', '.join(parts)} FROM {rows} WHERE b.n > coalesce(a.n, 0)"

    def split(self, day: date, at: Sequence[int], zone: str) -> str:
        """Condition on the rows of a day among which these instants lie: all of them, or those of their hours."""
        if "hour" not in self.keys:
            return f"day = DATE '{day}'"
        hours = sorted({from_us(one).astimezone(checked_zone(zone)).hour for one in at})
        return f"day = DATE '{day}' AND hour IN ({', '.join(map(str, hours))})"

    def cut(self, day: date, at: Sequence[int]) -> str:
        """A day's rows where these instants tell its entries apart."""
        return f"cut_{self.name}_{day:%Y%m%d}_" + "_".join(map(str, at))

    def cut_from(self, relation: str, day: date, at: Sequence[int], zone: str) -> str:
        """SQL of :meth:`cut` over entries."""
        sides = ", ".join(f"occurred_at >= {one} AS side_{number}" for number, one in enumerate(at))
        names = ", ".join(f"side_{number}" for number in range(len(at)))
        rows = self.made_from(f"(SELECT * FROM {relation} WHERE {self.split(day, at, zone)})")
        return f"SELECT * EXCLUDE ({names}) FROM ({rows.replace('SELECT ', f'SELECT {sides}, ', 1)})"

    @property
    def late(self) -> str:
        """Its rows that were not there yet when everything was added up."""
        return f"late_{self.name}"

    def made_from(self, relation: str) -> str:
        """SQL of its rows over entries; the instant kept is one of the group's, all of which are of one day."""
        parts = [
            *(f'"{key}"' for key in self.keys),
            *(f"({sql_of(condition)}) AS {name}" for name, condition in self.conditions.items()),
            *(f'CAST(sum("{name}") AS BIGINT) AS "{name}"' for name in self.sums),
            *(f'count("{name}") AS known_{name}' for name in self.sums),
            *(f"CAST(sum({sql_of(amount)}) AS BIGINT) AS {name}" for name, amount in self.measures.items()),
            *(f"count(*) FILTER (WHERE {sql_of(condition)}) AS {name}" for name, condition in self.counts.items()),
            *(
                f"max(occurred_at) FILTER (WHERE {sql_of(condition)}) AS {name}"
                for name, condition in self.latest.items()
            ),
            "count(*) AS n",
            "min(occurred_at) AS occurred_at",
        ]
        # Where not all of it is read, days lie together.
        order = "" if self.in_memory else " ORDER BY day, " + ", ".join(f'"{key}"' for key in self.keys if key != "day")
        return f"SELECT {', '.join(parts)} FROM {relation} AS facts GROUP BY ALL{order}"

    def added_up(self, relation: str, day: date) -> str:
        """SQL of its own rows as those of one day, which is what everything up to its end comes to."""
        amounts = (*self.sums, *(f"known_{name}" for name in self.sums), *self.measures, *self.counts)
        parts = [
            *(f"DATE '{day}' AS day" if key == "day" else f'"{key}"' for key in self.keys),
            *self.conditions,
            *(f'CAST(sum("{name}") AS BIGINT) AS "{name}"' for name in amounts),
            *(f"max({name}) AS {name}" for name in self.latest),
            "CAST(sum(n) AS BIGINT) AS n",
            "min(occurred_at) AS occurred_at",
        ]
        return f"SELECT {', '.join(parts)} FROM {relation} GROUP BY ALL"

    def alike(self, relation: str) -> str:
        """SQL of entries in its columns, each by itself."""
        parts = [
            *(f'"{key}"' for key in self.keys),
            *(f"({sql_of(condition)}) AS {name}" for name, condition in self.conditions.items()),
            *(f'CAST("{name}" AS BIGINT) AS "{name}"' for name in self.sums),
            *(f'CAST("{name}" IS NOT NULL AS BIGINT) AS known_{name}' for name in self.sums),
            *(f"CAST({sql_of(amount)} AS BIGINT) AS {name}" for name, amount in self.measures.items()),
            *(f"CASE WHEN {sql_of(condition)} THEN 1 ELSE 0 END AS {name}" for name, condition in self.counts.items()),
            *(
                f"CASE WHEN {sql_of(condition)} THEN occurred_at END AS {name}"
                for name, condition in self.latest.items()
            ),
            "1 AS n",
            "occurred_at",
        ]
        return f"SELECT {', '.join(parts)} FROM {relation} AS facts"


_OWN = {"own": _F.parent_request_id.is_(None), "first": _F.line == 1}
_WORTH = {
    "spent_worth": measures.at_price(measures.spent_uc)(_F),
    "outstanding_worth": measures.at_price(measures.outstanding_uc)(_F),
    "sold_worth": measures.at_price(lambda f: case((measures.sold(f), f.d_avail_uc), else_=0))(_F),
    "broken_worth": measures.at_price(lambda f: case((f.kind.in_(("expire", "clamp")), -f.d_avail_uc), else_=0))(_F),
}
_OPENED = {"opened": _F.seq == 1}
_PLACE = ("day", "plan", "region")
_DECIDED = ("kind", "rule", "outcome", "miss")

#: Smallest first: the first that can answer a question does.
ROLLUPS = (
    RollUp(
        "hours",
        ("day", "hour", "dow", "plan", *_DECIDED),
        _OWN,
        ("d_avail_uc", "d_held_uc", "d_count", "cost_usd_micro"),
        counts={
            **_OPENED,
            "sold": measures.sold(_F),
            "failed": measures.failed(_F),
            "settled_late": measures.legs("rejected", reason="late_settle")(_F),
            "odd": and_(_F.anomaly.is_(True), _F.line == 1),
        },
    ),
    RollUp(
        "flow",
        (*_PLACE, "modality", "model", "arm", "config_version", "quota_policy", "lot_kind", "reason", "mode", "anomaly", *_DECIDED),
        {**_OWN, "ahead": _F.surplus_days > 3},
        ("d_avail_uc", "d_held_uc", "d_count", "cost_usd_micro", "cost_uc"),
        _WORTH,
        _OPENED,
    ),
    RollUp(
        "cells",
        (*_PLACE, "genre", "mood", "model", *_DECIDED),
        _OWN,
        ("d_avail_uc", "d_held_uc", "cost_uc"),
    ),
    *(
        RollUp(
            name.replace("_ms", "_steps"), (*_PLACE, "model"),
            {"step": measures.step(name)(_F), "timed": _F[name].is_not(None)},
        )
        for name in measures.TIMED
    ),
    RollUp(
        "people",
        ("account_id", "user_id", "team_id", "day", "plan", "region"),
        sums=("d_avail_uc", "d_held_uc", "d_count", "cost_usd_micro"),
        measures={
            "spent_worth": _WORTH["spent_worth"],
            "broken_worth": _WORTH["broken_worth"],
            "welcome_uc": case((_F.lot_kind == "welcome", measures.spent_uc(_F))),
            "spent_uc": measures.spent_uc(_F),
            "wanted_uc": measures.wanted_uc(_F),
            "paced_uc": day_ends.paced_uc(_F),
            "pauses": day_ends.pauses(_F),
        },
        counts={
            "requested": measures.requested(_F),
            "sold": measures.sold(_F),
            "settled": measures.legs("settle")(_F),
            "served_fresh": measures.served_fresh(_F),
            "unaffordable": measures.by_rule("unaffordable")(_F),
            "over_limit": measures.by_rule("over_limit")(_F),
            "judged": measures.judged(_F),
            "library": measures.judged_with("library")(_F),
            "missed": measures.missed(_F),
            "declined": measures.declined(_F),
            "drawn_library": measures.drawn("library")(_F),
            "drawn_library_ahead": and_(measures.drawn("library")(_F), _F.surplus_days > 3),
        },
        latest={"requested_at": measures.requested(_F), "unaffordable_at": measures.by_rule("unaffordable")(_F)},
        in_memory=False,
        carried=True,
    ),
)  # fmt: skip
