"""In the browser: release to 10 %, let a bad configuration breach a guardrail, see it rolled back with the reason and the marks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, expect

from credit_core import CreditCore, Request
from credit_core.cli import main
from credit_core.service import configure, staging
from credit_core.service.deployment import arm_of
from tests.browser.conftest import Dashboard, idle, sound, visit
from tests.browser.test_walk import go

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

#: Serves next to nothing fresh.
BAD = {"controller.p_min": 0.0, "controller.p_max": 1e-6}
EACH, ASKED = 6, 6
REASON = "Provider cost has to come down"


def test_a_bad_configuration_released_to_a_tenth_is_rolled_back_by_its_guardrail(
    dashboard: Dashboard, page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    with CreditCore.open(dashboard.ledger) as core:
        before = configure.live_version(core.deployment).version
        bad = core.propose(BAD, "mira", "Save credits")
        begins(dashboard, page, bad)
        (found,) = staging.staged(core.deployment)
        assert (found.plan.version, found.standing.status, found.plan.steps[0].share) == (bad, "running", 0.1)
        decides(core)
        capsys.readouterr()
        assert main(["watch", "--once", "--database", dashboard.ledger]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"Version {bad} (rollout 1) rolled back. Guardrail breached: Fresh rate 0.0 %")
        assert configure.live_version(core.deployment).version == before
    sees_why(dashboard, page, before)
    sees_the_mark(page)


def begins(dashboard: Dashboard, page: Page, bad: int) -> None:
    visit(page, dashboard.url)
    go(page, "Releases", "versions")
    page.get_by_role("button", name="Release in stages …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("combobox", name="Version")).to_have_value(f"{bad} · Save credits")
    least = dialog.locator(".st-key-versions_rail_fresh_rate").get_by_role("spinbutton", name="From n accounts")
    least.fill(str(EACH))
    least.press("Enter")
    idle(page)
    dialog.get_by_label("Reason, for those who ask later").fill(REASON)
    dialog.get_by_role("button", name=re.compile(r"Begin with 10\s% of accounts")).click()
    expect(page.get_by_text(re.compile(rf"Version {bad} is live for 10\s% of accounts"))).to_be_visible()
    idle(page)
    expect(page.get_by_text("Nobody watches this release")).to_be_visible()
    sound(page)


def decides(core: CreditCore) -> None:
    """New users of both arms ask for what only the controller decides."""
    core.config()
    for user in [*names_in(core, "treatment"), *names_in(core, "control")]:
        core.add_user(user, "basic")
        for number in range(ASKED):
            core.authorize(Request(user, f"asked-{number}", session_id="s"), at=datetime.now(UTC))


def names_in(core: CreditCore, arm: str) -> Iterator[str]:
    """Names that the experiment's hash puts into an arm."""
    rollout = configure.versions_and_releases(core.deployment)[2]
    names = (f"{arm}-{number}" for number in itertools.count())
    return itertools.islice((name for name in names if arm_of(f"user:{name}", rollout) == arm), EACH)


def sees_why(dashboard: Dashboard, page: Page, before: int) -> None:
    visit(page, f"{dashboard.url}/versions")
    expect(page.get_by_text(f"Version {before} is live for everybody, released").first).to_be_visible()
    told = page.get_by_test_id("stAlert").filter(has_text="Guardrail breached")
    expect(told).to_contain_text(re.compile(r"Fresh rate 0\.0 % against \d+\.\d % of control"))
    expect(told).to_contain_text(f"n = {EACH} accounts, {EACH} in control")
    sound(page)


def sees_the_mark(page: Page) -> None:
    """The newest mark lies at the right end of the chart, under where the pointer brings up the bar of buttons."""
    chart = page.locator(".js-plotly-plot", has=page.locator(".annotation-text", has_text=re.compile(r"^v\d"))).first
    mark = chart.locator(".annotation-text", has_text=re.compile(r"^v\d")).last
    mark.scroll_into_view_if_needed()
    idle(page)
    box = mark.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(chart.locator(".hoverlayer")).to_contain_text("Guardrail breached")
