"""What a page shows, read off a run AppTest; and what the ledger says, by plain SQL."""

from __future__ import annotations

import json
import sqlite3
import tomllib
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from streamlit.testing.v1 import AppTest

from pages.components import filters

#: Column of ``ledger_entries`` → value kept.
Kept = Mapping[str, str]
#: Parts of a figure that hold values, not text that is drawn.
UNDRAWN = ("customdata", "template", "x", "y", "tickvals", "categoryarray")

# What a page shows -------------------------------------------------------------------------------------------------


def words(test: AppTest) -> str:
    """Everything the page says in words."""
    kinds = ("title", "subheader", "markdown", "caption", "text", "code", "badge")
    return "\n".join(str(element.value) for kind in kinds for element in test.get(kind) if hasattr(element, "value"))


def plain(text: str) -> str:
    """Text as it is read: with ordinary spaces, and without what keeps it from being markdown."""
    return text.replace("\u202f", " ").replace("\u00a0", " ").replace("\\", "").replace("\u2060", "")


def sentence(test: AppTest) -> str:
    """The sentence under the title; badges are markdown too."""
    return next(str(element.value) for element in test.markdown if "-badge[" not in element.value)


def markdown_of(test: AppTest) -> list[str]:
    """What Streamlit reads as markdown: where user text must stand escaped."""
    kinds = ("title", "subheader", "markdown", "caption", "badge", "info", "warning", "error")
    return [str(element.value) for kind in kinds for element in test.get(kind)]


def drawn_text(spec: Any) -> list[str]:
    """Every text of a figure that Plotly draws, where its tags are obeyed; not ``customdata``, which nobody sees."""
    if isinstance(spec, str):
        return [spec]
    if isinstance(spec, dict):
        return [text for key, part in spec.items() if key not in UNDRAWN for text in drawn_text(part)]
    return [text for part in spec for text in drawn_text(part)] if isinstance(spec, list) else []


def figures(test: AppTest) -> list[dict[str, Any]]:
    """All figures of the page."""
    return [json.loads(chart.proto.spec) for chart in test.get("plotly_chart")]


def card(test: AppTest, label: str) -> str:
    """The value on the card of that name."""
    (found,) = {metric.value for metric in test.metric if metric.label == label}
    return str(found)


def figure(test: AppTest, key: str) -> dict[str, Any]:
    """The figure shown under ``key``, as Plotly takes it."""
    (found,) = (chart for chart in test.get("plotly_chart") if _key(chart).startswith(f"{key}-"))
    spec: dict[str, Any] = json.loads(found.proto.spec)
    return spec


def traces(spec: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """The figure's traces of one kind."""
    return [trace for trace in spec["data"] if trace.get("type", "scatter") == kind]


def rows(test: AppTest, name: str) -> Any:
    """The frame of the table shown under the key ``name``, or with that description: what cannot be clicked has no key."""
    (found,) = (table for table in test.dataframe if _key(table).startswith(f"{name}-") or table.proto.alt == name)
    return found.value


def filters_of(test: AppTest) -> Any:
    """The filters that the bar made of the URL."""
    return test.session_state[filters._CHOSEN][0]


def _key(element: Any) -> str:
    """The key that a page gave an element: Streamlit writes ids as ``$$ID-hash-key``."""
    return str(element.proto.id).split("-", 2)[-1]


# What the ledger says ----------------------------------------------------------------------------------------------

SPENT = "-SUM(CASE kind WHEN 'settle' THEN d_avail_uc + d_held_uc WHEN 'import' THEN d_avail_uc WHEN 'refund' THEN d_avail_uc ELSE 0 END)"
JUDGED = "rule IN ('unaffordable', 'coverage_miss', 'session_cap', 'at_cap', 'controller') AND outcome IS NOT NULL"


#: Plans of each credit unit, as the catalogue's file says it.
UNITS: dict[str, list[str]] = {}
for _name, _row in tomllib.loads((Path(__file__).parents[2] / "data/catalog/plans.toml").read_text())["plans"].items():
    UNITS.setdefault(_row.get("credit_unit", "titrated"), []).append(_name)


def ledger_sum(
    url: str, expression: str, kept: Kept, start: datetime, end: datetime, by: str = "", unit: str = "titrated"
) -> Any:
    """``expression`` summed over ``ledger_entries`` in [start, end) by plain SQL: a number, or value → number with ``by``.

    Of the plans of one credit unit, which is what a page shows at a time.
    """
    of_unit = f"plan IN ({', '.join(map(repr, UNITS[unit]))})"
    conditions = " AND ".join([of_unit, "occurred_at >= ?", "occurred_at < ?", *(f"{name} = ?" for name in kept)])
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        statement = f"SELECT {by or '0'}, {expression} FROM ledger_entries WHERE {conditions} GROUP BY 1"
        found = dict(connection.execute(statement, (_us(start), _us(end), *kept.values())).fetchall())
    return found if by else next(iter(found.values()), 0) or 0


def last_days(url: str, count: int, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The last ``count`` days of a zone, up to the end of the newest entry's."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        (newest,) = connection.execute("SELECT max(occurred_at) FROM ledger_entries").fetchone()
    day = datetime.fromtimestamp(newest / 1_000_000, zone).date()
    return tuple(datetime.combine(day + timedelta(days=n), time(), zone) for n in (1 - count, 1))


def _us(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
