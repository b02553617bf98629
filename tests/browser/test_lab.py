"""The Lab in a browser: laws as numbered dots and as a table, a search for targets with its progress, rewards or a refusal."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Dashboard, idle, sound

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PHONE = {"width": 390, "height": 844}
#: Names beside dots that lie on one another or reach out of the figure.
COLLISIONS = """() => {
    const frame = document.querySelector('.st-key-lab_trade .js-plotly-plot').getBoundingClientRect();
    const boxes = [...document.querySelectorAll('.st-key-lab_trade .annotation-text')].map(one => one.getBoundingClientRect());
    const outside = boxes.filter(one => one.left < frame.left - 1 || one.right > frame.right + 1).length;
    const touch = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    return outside + boxes.flatMap((one, place) => boxes.slice(place + 1).filter(other => touch(one, other))).length;
}"""


def test_laws_targets_and_rewards(dashboard: Dashboard, page: Page) -> None:
    # The page looks for its result twice a second until it is there, so it does not stand still before.
    page.goto(f"{dashboard.url}/laboratory", wait_until="domcontentloaded")
    expect(page.get_by_text(re.compile(r"^Live reaches a pacing efficiency of"))).to_be_visible(timeout=60_000)
    numbers = page.locator(".st-key-lab_trade .textpoint")
    expect(numbers).to_have_count(18)
    idle(page)
    assert len(set(numbers.all_text_contents())) == 18
    expect(page.get_by_role("region", name="Laws on the same arrivals")).to_be_visible()
    assert page.evaluate(COLLISIONS) == 0
    page.set_viewport_size(PHONE)
    page.wait_for_function("() => document.querySelector('.st-key-lab_trade .js-plotly-plot').clientWidth < 390")
    idle(page)
    assert page.evaluate(COLLISIONS) == 0
    page.set_viewport_size({"width": 1440, "height": 1000})

    page.get_by_role("tab", name="Calibrate").click()
    seconds = page.get_by_role("spinbutton", name="Seconds at most")
    seconds.fill("5")
    seconds.press("Tab")
    page.locator(".st-key-lab_search button").click()
    expect(page.get_by_test_id("stProgress")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Asked for accounts with a run-out.* candidates tried"))).to_be_visible(
        timeout=60_000
    )
    expect(page.get_by_role("region", name="What differs")).to_be_visible()

    page.get_by_role("tab", name="Rewards").click()
    page.locator(".st-key-lab_estimate button").click()
    expect(page.get_by_text("No estimate is given.")).to_be_visible(timeout=60_000)
    expect(page.get_by_text(re.compile(r"the information of \d+ accounts; at least 50 are needed"))).to_be_visible()
    expect(page.locator(".st-key-lab_overlap-0 .js-plotly-plot")).to_be_visible()
    idle(page)
    sound(page)
