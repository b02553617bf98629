"""Addresses typed into a process that nobody opened before; and every page on a phone, and in the dark."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Dashboard, OpenBrowserPage, idle, sound, visit

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

TITLES = {
    "": "Overview", "burn": "Burn rate", "library": "Coverage", "pace": "Surplus", "margins": "Economics", "health": "Operations",
    "question": "Explore", "controller": "Tuning",
    "laboratory": "Lab", "versions": "Releases", "people": "Users", "trust": "Integrity",
}  # fmt: skip
#: Files of ``pages/``: a cold process would run these bare, were it not for the guard.
STEMS = (
    "overview",
    "burn_rate",
    "coverage",
    "surplus",
    "operations",
    "explore",
    "tuning",
    "lab",
    "releases",
    "users",
    "integrity",
)
NONSENSE = "?plan=nonsense&region=%3Cscript%3E&period=never&compare=%00&range=2025-99-99..x"
PHONE = {"width": 390, "height": 844}


def some(names: Sequence[str], *always: str) -> list[Any]:
    """All ``names``; those not named ``always`` only in the long run, for each takes seconds."""
    return [name if name in always else pytest.param(name, marks=pytest.mark.deep) for name in names]


def framed(page: Page) -> None:
    """The bar and the line under it are there: whatever is shown is shown inside the frame."""
    expect(page.locator(".st-key-filter_bar")).to_be_visible()
    expect(page.get_by_text(re.compile(r"as of .*entries"))).to_be_visible()
    expect(page.get_by_test_id("stSidebarNavLink")).to_have_count(len(TITLES))


def titled(page: Page, title: str) -> None:
    """The page has this title, at once or soon."""
    expect(page.locator("h1").first).to_have_text(title)


def follow(page: Page, address: str) -> None:
    """Go to a page by its link, which a phone hides; what the browser has loaded stays, as it would not by the address."""
    page.evaluate(
        """address => [...document.querySelectorAll('[data-testid=stSidebarNavLink]')]
            .find(link => new URL(link.href).pathname === '/' + address).click()""",
        address,
    )
    page.wait_for_url(re.compile(rf"/{address}(\?.*)?$"))
    titled(page, TITLES[address])
    idle(page)


@pytest.mark.parametrize("address", some(tuple(TITLES), "people", "trust"))
def test_an_address_opens_its_page_in_a_cold_process(serve: Callable[[], Any], page: Page, address: str) -> None:
    with serve() as cold:
        visit(page, f"{cold.url}/{address}?period=cycle&compare=cycle&plan=basic")

        framed(page)
        titled(page, TITLES[address])
        expect(page).to_have_url(re.compile(r"\?period=cycle&compare=cycle&plan=basic$"))
        sound(page)


@pytest.mark.parametrize("stem", some(STEMS, "users"))
def test_the_name_of_a_file_runs_no_bare_page_in_a_cold_process(
    serve: Callable[[], Any], page: Page, stem: str
) -> None:
    with serve() as cold:
        visit(page, f"{cold.url}/{stem}")

        framed(page)
        sound(page)


@pytest.mark.parametrize("stem", some(STEMS, "overview", "burn_rate"))
def test_the_name_of_a_file_runs_no_bare_page(dashboard: Dashboard, page: Page, stem: str) -> None:
    visit(page, f"{dashboard.url}/{stem}")

    framed(page)
    expect(page.locator("h1").first).to_have_text(re.compile(f"^({'|'.join(TITLES.values())})$"))
    sound(page)


@pytest.mark.parametrize("address", some(tuple(TITLES), "", "controller"))
def test_nonsense_in_the_address_is_dropped(dashboard: Dashboard, page: Page, address: str) -> None:
    visit(page, f"{dashboard.url}/{address}{NONSENSE}")

    framed(page)
    titled(page, TITLES[address])
    # A range is read only with a custom period, so this one stands in the address unread.
    expect(page).not_to_have_url(re.compile("nonsense|script|never"))
    expect(page.locator(".st-key-filter_popover")).to_have_text(re.compile(r"^\W*Filters(?! ·)"))
    sound(page)


def test_every_page_fits_a_phone_and_renders_in_the_dark(
    dashboard: Dashboard, open_browser_page: OpenBrowserPage
) -> None:
    page = open_browser_page(viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2, color_scheme="dark")
    visit(page, dashboard.url)
    wide = {}
    for address in TITLES:
        follow(page, address)
        background, ink = page.evaluate(
            "['backgroundColor', 'color'].map(what => getComputedStyle(document.querySelector('[data-testid=stApp]'))[what])"
        )
        assert brightness(background) < 60 < 180 < brightness(ink)
        sound(page)
        scrolls, fits = page.evaluate("[document.scrollingElement.scrollWidth, window.innerWidth]")
        if scrolls > fits + 1 or fits > PHONE["width"]:
            wide[address] = (scrolls, fits)

    assert not wide


def brightness(colour: str) -> float:
    """The mean of red, green and blue of ``rgb(16, 23, 31)``."""
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 3
