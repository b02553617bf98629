"""The demo shows everything the dashboard can show, and happened when it says it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from credit_core import CreditCore
from credit_core.importers import demo, demo_rewards
from credit_core.importers.frame import Summary
from credit_core.service import configure
from credit_core.store import rewards

END = datetime(2025, 4, 2, 19, 30, tzinfo=UTC)
START = datetime(2025, 2, 16, tzinfo=UTC)
# One worker makes the demo, once.
pytestmark = pytest.mark.xdist_group("demo")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CreditCore, Summary]]:
    """150 users over 45 days."""
    url = f"sqlite:///{tmp_path_factory.mktemp('demo') / 'demo.db'}"
    summary = demo.make(url, END, users=150, days=45, seed=3)
    with CreditCore.open(url) as core:
        yield core, summary


def rows(core: CreditCore, query: str) -> list[Any]:
    with core.deployment.ledger.reading() as connection:
        return list(connection.execute(text(query)).all())


def us(at: datetime) -> int:
    return round(at.timestamp() * 1e6)


def test_every_row_is_accounted_for_and_nothing_is_wrong(made: tuple[CreditCore, Summary]) -> None:
    core, summary = made
    assert summary.accounted == summary.rows_read == summary.new > 2_000
    assert (summary.reject_file, summary.known, summary.users, core.users()) == (0, 0, 150, 150)
    assert core.verify() == []


def test_every_phenomenon_occurs(made: tuple[CreditCore, Summary]) -> None:
    core, summary = made
    assert set(summary.rules) == {
        "controller",
        "coverage_miss",
        "session_cap",
        "unaffordable",
        "at_cap",
        "rate_limited",
        "over_limit",
        "allowed",
    }
    assert min(summary.swept, summary.late_settles, summary.deferred, summary.library, summary.settled) > 0
    ends = Counter(reason for (reason,) in rows(core, "SELECT reason FROM ledger_entries WHERE kind = 'release'"))
    assert ends["provider_error"] > 0
    assert {kind for (kind,) in rows(core, "SELECT DISTINCT kind FROM ledger_entries")} >= {
        "grant",
        "rollover",
        "rejected",
    }
    assert {mode for (mode,) in rows(core, "SELECT DISTINCT mode FROM accounts")} == {"conserve", "steady", "spend"}
    titrated = (
        "SELECT plan FROM accounts WHERE account_id IN (SELECT account_id FROM ledger_entries WHERE p IS NOT NULL)"
    )
    assert {plan for (plan,) in rows(core, titrated)} == set(demo.parameters()["plans"])
    assert len(rows(core, "SELECT DISTINCT region FROM accounts WHERE kind = 'user'")) == 4
    drawn = "SELECT DISTINCT model FROM ledger_entries WHERE p IS NOT NULL AND model IS NOT NULL"
    assert {model for (model,) in rows(core, drawn)} == {"dalle-3-hd", "stable-diffusion-xl"}
    missed = rows(core, "SELECT DISTINCT genre, mood FROM ledger_entries WHERE miss")
    assert 0 < len(missed) < len(rows(core, "SELECT DISTINCT genre, mood FROM ledger_entries WHERE p IS NOT NULL")) / 2


def test_people_judge_what_they_got_and_like_fresh_ones_better(made: tuple[CreditCore, Summary]) -> None:
    core, _ = made
    means = dict(rows(core, "SELECT outcome, avg(value) FROM rewards GROUP BY 1"))
    assert means["fresh"] > means["library"] + 0.1
    assert {value for (value,) in rows(core, "SELECT DISTINCT value FROM rewards")} == {0.0, 0.6, 1.0}
    served = "SELECT count(*) FROM ledger_entries WHERE line = 1 AND rule IS NOT NULL AND outcome IS NOT NULL"
    ((requests,),), ((told,),) = rows(core, served), rows(core, "SELECT count(*) FROM rewards")
    assert 0.1 < told / requests < 0.35
    unlike = (
        "SELECT count(*) FROM rewards r LEFT JOIN ledger_entries e ON e.user_id = r.user_id AND e.request_id = r.request_id"
        " AND e.line = 1 AND e.rule IS NOT NULL AND e.parent_request_id IS NULL AND e.outcome = r.outcome"
        f" WHERE e.id IS NULL OR r.rewarded_at < e.occurred_at OR r.rewarded_at > {us(END)}"
    )
    assert rows(core, unlike) == [(0,)]
    unsettled = (
        "SELECT count(*) FROM rewards r WHERE r.outcome = 'fresh' AND NOT EXISTS (SELECT 1 FROM ledger_entries e"
        " WHERE e.user_id = r.user_id AND e.request_id = r.request_id AND e.kind = 'settle' AND e.occurred_at <= r.rewarded_at)"
    )
    assert rows(core, unsettled) == [(0,)], "nobody judges what never came"


def test_the_same_seed_has_the_same_rewards_and_another_has_others(made: tuple[CreditCore, Summary]) -> None:
    core, _ = made
    logged = rows(core, "SELECT user_id, request_id, outcome, rewarded_at, value FROM rewards ORDER BY 1, 2")
    found: dict[int, list[Any]] = {}
    for seed in (3, 4):
        judge = demo_rewards.judging(demo.parameters() | {"seed": seed}, END)
        with core.deployment.ledger.reading() as connection:
            said = [(one, judge(one)) for one in rewards.served(connection)]
        found[seed] = sorted(
            (one.user_id, one.request_id, one.outcome, us(told[1]), told[0]) for one, told in said if told is not None
        )
    assert found[3] == [tuple(row) for row in logged]
    assert found[4] != found[3]


def test_a_modest_share_lives_on_the_other_policies(made: tuple[CreditCore, Summary]) -> None:
    core, summary = made
    policies = dict(rows(core, "SELECT quota_policy, count(*) FROM ledger_entries WHERE rule IS NOT NULL GROUP BY 1"))
    assert set(policies) == {"titrated_monthly", "daily_count", "plan_credits", "prepaid", "guest_window"}
    assert policies["titrated_monthly"] > sum(policies.values()) / 2
    elsewhere = rows(
        core,
        "SELECT count(*) FROM accounts WHERE kind = 'user' AND plan NOT IN ({})".format(
            ", ".join(repr(plan) for plan in demo.parameters()["plans"])
        ),
    )[0][0]
    assert 0.05 < elsewhere / 150 < 0.3
    modalities = rows(core, "SELECT DISTINCT modality FROM ledger_entries WHERE quota_policy = 'plan_credits'")
    assert {modality for (modality,) in modalities} == {"text", "image", "video"}
    assert rows(core, "SELECT count(*) FROM lots WHERE kind = 'purchased' AND unit_price_usd_micro > 0")[0][0] > 0
    assert (
        rows(core, "SELECT count(*) FROM ledger_entries WHERE rule = 'over_limit' AND limit_name = 'session'")[0][0] > 0
    )
    assert summary.spent_uc is None, "credits of several units are never one sum"
    assert set(summary.spent_by_unit) >= {"titrated", "studio", "prepaid"}


def test_some_guests_sign_up_and_name_the_visit_that_they_came_from(made: tuple[CreditCore, Summary]) -> None:
    core, _ = made
    came = rows(
        core,
        "SELECT u.created_at, a.created_at FROM users u JOIN accounts a ON a.account_id = 'guest:' || u.guest_session",
    )
    guests = rows(core, "SELECT count(*) FROM accounts WHERE kind = 'guest'")[0][0]
    assert 0 < len(came) < guests
    assert all(guest_at < signed_up_at for signed_up_at, guest_at in came)


def test_entries_are_recorded_when_they_occur_and_end_with_the_present(made: tuple[CreditCore, Summary]) -> None:
    core, _ = made
    late = "SELECT count(*) FROM ledger_entries WHERE recorded_at <> occurred_at AND kind NOT IN ('grant', 'rollover', 'expire')"
    assert rows(core, late) == [(0,)]
    # Closings wait for the next midnight or the account's next request, never for the past.
    assert rows(core, "SELECT count(*) FROM ledger_entries WHERE recorded_at < occurred_at") == [(0,)]
    ((first, last),) = rows(core, "SELECT min(occurred_at), max(occurred_at) FROM ledger_entries")
    assert us(START) <= first < us(START + timedelta(days=1))
    assert us(END - timedelta(hours=2)) < last <= us(END)


def test_no_deferred_request_is_older_than_its_end(made: tuple[CreditCore, Summary]) -> None:
    core, summary = made
    dropped = rows(core, "SELECT occurred_at FROM ledger_entries WHERE reason = 'deferral_expired'")
    waiting = rows(core, "SELECT expires_at FROM deferrals")
    assert len(dropped) + len(waiting) == summary.deferred
    assert max(dropped) <= (us(END),) < min(waiting)


def test_configurations_change_at_their_hour_and_every_decision_bears_the_one_of_its_time(
    made: tuple[CreditCore, Summary],
) -> None:
    core, _ = made
    _, releases, live = configure.versions_and_releases(core.deployment)
    days = [0, 0, 24, 38, 42]
    assert [(release.released_at - START).days for release in releases] == days
    assert [release.released_at.hour for release in releases] == [0, 0, 9, 9, 9]
    assert [(release.version, release.action) for release in releases][-2:] == [(4, "release"), (3, "rollback")]
    assert live.version == 3
    times = [us(release.released_at) for release in releases] + [us(END) + 1]
    for release, begins, ends in zip(releases[1:], times[1:], times[2:], strict=False):
        span = f"occurred_at >= {begins} AND occurred_at < {ends} AND rule IS NOT NULL"
        assert rows(core, f"SELECT DISTINCT config_version FROM ledger_entries WHERE {span}") == [(release.version,)]


def test_what_was_asked_in_the_last_minutes_is_still_held(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("held")
    demo.make(f"sqlite:///{folder / 'whole.db'}", END, users=20, days=3)
    with CreditCore.open(f"sqlite:///{folder / 'whole.db'}") as core:
        ((reserved,),) = rows(core, "SELECT max(occurred_at) FROM ledger_entries WHERE kind = 'reserve'")
    until = datetime.fromtimestamp(reserved // 1_000_000, UTC) + timedelta(minutes=2)
    summary = demo.make(f"sqlite:///{folder / 'cut.db'}", until, users=20, days=3)
    assert summary.held > 0
    with CreditCore.open(f"sqlite:///{folder / 'cut.db'}") as core:
        held = rows(core, "SELECT reserved_at, expires_at FROM holds")
        assert len(held) == summary.held
        assert all(
            us(until) - 360_000_000 <= reserved_at and us(until) < expires_at for reserved_at, expires_at in held
        )
        assert core.verify() == []
