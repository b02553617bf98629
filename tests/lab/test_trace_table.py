"""Pacing on the real trace: the table that was measured with other code comes out of the replay's kernel.

Each figure of the table is one draw of its law; eight draws of ours span between 0 (laws that draw nothing) and 0.02 in
efficiency and 0.06 in dry share. A figure fits where it lies within 0.01 and 0.03 of what ours span.
"""

from __future__ import annotations

import csv
import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from credit_core.lab import kernels, replay, workload
from credit_core.lab.compiling import compiled
from credit_core.lab.workload import Arrivals
from credit_core.policy.config import Config, apply_changes
from credit_core.policy.decision import draw
from credit_core.service import catalog as catalogue
from credit_core.settings import catalog_folder
from credit_core.units import DAY_US, MICRO

FOLDERS = [Path(__file__).resolve().parents[2] / up / "shared/data" for up in ("..", "../..")]
TRACE = next((folder / "gentd26_requests.csv" for folder in FOLDERS if folder.exists()), None)
pytestmark = pytest.mark.skipif(
    TRACE is None, reason="gentd26_requests.csv, which is not part of the product, is absent"
)
CATALOG = catalogue.read(catalog_folder()).catalog
DAYS, QUOTA, DRAWS = 17.0, 113, 8
START = datetime(2024, 11, 15, tzinfo=UTC)
#: No caps, no limits, nothing missing.
SETTING: dict[str, Any] = {
    "session.max_fresh": 100_000, "session.max_share": 1.0, "limits.enabled": False, "plans.basic.cap_multiple": 24.0,
}  # fmt: skip
FRESH = {"controller.strategy": "reserve", "strategies.reserve_rho": 0.0}
STEEP = {"controller.k": 0.0277259}
FED = {"controller.intercept": "feed_forward", "controller.tau0_days": 14.0}


def affordable(tau0: float) -> dict[str, Any]:
    # γ·A/(λ·d) itself, without the bounds on p.
    unbound = {"controller.p_min": 0.0, "controller.p_max": 1.0}
    return {"controller.strategy": "affordable", "controller.tau0_days": tau0} | unbound


def reserve(rho: float) -> dict[str, Any]:
    return {"controller.strategy": "reserve", "strategies.reserve_rho": rho}


class Half(NamedTuple):
    """Requests of the users of one half."""

    arrivals: Arrivals
    u01: list[np.ndarray[Any, np.dtype[np.float64]]]
    users: int
    pressed: int

    @property
    def demand_a_day(self) -> float:
        return float(self.arrivals.images.sum()) / self.users / DAYS


def half_of(user: str) -> int:
    return hashlib.blake2b(user.encode(), digest_size=1).digest()[0] & 1


@pytest.fixture(scope="module")
def halves() -> tuple[Half, Half]:
    assert TRACE is not None
    rows: list[tuple[str, int, int, int]] = []
    with TRACE.open(encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.DictReader(file)):
            at = datetime.fromisoformat(row["gmt_create"]).replace(tzinfo=UTC) - START
            images = int(float(row["num_images_per_prompt"] or 1))
            rows.append((row["groupId"], round(at.total_seconds() * MICRO), line, images))
    rows.sort()
    return _half(rows, 0), _half(rows, 1)


def _half(rows: list[tuple[str, int, int, int]], which: int) -> Half:
    own = [row for row in rows if half_of(row[0]) == which]
    names = sorted({row[0] for row in own})
    number = {name: place for place, name in enumerate(names)}
    account = np.array([number[row[0]] for row in own], dtype=np.int64)
    images = np.array([row[3] for row in own], dtype=np.int64)
    u01 = [np.array([draw(b"draw %d" % n, row[0], str(row[2])) for row in own]) for n in range(DRAWS)]
    at_us = np.array([row[1] for row in own], dtype=np.int64)
    wanted = np.bincount(account, images)
    return Half(
        Arrivals(account, at_us, images, u01[0], QUOTA * MICRO, DAYS, 0.0), u01, len(names), int((wanted > QUOTA).sum())
    )


def paced(halves: tuple[Half, Half], changes: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Efficiency and dry share on half 1, with λ₀ of half 0, draw by draw."""
    measured, half = halves
    config = apply_changes(Config().body(), SETTING | changes)
    world = workload.world_of(CATALOG, config, "basic", DAYS)
    period = replay.Period(0, round(DAYS * DAY_US), ())
    law = replay.govern([config], world, replay.models_of(CATALOG, world, {}), period, 0)
    efficiency, dry = [], []
    with ThreadPoolExecutor(2) as pool:
        for u01 in half.u01:
            arrivals = half.arrivals._replace(prior=measured.demand_a_day, u01=u01)
            sums = replay.play(workload.one_cycle(arrivals, half.users), law, compiled(kernels.replay), pool)[0].sums
            efficiency.append(float(sums["running_fresh_uc"].sum() / sums["running_budget_uc"].sum()))
            dry.append(float(sums["dry_share"].sum() / half.pressed))
    return efficiency, dry


def test_the_setting_is_that_of_the_findings(halves: tuple[Half, Half]) -> None:
    half = halves[1]
    assert (half.users, half.pressed) == (1_378, 23)
    affordable_share = np.minimum(np.bincount(half.arrivals.account, half.arrivals.images), QUOTA).sum()
    assert affordable_share / half.arrivals.images.sum() == pytest.approx(0.694, abs=0.0005)


@pytest.mark.parametrize(
    ("changes", "efficiency", "dry"),
    [
        pytest.param(FRESH, 0.998, 0.357, id="always fresh"),
        pytest.param({}, 0.751, 0.157, id="logistic, k 0.0025"),
        pytest.param(STEEP, 0.904, 0.111, id="logistic, k 0.0277"),
        pytest.param(FED, 0.96, (0.21, 0.28), id="logistic, k 0.0025, fed forward"),
        pytest.param(STEEP | FED, 0.96, (0.21, 0.28), id="logistic, k 0.0277, fed forward"),
        pytest.param(affordable(3.0), 0.978, 0.139, id="affordable, 3 days"),
        pytest.param(affordable(7.0), 0.986, 0.175, id="affordable, 7 days"),
        pytest.param(affordable(14.0), 0.991, 0.267, id="affordable, 14 days"),
        pytest.param(reserve(0.1), 0.992, 0.136, id="reserve 0.1"),
        pytest.param(reserve(0.2), 0.985, 0.060, id="reserve 0.2"),
        pytest.param(reserve(0.3), 0.978, 0.026, id="reserve 0.3"),
        pytest.param(reserve(0.5), 0.964, 0.003, id="reserve 0.5"),
    ],
)
def test_each_law_paces_the_trace_as_found(
    halves: tuple[Half, Half], changes: dict[str, Any], efficiency: float, dry: float | tuple[float, float]
) -> None:
    # Of the two fed forward the table tells what both came to together.
    least, most = dry if isinstance(dry, tuple) else (dry, dry)
    found, found_dry = paced(halves, changes)
    assert min(found) - 0.01 <= efficiency <= max(found) + 0.01
    assert min(found_dry) - 0.03 <= most
    assert least <= max(found_dry) + 0.03
