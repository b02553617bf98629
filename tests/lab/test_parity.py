"""Decided again with its own version, every decision of a real ledger comes out as it was logged (SPEC 7, parity)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from credit_core import CreditCore, Request
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.sync import Facts
from credit_core.importers import demo
from credit_core.lab import preview, sample
from credit_core.policy.config import apply_changes
from credit_core.service import catalog as catalogue
from credit_core.settings import catalog_folder
from tests.service.scenes import StoppedClock, make_live

END = datetime(2025, 4, 2, 12, tzinfo=UTC)
ALWAYS = Filters(Period(END - timedelta(days=365), END + timedelta(days=365)))
CATALOG = catalogue.read(catalog_folder()).catalog


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facts]:
    """A small demo: four versions, several plans, cells, binges, failures, deferrals."""
    url = f"sqlite:///{tmp_path_factory.mktemp('parity') / 'demo.db'}"
    demo.make(url, END, users=60, days=40, seed=11)
    opened = Facts.open(url)
    opened.follow()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def logged(facts: Facts) -> sample.Logged:
    frame = sample.recent(facts, ALWAYS, 1_000_000)
    return sample.prepare(frame, sample.configs_of(facts, frame))


def test_every_decision_comes_out_as_logged_under_its_own_version(logged: sample.Logged) -> None:
    assert len(logged) > 1_000
    assert len(logged.configs) >= 3
    assert {"controller", "coverage_miss"} <= set(logged.frame["rule"])
    assert preview.disagreements(logged).empty


def test_another_version_s_decisions_would_be_noticed(logged: sample.Logged) -> None:
    """The guard fires: with one version for all, those of the others differ."""
    one = next(iter(logged.configs.values()))
    other = apply_changes(one.body(), {"controller.k": 0.5})
    mixed = sample.prepare(logged.frame, dict.fromkeys(logged.configs, other))
    assert len(preview.disagreements(mixed)) > len(logged) / 2


def test_the_live_side_of_the_preview_is_what_was_logged(logged: sample.Logged) -> None:
    """Decisions of one version, decided again by it: fresh, credits and p are the ledger's own."""
    number = int(logged.frame["config_version"].iloc[0])
    frame = logged.frame[logged.frame["config_version"] == number].reset_index(drop=True)
    few = sample.prepare(frame, logged.configs)
    decided = preview.decide_again(few, logged.configs[number], CATALOG)
    side = preview.compare(few, decided, decided).live
    fresh = frame["outcome"] == "fresh"
    assert side.fresh == int(fresh.sum())
    assert side.credits_uc == int(frame.loc[fresh, "cost_uc"].sum())
    assert decided.p.tolist() == frame["p"].tolist()
    models = frame.loc[fresh, ["model", "images"]]
    known = {name: model.provider_cost_usd for name, model in CATALOG.models.items()}
    prices = {name: round(usd * 1_000_000) for name, usd in known.items() if usd is not None}
    assert side.provider_usd_micro == sum(prices[m] * int(n) for m, n in models.itertuples(index=False))


@pytest.mark.parametrize("strategy", ["affordable", "reserve", "weighted", "zones", "novelty", "thompson"])
def test_decisions_of_every_strategy_come_out_as_logged(sqlite_ledger: str, clock: StoppedClock, strategy: str) -> None:
    with CreditCore.open(sqlite_ledger, clock=clock) as core:
        make_live(core, {"controller.strategy": strategy, "limits.enabled": False})
        core.add_user("ada", "basic", at=clock.now)
        core.library.put("noir", "calm", 16, at=clock.now)
        for number in range(40):
            mood = ("calm", "dark")[number % 3 == 0]
            core.authorize(
                Request("ada", f"r-{number}", "s", genre="noir", mood=mood), at=clock.advance(minutes=20 * (number % 5))
            )
    opened = Facts.open(sqlite_ledger)
    opened.follow()
    frame = sample.recent(opened, ALWAYS, 1_000)
    assert set(frame["strategy"]) == {strategy}
    assert preview.disagreements(sample.prepare(frame, sample.configs_of(opened, frame))).empty
    opened.close()
