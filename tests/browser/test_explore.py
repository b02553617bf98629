"""From a question to the rows behind one of its points, and back, in a browser."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from playwright.sync_api import Locator, Page, TimeoutError, expect

from tests.browser.conftest import Dashboard, idle, sound, visit

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

#: Half a second each.
TRIES = 20


def press(page: Page, mark: str, number: int) -> None:
    """Click where a figure's mark is: Plotly listens on a layer above its marks, once it has drawn."""
    x, y = pointed_at(page, page.locator(mark).nth(number))
    page.mouse.click(x, y)
    expect(page).to_have_url(re.compile("point="))
    idle(page)


def pointed_at(page: Page, mark: Locator) -> tuple[float, float]:
    """Where the mouse is, once Plotly says beside it what it points at."""
    for _ in range(TRIES):
        box = mark.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x - 4, y)
        page.mouse.move(x, y, steps=3)
        with suppress(TimeoutError):
            page.locator(".hoverlayer > g").first.wait_for(timeout=500)
            return x, y
    raise AssertionError("Plotly told nothing of the mark under the mouse")


def test_a_click_on_a_bar_shows_its_rows_and_the_address_keeps_them(dashboard: Dashboard, page: Page) -> None:
    visit(page, f"{dashboard.url}/question?metric=Requests&by=Plan&chart=Bars")
    press(page, ".js-plotly-plot .barlayer .point path", 0)

    expect(page.locator(".st-key-point")).to_contain_text("Rows behind plan")
    expect(page).to_have_url(re.compile("point=plan%3D"))
    shared = page.url

    visit(page, shared)
    expect(page.locator(".st-key-point")).to_contain_text("Rows behind plan")
    page.get_by_role("button", name="Close").click()
    expect(page).not_to_have_url(re.compile("point"))
    idle(page)
    sound(page)


def test_a_click_on_a_line_shows_its_day(dashboard: Dashboard, page: Page) -> None:
    visit(page, f"{dashboard.url}/question?metric=Requests")
    press(page, ".js-plotly-plot .scatterlayer .points path.point", 5)

    expect(page.locator(".st-key-point")).to_contain_text("Rows behind")
    expect(page).to_have_url(re.compile("point=day%3D"))
    sound(page)
