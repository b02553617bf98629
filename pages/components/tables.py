"""Tables: columns written for people, search, a click on a row, and a CSV of every row behind the filter.

What is on screen stops at :data:`MOST_ROWS`; what is downloaded never does. Cells are drawn as text: a name that looks
like a link, an image or a formula stays a name.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import streamlit as st
from streamlit.dataframe_util import convert_pandas_df_to_arrow_bytes
from streamlit.delta_generator import DeltaGenerator

from credit_core.units import spreadsheet_text
from pages.components import numbers
from pages.components.kept import Kept, fingerprint
from pages.components.text import one_line, title_of

MOST_ROWS = 250
Kind = Literal[
    "text", "slug", "credits", "credits_uc", "dollars", "share", "days", "count", "number", "ms", "seconds", "score",
    "instant", "day", "flag",
]  # fmt: skip
Rows = pd.DataFrame | Callable[[], pd.DataFrame]
#: Tables as they are sent, by what is in them, over all sessions of the process.
_READY = Kept(32 * 2**20)

_NUMERIC: Mapping[str, Callable[[Any], str]] = {
    "credits": lambda v: numbers.decimal(v, 1, trim=True),
    "credits_uc": numbers.credits,
    "dollars": numbers.in_dollars,
    "share": numbers.share,
    "days": lambda v: numbers.decimal(v, 1, sign=True),
    "count": numbers.count,
    "number": lambda v: numbers.decimal(v, 2, trim=True),
    "ms": numbers.milliseconds,
    "seconds": numbers.duration,
    "score": lambda v: numbers.decimal(v, 3),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a frame: its name there, its title on screen, how it is written, what it means."""

    name: str
    title: str = ""
    kind: Kind = "text"
    help: str = ""
    pinned: bool = False
    hidden: bool = False

    def write(self, value: Any, zone: ZoneInfo) -> str:
        """One cell, for people."""
        if self.kind not in ("text", "slug") and numbers.is_unknown(value):
            return numbers.UNKNOWN
        if self.kind in _NUMERIC:
            return _NUMERIC[self.kind](value)
        if self.kind == "instant":
            return numbers.instant(_stamp(value), zone)
        if self.kind == "day":
            return numbers.day(_stamp(value), zone)
        if self.kind == "flag":
            return numbers.UNKNOWN if numbers.is_unknown(value) else "yes" if value else "no"
        if numbers.is_unknown(value) or value == "":
            return numbers.UNKNOWN
        return title_of(one_line(value)) if self.kind == "slug" else one_line(value)


def show(
    rows: pd.DataFrame,
    columns: Sequence[Column],
    *,
    key: str,
    zone: ZoneInfo,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    search: bool = True,
    csv_rows: Rows | None = None,
    csv_data: Callable[[], bytes] | None = None,
    total: int | None = None,
    file_name: str = "",
    height: int | Literal["auto"] = "auto",
    alt: str = "",
) -> None:
    """A table of ``rows``.

    ``on_row`` is called with the clicked row as a dict: in it, ``st.switch_page(…, query_params=filters.params(…))``.
    ``csv_rows`` is every row behind the filter, or a function that fetches them when asked (default: ``rows``);
    ``csv_data`` gives the finished file instead, for what is too long for a frame. ``total`` says how many they are.
    """
    found = _searched(rows, columns, key) if search and len(rows) > 8 else rows
    shown = found.head(MOST_ROWS).reset_index(drop=True)
    picked = _dataframe(
        shown,
        columns,
        zone,
        hide_index=True,
        width="stretch",
        height=height,
        key=f"{key}-{st.session_state.setdefault(f'_round_{key}', 0)}",
        column_order=[c.name for c in columns if not c.hidden],
        column_config={c.name: _config(c) for c in columns},
        on_select="rerun" if on_row else "ignore",
        selection_mode=["single-row", "single-cell"],
        placeholder=numbers.UNKNOWN,
        alt=alt or None,
    )
    _below(
        len(shown), len(found), total if total is not None else len(rows), key, csv_rows or csv_data, rows, file_name
    )
    places = _picked(picked["selection"]) if on_row is not None else []
    if on_row is not None and places:
        # The key changes, so that coming back to this page does not find the row still selected.
        st.session_state[f"_round_{key}"] += 1
        on_row(shown.iloc[places[0]].to_dict())


def _picked(selection: Any) -> list[int]:
    """The clicked row: by its box, or by any of its cells."""
    return [*selection["rows"], *(cell[0] for cell in selection.get("cells") or [])]


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """``frame`` as CSV (UTF-8 with a mark for spreadsheets), numbers unrounded, formulas neutralised."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([spreadsheet_text(str(name)) for name in frame.columns])
    for row in frame.itertuples(index=False, name=None):
        writer.writerow([_cell(value) for value in row])
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def _below(shown: int, found: int, total: int, key: str, source: Any, rows: pd.DataFrame, file_name: str) -> None:
    """How many rows there are, and all of them as a file."""
    words = numbers.counted(total, "row")
    if found < len(rows):
        words = f"{numbers.count(found)} of {numbers.counted(len(rows), 'row')} match"
    if len(rows) < total:
        words += f", {numbers.count(len(rows))} loaded" if found == len(rows) else f", {numbers.count(total)} in all"
    if shown < found:
        words += f", the first {numbers.count(shown)} shown"

    def data() -> bytes:
        got = source() if callable(source) else rows if source is None else source
        return got if isinstance(got, bytes) else csv_bytes(got)

    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", key=f"{key}_end"
    ):
        st.caption(words)
        st.download_button(
            "CSV of all rows", data=data, file_name=f"{file_name or key}.csv", mime="text/csv", on_click="ignore",
            icon=":material/download:", key=f"{key}_csv", disabled=total == 0, type="tertiary",
        )  # fmt: skip


def _searched(rows: pd.DataFrame, columns: Sequence[Column], key: str) -> pd.DataFrame:
    wanted = st.text_input(
        "Search", key=f"{key}_search", placeholder="Search", icon=":material/search:", label_visibility="collapsed",
        type="search", width=280,
    )  # fmt: skip
    if not wanted:
        return rows
    texts = [c.name for c in columns if c.kind in ("text", "slug") and c.name in rows]
    hits = pd.Series(False, index=rows.index)
    for name in texts:
        hits |= rows[name].astype("string").str.contains(wanted.strip(), case=False, regex=False, na=False)
    return rows[hits]


def _dataframe(rows: pd.DataFrame, columns: Sequence[Column], zone: ZoneInfo, **how: Any) -> Any:
    """``st.dataframe`` with cells written by :class:`Column`, while the values below stay what they are: sorting is by value.

    Streamlit takes written cells from a pandas Styler, which is a third of what a page costs: here they come ready.
    """
    present = [column for column in columns if column.name in rows]
    frame = rows[[column.name for column in present]]
    key = fingerprint((frame, [(column.name, column.kind) for column in present], zone.key))
    if key is None:
        values, cells = _ready(frame, present, zone)
    else:
        values, cells = _READY.get(
            key, lambda: _ready(frame, present, zone), lambda made: made[0].nbytes + len(made[1])
        )
    return _Written(cells).dataframe(values, **how)


class _Written(DeltaGenerator):
    """Where ``st.dataframe`` writes, with the cells as they are shown added to what is sent."""

    def __init__(self, cells: bytes) -> None:
        # Without a place of its own it stands for ``st`` itself: it writes into the block that is open.
        super().__init__()
        self._cells = cells

    def _enqueue(self, delta_type: str, element_proto: Any, *rest: Any, **more: Any) -> DeltaGenerator:
        element_proto.arrow_data.styler.uuid = "written"
        element_proto.arrow_data.styler.display_values = self._cells
        return super()._enqueue(delta_type, element_proto, *rest, **more)


def _ready(frame: pd.DataFrame, columns: Sequence[Column], zone: ZoneInfo) -> tuple[pa.Table, bytes]:
    """Values and written cells as Streamlit sends them."""
    written = pd.DataFrame(
        {column.name: [column.write(value, zone) for value in frame[column.name]] for column in columns},
        index=frame.index,
        dtype="str",
    )
    values = pa.ipc.open_stream(convert_pandas_df_to_arrow_bytes(frame)).read_all()
    return values, convert_pandas_df_to_arrow_bytes(written)


def _config(column: Column) -> Any:
    title, tip = column.title or title_of(column.name), column.help or None
    if column.kind in ("text", "slug", "flag"):
        return st.column_config.TextColumn(title, help=tip, pinned=column.pinned or None)
    return st.column_config.Column(title, help=tip, pinned=column.pinned or None, alignment="right")


def _stamp(value: Any) -> datetime:
    stamp = pd.Timestamp(value)
    return stamp.to_pydatetime(warn=False) if stamp.tzinfo is not None else stamp.date()


def _cell(value: Any) -> Any:
    if value is None or value is pd.NaT or (isinstance(value, float) and value != value) or value is pd.NA:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    return spreadsheet_text(value)
