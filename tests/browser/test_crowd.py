"""Many people at once: everybody is answered, nobody sees an error, and the server does not grow with every change."""

from __future__ import annotations

import asyncio

import pytest

from tests.browser.conftest import Dashboard
from tests.browser.crowd import watch

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

MOST_BYTES = 3 * 2**29


@pytest.mark.deep
def test_twenty_people_change_filters_for_a_minute_and_all_are_answered(dashboard: Dashboard) -> None:
    seen = asyncio.run(watch(dashboard.url, dashboard.pid, sessions=20, seconds=60.0, pause_s=5.0))

    assert len(seen.opened_s) == 20
    assert len(seen.changed_s) >= 20 * 8
    assert seen.exceptions == 0
    assert seen.rss_bytes < MOST_BYTES


def test_three_people_at_once_are_all_answered(dashboard: Dashboard) -> None:
    seen = asyncio.run(watch(dashboard.url, dashboard.pid, sessions=3, seconds=1.0, pause_s=0.5))

    assert len(seen.opened_s) == 3
    assert len(seen.changed_s) >= 3
    assert seen.exceptions == 0
