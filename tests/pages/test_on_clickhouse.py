"""The dashboard on ClickHouse: pages read the copy that a loader filled, and tie it out against the ledger."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from credit_core.analytics.opening import open_loader
from credit_core.settings import ANALYTICS_VARIABLE
from tests.pages.conftest import OpenPage
from tests.pages.reading import sentence

AT = "chdb://memory/dashboard"


@pytest.fixture
def loaded(market_ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A ledger whose copy stands on ClickHouse, in this process."""
    path = tmp_path / "own.db"
    shutil.copy(market_ledger.removeprefix("sqlite:///"), path)
    url = f"sqlite:///{path}"
    loader = open_loader(url, AT)
    loader.follow()
    monkeypatch.setenv(ANALYTICS_VARIABLE, AT)
    yield url
    loader.close()


def test_pages_read_what_the_loader_filled(loaded: str, open_page: OpenPage) -> None:
    page = open_page(loaded, "integrity")
    assert not page.exception
    assert any("on ClickHouse, in the database dashboard" in one.value for one in page.caption)
    assert "The figures of this dashboard equal the ledger's sums." in sentence(page)
    for stem in ("burn_rate", "economics", "explore"):
        page = open_page(loaded, stem)
        assert not page.exception
        assert page.get("plotly_chart")
    assert any("join_use_nulls = 1" in block.value for block in page.code), (
        "Explore shows the SQL that ClickHouse was asked"
    )


def test_without_a_server_the_page_says_what_to_check(
    market_ledger: str, tmp_path: Path, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.db"
    shutil.copy(market_ledger.removeprefix("sqlite:///"), path)
    monkeypatch.setenv(ANALYTICS_VARIABLE, "clickhouse://somebody:secret@127.0.0.1:9/titrate")
    page = open_page(f"sqlite:///{path}", "overview")
    assert not page.exception
    shown = " ".join(one.value for one in (*page.error, *page.markdown, *page.caption, *page.code, *page.text))
    assert "Check the server and CREDITS_ANALYTICS_URL" in shown
    assert "secret" not in shown
