"""What people of the demo thought of what they got: rewards of some served requests, by the law of ``data/demo.toml``.

Who judges and what they say depends on the request alone, so that a demo of the same seed has the same rewards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from statistics import NormalDist
from typing import Any

from credit_core.store.rewards import Served
from credit_core.units import GUEST

_NORMAL = NormalDist()


def judging(wanted: Mapping[str, Any], until: datetime) -> Callable[[Served], tuple[float, datetime] | None]:
    """What becomes of a served request: its reward and when it was given, by ``until``; None where nobody told.

    The chance that somebody likes an image is σ(level of its outcome + their own taste); a liked one is downloaded or kept.
    """
    rules, key = wanted["rewards"], int(wanted["seed"]).to_bytes(8, "big", signed=True)
    people: dict[str, tuple[float, float]] = {}

    def judge(served: Served) -> tuple[float, datetime] | None:
        who = served.user_id
        if who.startswith(GUEST):
            return None
        if who not in people:
            judges, taste = _uniforms(key, who)[:2]
            people[who] = (
                rules["judging_share"] if judges < rules["judges"] else 0.0,
                rules["taste_sigma"] * _NORMAL.inv_cdf(min(max(taste, 1e-9), 1.0 - 1e-9)),
            )
        share, taste = people[who]
        tells, likes, further, later = _uniforms(key, who, served.request_id)
        at = served.at + timedelta(seconds=-rules["seconds_later"] * math.log1p(-later))
        if tells >= share or at >= until:
            return None
        if likes >= 1.0 / (1.0 + math.exp(-(rules["level"][served.outcome] + taste))):
            return 0.0, at
        return (rules["downloaded"] if further < rules["download_share"] else rules["kept"]), at

    return judge


def _uniforms(key: bytes, *names: str) -> tuple[float, float, float, float]:
    """Four numbers in [0, 1) that belong to these names."""
    digest = blake2b("\0".join(names).encode(), digest_size=32, key=key).digest()
    a, b, c, d = (int.from_bytes(digest[place : place + 7], "big") / 2.0**56 for place in (0, 8, 16, 24))
    return a, b, c, d
