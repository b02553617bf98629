"""Tuning in a browser: a slider is let go, figures of a sample come at once, those of all accounts take their place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from credit_core.importers import demo
from tests.browser import tuning_times
from tests.browser.conftest import Dashboard, _served, idle, sound, visit

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

#: More than a sample's worth.
USERS = 420
#: Notes what the page says of whom its figures are, in the order in which it says it.
LISTEN = """() => {
    window.__said = [];
    const look = () => {
        const words = document.body.innerText.match(/Sample of \\d+|All \\d+.accounts/);
        if (words && window.__said.at(-1) !== words[0]) window.__said.push(words[0]);
    };
    look();
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A server on a ledger with so many accounts that a sample is drawn."""
    folder = tmp_path_factory.mktemp("many")
    ledger = folder / "demo.db"
    demo.make(f"sqlite:///{ledger}", datetime.now(UTC), users=USERS, days=8, seed=3)
    with _served(Path(ledger), tmp_path_factory.mktemp("server")) as running:
        yield running


def test_a_slider_let_go_shows_a_sample_and_then_all_accounts(many: Dashboard, page: Page) -> None:
    visit(page, many.url)
    visit(page, f"{many.url}/controller")
    expect(page.get_by_text(re.compile(r"All \d+.accounts"))).to_be_visible(timeout=120_000)
    idle(page)
    rate = page.locator(".st-key-kpi_tuning_preview_0_0")
    before = rate.inner_text()

    page.evaluate(LISTEN)
    page.locator(".st-key-tune_controller-k").get_by_role("slider").press("End")
    expect(page.get_by_text(re.compile("1 change to version"))).to_be_visible()
    page.wait_for_function("() => window.__said.length > 2")
    idle(page)

    as_it_was, sample, whole = page.evaluate("window.__said")
    assert sample.startswith("Sample of")
    assert whole == as_it_was, "all accounts again"
    expect(rate).to_contain_text("points")
    assert rate.inner_text() != before
    expect(page.get_by_role("heading", name="Who gains")).to_be_visible()
    expect(page.get_by_role("heading", name="By plan and segment")).to_be_visible()
    sound(page)

    # A draft saves itself: without it the next test finds the slider where it can go no further.
    page.locator(".st-key-tune_reset_controller-k").get_by_role("button").click()
    expect(page.get_by_text("Nothing changed yet.")).to_be_visible()
    idle(page)
    assert rate.inner_text() == before


def test_how_long_a_slider_takes_can_be_measured(many: Dashboard, page: Page) -> None:
    """``python -m tests.browser.tuning_times`` on a small ledger: the cards are there before the charts."""
    found = tuning_times.measure(page, many, steps=2)
    assert all(0.0 < cards <= charts for cards, charts in zip(found.cards_ms, found.charts_ms, strict=True))
    assert re.fullmatch(r"cards \d+ ms .*, charts \d+ ms .*; 2 steps, load .*", found.words())
