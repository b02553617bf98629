"""The headroom strategy on the real trace, chosen on one half of the users and measured on the other (decision 0007)."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, pstdev
from typing import NamedTuple

import pytest

from credit_core.policy.sections import Strategies
from credit_core.policy.strategies import headroom, reserve
from credit_core.policy.surplus import on_pace

TRACE = Path(__file__).resolve().parents[3] / "shared" / "data" / "gentd26_requests.csv"
START, L, Q = datetime(2024, 11, 15, tzinfo=UTC), 17.0, 113.0
#: (balance, cost, days left, largest request so far) → fresh
Law = Callable[[float, float, float, float], float]


class Outcome(NamedTuple):
    efficiency: float
    dry_share: float
    thirds: list[float]

    @property
    def unevenness(self) -> float:
        """Coefficient of variation of heavy users' fresh share by third of the cycle."""
        return pstdev(self.thirds) / mean(self.thirds)


@pytest.fixture(scope="module")
def halves() -> dict[int, dict[str, list[tuple[float, float]]]]:
    if not TRACE.exists():
        pytest.skip("the shared trace is not here")
    users: dict[int, dict[str, list[tuple[float, float]]]] = {0: defaultdict(list), 1: defaultdict(list)}
    with TRACE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["gmt_create"]).replace(tzinfo=UTC)
            half = hashlib.blake2b(row["groupId"].encode(), digest_size=1).digest()[0] & 1
            cost = float(row["num_images_per_prompt"] or 1)
            users[half][row["groupId"]].append(((at - START).total_seconds() / 86_400.0, cost))
    for half in users.values():
        for requests in half.values():
            requests.sort(key=lambda request: request[0])
    return users


def served(users: dict[str, list[tuple[float, float]]], law: Law) -> Outcome:
    spent = affordable = dry = 0.0
    heavy = 0
    fresh, asked = [0.0] * 3, [0.0] * 3
    for requests in users.values():
        balance, largest = Q, 0.0
        demand = sum(cost for _, cost in requests)
        ran_out: float | None = None
        for at, cost in requests:
            third = min(int(3 * at / L), 2)
            asked[third] += cost if demand > Q else 0.0
            if cost > balance:
                ran_out = at if ran_out is None else ran_out
            elif law(balance, cost, L - at, largest):
                balance -= cost
                fresh[third] += cost if demand > Q else 0.0
            largest = max(largest, cost)
        spent += Q - balance
        affordable += min(Q, demand)
        heavy += demand > Q
        dry += 0.0 if ran_out is None else 1.0 - ran_out / L
    return Outcome(spent / affordable, dry / heavy, [f / a for f, a in zip(fresh, asked, strict=True)])


def floor_of(rho: float) -> Law:
    return lambda balance, cost, left, _: reserve(rho, balance, cost, on_pace(Q, L, left))


def shipped(balance: float, cost: float, left: float, largest: float) -> float:
    s = Strategies()
    return headroom(
        s.headroom_rho, s.headroom_requests, s.headroom_most, s.headroom_until, balance, cost, on_pace(Q, L, left), Q,
        max(largest, cost), left / L,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rho", "efficiency", "dry_share"),
    [(0.1, 0.992, 0.136), (0.2, 0.985, 0.060), (0.3, 0.978, 0.026), (0.5, 0.964, 0.003)],
)
def test_a_plain_floor_does_as_measured_before(
    halves: dict[int, dict[str, list[tuple[float, float]]]], rho: float, efficiency: float, dry_share: float
) -> None:
    found = served(halves[1], floor_of(rho))
    assert (round(found.efficiency, 3), round(found.dry_share, 3)) == (efficiency, dry_share)


def test_a_floor_that_learns_is_beyond_the_line_of_plain_floors(
    halves: dict[int, dict[str, list[tuple[float, float]]]],
) -> None:
    found = served(halves[1], shipped)
    assert found.efficiency >= 0.985
    assert found.dry_share <= 0.03
    assert found.unevenness <= min(served(halves[1], floor_of(rho)).unevenness for rho in (0.2, 0.3))
    assert (round(found.efficiency, 4), round(found.dry_share, 4)) == (0.9875, 0.0069)
