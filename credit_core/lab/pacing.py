"""One cycle of made-up accounts under the whole policy, sums alone: how fast decisions can be taken.

Arrivals are drawn from a counter as they are needed, so that nothing but the sums is kept; interpreted and compiled they are
the same. Nothing is held or settled here: that is the replay's work (:mod:`credit_core.lab.kernels`).
"""

from __future__ import annotations

from credit_core.lab.tables import Records
from credit_core.policy import controller, decision, guardrails

_MODULUS = 2_147_483_647
_IDLE_DAYS = 1_800.0 / 86_400.0


def draw_next(seed: int) -> int:
    """The next state of Park and Miller's generator (multiplier 48 271): 31 bits, which no product of 64 bits overflows."""
    return seed * 48_271 % _MODULUS


def as_share(seed: int) -> float:
    """A state as a number in (0, 1)."""
    return seed / 2_147_483_647.0


def cycle(law: Records, first: int, last: int, requests: int, quota: float, cycle_days: float, sums: Records) -> None:
    """Accounts ``first`` up to ``last``, each with so many requests in its cycle, under ``law``.

    Adds to ``sums``: decisions, fresh, fresh credits, demand in credits, Σp, and decisions by rule from place 5 on.
    """
    gap = cycle_days / requests
    prior = 2.5 * requests / cycle_days
    for account in range(first, last):
        seed = draw_next(draw_next(account % 1_000_003 * 7_919 + 17))
        balance, demand, at, seen = quota, 0.0, 0.0, -1.0
        mode, shown, fresh, fresh_cost, opening = controller.STEADY, 0.0, 0, 0.0, quota
        largest = 0.0
        for _ in range(requests):
            seed = draw_next(seed)
            # Three of four requests come within a minute of the one before; the others make up for it.
            turn = as_share(seed)
            at = min(at + (0.0007 * turn if turn < 0.75 else 4.0 * gap * (2.0 * (turn - 0.75) / 0.25)), cycle_days)
            seed = draw_next(seed)
            images = 1.0 + float((seed >> 10) & 3)
            cell = as_share(seed)
            if seen < 0.0 or at - seen >= _IDLE_DAYS:
                shown, fresh, fresh_cost, opening = 0.0, 0, 0.0, balance
            seen = at
            seed = draw_next(seed)
            rate = controller.demand_rate(prior, law.tau0_days, demand, at)
            v = decision.evaluate(
                law,
                decision.Inputs(
                    False, False, False, balance, balance, quota, cycle_days, cycle_days - at, rate, shown, fresh, fresh_cost,
                    opening, mode, 1.1 if account % 7 == 0 else 1.0, account % 11 == 0, 0.4 + 0.6 * cell, 0.3 + 0.7 * cell,
                    cell < 0.5, images, cell > 0.9, 0.5, False, largest,
                ),
                as_share(seed),
            )  # fmt: skip
            mode = v.mode
            shown += images
            demand += images
            largest = max(largest, images)
            sums[0] += 1.0
            sums[4] += v.p
            sums[5 + v.rule - guardrails.UNAFFORDABLE] += 1.0
            if v.fresh:
                balance -= images
                fresh += 1
                fresh_cost += images
                sums[1] += 1.0
                sums[2] += images
        sums[3] += demand
