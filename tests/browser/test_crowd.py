"""Many people at once: everybody is answered, nobody sees an error, and the server does not grow with every change."""

from __future__ import annotations

import asyncio

import pytest
from playwright.sync_api import Page

from pages.components.warm import look
from tests.browser.conftest import Dashboard, free_port
from tests.browser.crowd import costs, watch
from tests.browser.repaint import repaints, told

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

MOST_BYTES = 3 * 2**29


@pytest.mark.deep
def test_twenty_people_change_filters_for_a_minute_and_all_are_answered(dashboard: Dashboard) -> None:
    seen = asyncio.run(watch(dashboard.url, dashboard.pid, sessions=20, seconds=60.0, pause_s=5.0))

    assert len(seen.opened_s) == 20
    assert len(seen.changed_s) >= 20 * 8
    assert seen.exceptions == 0
    assert seen.rss_bytes < MOST_BYTES


def test_pages_are_opened_before_anybody_comes(dashboard: Dashboard) -> None:
    port = int(dashboard.url.rsplit(":", 1)[1])

    assert look(port, ("", "question")) == 2
    assert look(port, ("", "question"), within_s=0.0) == 0


def test_where_no_server_is_nothing_is_opened_and_nothing_fails() -> None:
    assert look(free_port()) == 0


def test_three_people_at_once_are_all_answered(dashboard: Dashboard) -> None:
    seen = asyncio.run(watch(dashboard.url, dashboard.pid, sessions=3, seconds=1.0, pause_s=0.5))

    assert len(seen.opened_s) == 3
    assert len(seen.changed_s) >= 3
    assert seen.exceptions == 0


def test_what_was_asked_before_is_not_worked_out_again(dashboard: Dashboard) -> None:
    (overview,) = asyncio.run(costs(dashboard.url, dashboard.pid, pages=("",), changes=3))

    assert overview.kept_cpu_s < overview.cold_cpu_s / 2
    assert overview.elements > 50


def test_another_period_repaints_the_charts(dashboard: Dashboard, page: Page) -> None:
    found = repaints(page, dashboard, changes=2, pages=("",))

    assert [one.page for one in found] == ["overview"] * 2
    assert all(0 < one.first_ms <= one.last_ms for one in found)
    assert told(found)["changes"] == 2
