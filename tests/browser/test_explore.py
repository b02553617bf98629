"""From a question to the rows behind one of its points, and back, in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Dashboard, idle, sound, visit

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def ask(page: Page, dashboard: Dashboard, question: str) -> None:
    """Open a question by way of the front page: a cold process covers a deep address with a notice."""
    visit(page, dashboard.url)
    visit(page, f"{dashboard.url}/question?{question}")


def press(page: Page, mark: str, number: int) -> None:
    """Click where a figure's mark is: Plotly listens on a layer above its marks."""
    # Plotly listens once it has drawn.
    page.wait_for_timeout(1_500)
    box = page.locator(mark).nth(number).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 4, y)
    page.mouse.move(x, y, steps=3)
    page.wait_for_timeout(500)
    page.mouse.click(x, y)
    expect(page).to_have_url(re.compile("point="))
    idle(page)


def test_a_click_on_a_bar_shows_its_rows_and_the_address_keeps_them(dashboard: Dashboard, page: Page) -> None:
    ask(page, dashboard, "metric=Requests&by=Plan&chart=Bars")
    press(page, ".js-plotly-plot .barlayer .point path", 0)

    expect(page.locator(".st-key-point")).to_contain_text("Rows behind plan")
    assert "point=plan%3D" in page.url
    shared = page.url

    visit(page, shared)
    expect(page.locator(".st-key-point")).to_contain_text("Rows behind plan")
    page.get_by_role("button", name="Close").click()
    idle(page)
    assert "point" not in page.url
    sound(page)


def test_a_click_on_a_line_shows_its_day(dashboard: Dashboard, page: Page) -> None:
    ask(page, dashboard, "metric=Requests")
    press(page, ".js-plotly-plot .scatterlayer .points path.point", 5)

    expect(page.locator(".st-key-point")).to_contain_text("Rows behind")
    assert "point=day%3D" in page.url
    sound(page)
