"""The ten questions of docs/tutorial.md, walked by the clicks that it names, on one server; no more than four each."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Dashboard, idle, sound, visit

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

TUTORIAL = (Path(__file__).resolve().parents[2] / "docs/tutorial.md").read_text()
MOST_CLICKS = 4
#: Tables are canvases: a row is found by its place.
ROW_PX, BOX_PX = 35, 120
OPENING = ("reserve", "library", "defer", "rate_limited", "rejected")


class Walk:
    """A question's way: every click is counted, and must be named in the question's part of the tutorial."""

    def __init__(self, page: Page, dashboard: Dashboard, number: int) -> None:
        self.page, self.dashboard, self.clicks = page, dashboard, 0
        (self.told,) = re.findall(rf"^## {number}\. .*?(?=^## |\Z)", TUTORIAL, re.S | re.M)

    def click(self, name: str) -> None:
        """Click what the tutorial calls ``**name**``: a page, a button or a choice."""
        assert f"**{name}**" in self.told, f"the tutorial does not say to click {name}"
        link = self.page.get_by_test_id("stSidebarNavLink").filter(has_text=name)
        (link if link.count() else self.page.get_by_role("button", name=name, exact=False).or_(
            self.page.get_by_role("radio", name=name))).first.click()  # fmt: skip
        self._counted()

    def row(self, number: int, table: int = 0) -> None:
        """Click a row of a table."""
        assert " row" in self.told
        rows = self.page.get_by_test_id("stDataFrame").nth(table)
        rows.scroll_into_view_if_needed()
        idle(self.page)
        rows.click(position={"x": BOX_PX, "y": ROW_PX * (number + 1) + ROW_PX // 2}, force=True)
        self._counted()

    def says(self, words: str | re.Pattern[str]) -> None:
        """The answer is there to be read."""
        expect(self.page.get_by_text(words).first).to_be_visible()

    def heading(self, words: str) -> None:
        """The part of the page that the tutorial names."""
        assert f"*{words}*" in self.told
        expect(self.page.get_by_role("heading", name=words)).to_be_visible()

    def place_of_somebody_answered(self) -> int:
        """The first row of the list of users with an answer among the entries on screen."""
        users = [
            user
            for (user,) in self.by_sql("SELECT user_id FROM users WHERE user_id LIKE 'user-%' ORDER BY user_id LIMIT 8")
        ]
        return [any(self.answers_of(user)) for user in users].index(True)

    def answers_of(self, user: str) -> list[bool]:
        """Which of a user's newest entries answered a request."""
        found = self.by_sql(
            f"SELECT kind IN {OPENING} AND rule IS NOT NULL FROM ledger_entries WHERE user_id = '{user}' "
            "ORDER BY occurred_at DESC, seq DESC LIMIT 8"
        )
        return [bool(answered) for (answered,) in found]

    def by_sql(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.dashboard.ledger.removeprefix("sqlite:///"))) as connection:
            return connection.execute(statement).fetchall()

    def _counted(self) -> None:
        self.clicks += 1
        idle(self.page)


def plan_against_pace(walk: Walk) -> None:
    walk.click("Burn rate")
    walk.says(re.compile(r"Fastest against its pace: .*, at [\d ,.\u202f]+%"))


def cell_at_risk(walk: Walk) -> None:
    walk.click("Coverage")
    walk.click("Credits at risk")
    walk.says(re.compile(r"Most: .+ × .+, [\d.\u202f]+ ?credits?"))


def running_out(walk: Walk) -> None:
    walk.heading("Running out this week")
    walk.says(re.compile("will run out before"))


def releases_changed(walk: Walk) -> None:
    walk.click("Explore")
    walk.click("Views")
    walk.click("What did the releases change?")
    walk.says(re.compile("^Fresh rate: "))
    versions = {
        str(row[0])
        for row in walk.by_sql(
            "SELECT DISTINCT config_version FROM ledger_entries WHERE rule IS NOT NULL "
            "AND occurred_at >= (SELECT max(occurred_at) FROM ledger_entries) - 26 * 86400000000"
        )
    }
    ticks = walk.page.locator(".js-plotly-plot .ytick text")
    for version in versions:
        expect(ticks.filter(has_text=re.compile(f"^{version}$")).first).to_be_attached()


def model_that_fails(walk: Walk) -> None:
    walk.click("Operations")
    walk.heading("Models")
    walk.says(re.compile(r"Fails most: .+, [\d.]+\u202f% of"))


def burn_to_come(walk: Walk) -> None:
    walk.click("Burn rate")
    walk.says(re.compile(r"By \d+.\w+.\d+.*expected, .* in 9 of 10"))


def since_yesterday(walk: Walk) -> None:
    walk.heading("What changed since yesterday")
    walk.says(re.compile(r"The last 24 hours against the 24 before"))
    walk.click("Plans")


def library_next(walk: Walk) -> None:
    walk.click("Coverage")
    walk.heading("Pantry queue")
    walk.says(re.compile(r"[Tt]he next (\d+ cells|cell) of the queue had"))


def price_to_pay(walk: Walk) -> None:
    walk.click("Economics")
    walk.heading("What another price would have meant")
    walk.says(re.compile(r"It pays for its providers from \$[\d.\u202f]+ a cycle on"))


def why_this_answer(walk: Walk) -> None:
    walk.click("Users")
    field = walk.page.get_by_label("User", exact=True)
    field.fill("user-")
    field.press("Enter")
    walk.page.wait_for_url("**find=user-**")
    idle(walk.page)
    walk.row(walk.place_of_somebody_answered())
    walk.page.wait_for_url("**user=**")
    idle(walk.page)
    (user,) = re.findall("user=([^&]+)", walk.page.url)
    walk.row(walk.answers_of(user).index(True), walk.page.get_by_test_id("stDataFrame").count() - 1)
    expect(walk.page.get_by_role("heading", name="Why this answer")).to_be_visible()
    walk.says("Recomputed from what was logged: equal to the last bit.")


WALKS: tuple[Callable[[Walk], None], ...] = (
    plan_against_pace, cell_at_risk, running_out, releases_changed, model_that_fails, burn_to_come, since_yesterday, library_next,
    price_to_pay, why_this_answer,
)  # fmt: skip


def test_every_question_of_the_tutorial_is_answered_within_four_clicks(dashboard: Dashboard, page: Page) -> None:
    assert len(re.findall(r"^## \d+\. .*\?$", TUTORIAL, re.M)) == len(WALKS) == 10
    visit(page, dashboard.url)
    # The links to the other pages are on every page: whoever does not stay on Overview need not go back to it.
    stay = [number for number, answered in enumerate(WALKS, 1) if answered in (running_out, since_yesterday)]
    for number in (*stay, *(number for number in range(1, 11) if number not in stay)):
        walk = Walk(page, dashboard, number)
        assert (number in stay) == ("Stay on Overview" in walk.told)
        WALKS[number - 1](walk)
        sound(page)
        assert walk.clicks <= MOST_CLICKS, walk.told
