"""What is kept is made once, within its bounds; a figure is kept by its data, and never what somebody changed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import orjson
import pandas as pd
import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from pages.components import charts, tables
from pages.components.charts import drawing
from pages.components.kept import Kept, own, size_of


def test_whoever_asks_at_the_same_time_gets_what_is_made_once() -> None:
    made, all_asked = [], threading.Barrier(8)
    kept = Kept(100)

    def make() -> str:
        made.append(1)
        return "made"

    def ask(_: int) -> str:
        all_asked.wait(10)
        return kept.get("key", make, len)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == ["made"] * 8
    assert (len(made), len(kept), kept.bytes) == (1, 1, 4)


def test_the_longest_unused_goes_first_and_what_is_too_large_is_not_kept() -> None:
    kept = Kept(10)
    for key in "abc":
        kept.get(key, lambda: "1234", len)
        kept.get("a", lambda: pytest.fail("a was dropped"), len)
    assert (len(kept), kept.bytes) == (2, 8)
    assert kept.get("c", lambda: pytest.fail("c was dropped"), len) == "1234"
    assert kept.get("b", lambda: "anew", len) == "anew"
    assert kept.get("large", lambda: "x" * 11, len) == "x" * 11
    assert kept.get("large", lambda: "made again", len) == "made again"


def test_nothing_is_kept_of_what_failed() -> None:
    kept = Kept(10)
    with pytest.raises(ZeroDivisionError):
        kept.get("key", lambda: str(1 // 0), len)
    assert kept.get("key", lambda: "better", len) == "better"


class Told(NamedTuple):
    """An answer with frames in it."""

    rows: pd.DataFrame
    more: dict[str, list[pd.DataFrame]]


@dataclass(frozen=True)
class Wrapped:
    """An answer in a record."""

    inside: Told
    number: int = 0


def test_whoever_gets_an_answer_may_change_its_frames() -> None:
    kept, asked = Kept(1_000_000), []

    def answer() -> Wrapped:
        asked.append(1)
        rows = pd.DataFrame({"n": [1, 2]})
        return Wrapped(Told(rows, {"all": [rows]}))

    for _ in range(2):
        got = own(kept.get("answer", answer, size_of)).inside
        for frame in (got.rows, got.more["all"][0]):
            assert frame["n"].tolist() == [1, 2]
            frame.loc[0, "n"] = 99
            frame["new"] = 0
    assert len(asked) == 1
    assert own((1, "text", None)) == (1, "text", None)


def test_an_answer_is_as_large_as_its_frames() -> None:
    texts = pd.Series(["somebody"] * 100_000, dtype=pd.StringDtype("pyarrow", na_value=float("nan")))
    frame = pd.DataFrame({"n": range(100_000), "name": texts})
    one = size_of(frame)
    assert 1_600_000 < one < 3_200_000
    for kind in (object, pd.StringDtype("python")):
        assert 6_000_000 < size_of(frame.astype({"name": kind})) < 12_000_000
    assert 2 * one < size_of({"a": Told(frame, {"more": [frame]})}) < 2 * one + 2_000


ROWS = pd.DataFrame({"plan": ["free", "basic"], "now": [1.0, 2.0]})


def test_a_figure_is_drawn_when_it_is_needed_and_once_for_the_same_data(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(drawing, "_SPECS", Kept(10_000))

    @drawing.kept
    def bars(frame: pd.DataFrame, *, unit: charts.Unit) -> charts.Figure:
        drawn.append(1)
        return charts.Figure({"title": unit.title}, [drawing.bar(y=frame["now"].tolist())])

    first = bars(ROWS, unit=charts.ACCOUNTS)
    assert not drawn
    assert bars(ROWS.copy(), unit=charts.ACCOUNTS).json() == first.json() == first.json()
    assert len(drawn) == 1
    assert bars(ROWS.assign(now=3.0), unit=charts.ACCOUNTS).json() != first.json()
    assert bars(ROWS, unit=charts.ACCOUNTS.titled("people")).json() != first.json()
    assert len(drawn) == 3


def test_what_somebody_changed_is_not_what_others_get() -> None:
    def bars() -> charts.Figure:
        return charts.ranked_bars(ROWS, label="plan", value="now", unit=charts.COUNT)

    before, mine = bars().json(), bars()
    mine.update_layout(bargap=0.0).data[0]["marker"] = {"color": "red"}
    assert mine.json() != before == bars().json()
    tall = bars().changed(lambda fig: fig.update_layout(height=999), "tall")
    assert orjson.loads(tall.json())["layout"]["height"] == 999
    assert bars().json() == before


def test_functions_without_a_name_are_told_apart_by_what_they_do() -> None:
    def hover(word: str) -> charts.Figure:
        rows = ROWS.assign(mood="calm")
        names = {"row": "plan", "column": "mood", "value": "now", "row_title": "", "column_title": ""}
        return charts.cell_map(rows, unit=charts.COUNT, detail=lambda row: f"{word} {row['now']}", **names)

    assert hover("one").key == hover("one").key != hover("two").key
    assert b"two 2.0" in hover("two").json()


def test_a_table_is_written_once_for_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(tables, "_READY", Kept(100_000))
    monkeypatch.setattr(tables.numbers, "in_dollars", lambda value: written.append(value) or f"${value}")
    monkeypatch.setitem(tables._NUMERIC, "dollars", tables.numbers.in_dollars)

    def page(now: float) -> None:
        import pandas as pd

        from pages.components import tables
        from pages.components.numbers import ZoneInfo

        rows = pd.DataFrame({"plan": ["free", "basic"], "usd": [now, 2.0]})
        columns = [tables.Column("plan", "Plan", "slug"), tables.Column("usd", "Dollars", "dollars")]
        tables.show(rows, columns, key="money", zone=ZoneInfo("UTC"), search=False)

    for now, cells in ((1.0, 2), (1.0, 2), (3.0, 4)):
        shown = AppTest.from_function(page, kwargs={"now": now}).run()
        assert not shown.exception
        (table,) = shown.dataframe
        assert table.value["usd"].tolist() == [now, 2.0], "sorting is by value"
        seen = pa.ipc.open_stream(table.proto.arrow_data.styler.display_values).read_pandas()
        assert seen.to_dict("list") == {"plan": ["Free", "Basic"], "usd": [f"${now}", "$2.0"]}
        assert len(written) == cells
