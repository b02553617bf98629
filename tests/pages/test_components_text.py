"""What users wrote is shown, never obeyed: in markdown, in figures, in spreadsheets."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.components import tables, text

HOSTILE = [
    "![x](http://evil.example/p.png)",
    "[x](javascript:alert(1))",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "$$\\frac{1}{2}$$",
    ":red[stop] :material/home: :smile:",
    "# title\n- list\n1. one\n> quote",
    "http://evil.example www.evil.example me@evil.example",
    "| a | b |\n|---|---|",
    "`code` *b* __b__ ~~s~~",
    "\u202egnp.exe\u202c",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_markdown_of_user_text_keeps_no_mark_unescaped(hostile: str) -> None:
    escaped = text.escape_markdown(hostile)
    for place, character in enumerate(escaped):
        if character in "`*_{}[]()<>#!|~$^&=-+.:":
            assert escaped[place - 1] == "\\", f"{character!r} stands unescaped in {escaped!r}"
    assert "\n" not in escaped
    assert "\u202e" not in escaped
    for address in ("http\\://", "www\\.", "me@"):
        assert address not in escaped, "addresses would become links"


def test_what_is_escaped_reads_the_same() -> None:
    told = "5 * 3 = 15 (not 16): a_b"
    shown = text.escape_markdown(told).replace("\\", "").replace("\u2060", "")
    assert shown == told


def test_a_figure_shows_tags_and_obeys_none() -> None:
    assert text.figure_text("<a href='http://evil'>x</a>", 80) == "&lt;a href='http://evil'&gt;x&lt;/a&gt;"
    assert text.figure_paragraph("<b>one</b> two", width=40) == "&lt;b&gt;one&lt;/b&gt; two"
    broken = text.figure_paragraph("word " * 100, width=20, lines=3)
    assert broken.count("<br>") == 2
    assert broken.endswith("…")


def test_csv_neutralises_headers_and_cells_and_keeps_numbers() -> None:
    frame = pd.DataFrame({"=user": ["=1+1", 'ok, "quoted"'], "amount_uc": [-5, 7], "share": [0.25, None]})
    data = tables.csv_bytes(frame)
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"))))
    assert rows == [["'=user", "amount_uc", "share"], ["'=1+1", "-5", "0.25"], ['ok, "quoted"', "7", ""]]


def test_csv_writes_instants_with_their_offset() -> None:
    frame = pd.DataFrame({"at": pd.to_datetime(["2025-03-03T12:00:00+01:00"]).tz_convert("Europe/Berlin")})
    assert b"2025-03-03T12:00:00+01:00" in tables.csv_bytes(frame)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("basic_annual", "Basic annual"),
        ("free", "Free"),
        ("dalle-3-hd", "dalle-3-hd"),
        ("Für Elise", "Für Elise"),
        ("", ""),
    ],
)
def test_identifiers_become_words_and_names_stay(name: str, title: str) -> None:
    assert text.title_of(name) == title


def test_a_list_in_a_sentence() -> None:
    assert [text.sentence_list(list("abcde")[:n]) for n in range(5)] == [
        "none",
        "a",
        "a and b",
        "a, b and c",
        "a, b, c and 1 more",
    ]


def test_states_show_hostile_words_as_words() -> None:
    def page() -> None:
        from pages.components import states

        states.failed("**[x](http://evil)**", "<b>", "![x](http://evil)", detail="![x](http://evil)")

    shown = AppTest.from_function(page).run()
    assert not shown.exception
    assert "](" not in shown.markdown[0].value
    assert shown.text[0].value == "![x](http://evil)"
