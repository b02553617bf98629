"""What is kept is made once, within its bounds; a figure is kept by its data, and never what somebody changed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import orjson
import pandas as pd
import pytest

from pages.components import charts
from pages.components.charts import drawing
from pages.components.kept import Kept


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
