"""The records that the replay's kernel works on: one row per event, lot, account and configuration, in whole arrays.

Instants are microseconds since the epoch, amounts micro-credits. An index of −1 is none, :data:`NEVER` an instant that
does not come. Places of lots, users and events are counted within their account.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias, get_type_hints

import numpy as np
import numpy.typing as npt

from credit_core.policy.decision import Law

NEVER = 1 << 62
#: What an event is. BEGIN and CLOSE grant a cycle's quota; a CHILD is the later, fresh half of a deferred request.
(BEGIN, CLOSE, OPEN, CHILD, END, REFUND, GRANT, PLAN, ADJUST, IMPORT, PAUSE, RESUME, NOTHING) = range(13)
#: How a reserve ended in the log.
NO_END, SETTLED, RELEASED = range(3)
#: Cells of a running session that are remembered, as live.
SESSION_CELLS = 64

EVENT = np.dtype(
    [
        ("at", "i8"), ("kind", "i4"), ("user", "i4"),
        ("config", "i4"), ("plan", "i4"),  # by which version live decided it; its plan
        ("amount_uc", "i8"),  # what a fresh one costs; of other kinds what was moved
        ("lot", "i4"), ("carry", "i4"),  # the lot it goes into; the rollover lot of the cycle that begins
        ("ref", "i4"),  # the request that an end, refund or child is of
        ("before", "i4"),  # the request before it in the same session
        ("begin_us", "i8"), ("end_us", "i8"), ("burst", "?"),  # of the cycle that begins, or is resumed
        ("images", "i4"), ("segment", "i4"), ("asked", "i4"), ("cell", "i4"),
        ("u01", "f8"), ("prior", "f8"), ("quota_uc", "i8"), ("cycle_days", "f8"), ("days_left", "f8"),
        ("coverage", "f8"), ("health", "f8"), ("arm_p", "f8"),
        ("conserving", "?"), ("consent", "?"), ("under", "?"), ("blocked", "?"),
        # What was logged of a request, and how it ended.
        ("rule", "i4"), ("mode", "i4"), ("fresh", "?"), ("p", "f8"), ("model", "i4"), ("child", "?"),
        ("end_kind", "i4"), ("end_at", "i8"), ("end_uc", "i8"), ("end_usd", "f8"),
    ],
    align=True,
)  # fmt: skip
LOT = np.dtype(
    [
        ("rank", "i4"),
        ("tie", "i4"),
        ("first_end", "i8"),
        ("expires", "i8"),
        ("paced", "?"),
        ("made", "?"),
        ("active", "?"),
        ("avail", "i8"),
        ("held", "i8"),
    ],
    align=True,
)
LAW = np.dtype(
    [(name, {float: "f8", int: "i8", bool: "?"}[kind]) for name, kind in get_type_hints(Law).items()],
    align=True,
)
#: Of a configuration, beyond the law: sessions, limits, holds, routing.
RULES = np.dtype(
    [
        ("idle_s", "f8"), ("limits", "?"), ("capacity", "f8"), ("leak", "f8"), ("ttl_us", "i8"), ("threshold", "f8"),
        ("premium", "i4"), ("economy", "i4"), ("burst", "?"),
    ],
    align=True,
)  # fmt: skip
#: Of a configuration and plan: the rollover cap and the share kept of what is over one quota, as ratios.
ROLLOVER = np.dtype([("cap", "i8"), ("cap_of", "i8"), ("share", "i8"), ("of", "i8")])
#: A model's price per image in micro-dollars (nan: unknown) and its median latency.
MODEL = np.dtype([("usd_micro", "f8"), ("latency_us", "i8")])
#: What is added up per account. Amounts in micro-credits and micro-dollars, whole numbers below 2^53.
SUMS = (
    "requests", "decisions", "fresh", "chosen", "chosen_fresh", "misses", "unaffordable", "coverage_miss", "session_cap", "at_cap",
    "refused", "fresh_uc", "expected_uc", "chosen_expected", "demand_uc", "usd_micro", "unpriced", "routed", "premium",
    "neighbours", "flips", "ahead", "ahead_library", "run_outs", "dry_share", "dry_days", "settled_uc", "refunded_uc",
    "imported_uc", "closings", "at_caps", "unspent_uc", "expired_uc", "cycle_fresh_uc", "cycle_budget_uc", "running_fresh_uc",
    "running_budget_uc", "broken",
)  # fmt: skip
OUT = np.dtype([(name, "f8") for name in SUMS])
#: At a day's end: the surplus in days (nan: none), and what was spent from the period's start on.
DAY = np.dtype([("surplus", "f8"), ("spent_uc", "f8")])
#: What the kernel came to, decision by decision, where that is asked for.
TOLD = np.dtype([("rule", "i4"), ("mode", "i4"), ("fresh", "?"), ("asked", "?"), ("p", "f8")], align=True)
STATE = np.dtype(
    [
        ("avail", "i8"), ("paced", "i8"), ("quota", "i8"), ("start", "i8"), ("end", "i8"), ("demand", "i8"),
        ("largest", "i8"), ("mode", "i8"),
        ("plan", "i8"), ("config", "i8"), ("carry", "i8"), ("monthly", "i8"), ("paused", "?"), ("begun", "?"), ("own_ends", "?"),
        ("paused_at", "i8"),
        ("active", "i8"), ("pool", "i8"), ("waiting", "i8"), ("day", "i8"), ("dry_from", "i8"), ("dry_days", "f8"),
        ("cycle_fresh", "i8"), ("cycle_budget", "i8"),
    ],
    align=True,
)  # fmt: skip

#: An array of one of the kinds above, or a row of it; fields are attributes, of which type checkers cannot know.
Records: TypeAlias = Any


class Governing(NamedTuple):
    """The configurations of a run, and what they lean on. ``segments`` [config, segment]; ``laws``, ``rollover`` [config·plans + plan].

    ``candidate``: the configuration that decides from ``start_us`` on; −1: each decision's own. ``child_us``: after how
    long a deferred request that was none in the log is taken up; 0 is never.
    """

    laws: Records
    rules: Records
    rollover: Records
    segments: npt.NDArray[np.float64]
    models: Records
    plans: int
    candidate: int
    child_us: int
    start_us: int
    end_us: int
    day_ends: npt.NDArray[np.int64]
    cells: bool


#: What the kernel remembers of a request: its hold and its parts in the pool, its answer.
ASKED = np.dtype(
    [
        ("part_from", "i8"), ("parts", "i8"), ("refunded", "i8"), ("hold", "i1"), ("answer", "i1"), ("by_log", "?"), ("deferred", "?"),
    ],
    align=True,
)  # fmt: skip
PART = np.dtype([("lot", "i8"), ("uc", "i8")])
WAITING = np.dtype([("due", "i8"), ("event", "i8"), ("act", "i8")])
#: A user's running session and bucket.
USER = np.dtype(
    [
        ("last", "i8"), ("images", "i8"), ("fresh", "i8"), ("fresh_uc", "i8"), ("opening_uc", "i8"), ("celled", "i8"),
        ("bucket_at", "i8"), ("bucket", "f8"), ("cells", "i8", (SESSION_CELLS,)),
    ]
)  # fmt: skip


class Work(NamedTuple):
    """What the kernel remembers within one account; used again for the next."""

    state: Records
    last: Records
    active: npt.NDArray[np.int64]
    parts: Records
    asked: Records
    waiting: Records
    users: Records


def records(size: int | tuple[int, ...], kind: np.dtype[Any]) -> Records:
    """So many rows of zeros, whose fields are attributes."""
    return np.zeros(size, kind).view(np.recarray)


def work(events: int, lots: int, users: int) -> Work:
    """Room for accounts of at most so many events, lots and users."""
    return Work(
        state=records(1, STATE),
        last=records(1, TOLD),
        active=np.zeros(lots + 1, np.int64),
        parts=records(2 * events + lots + 16, PART),
        asked=records(events, ASKED),
        waiting=records(2 * events + 2, WAITING),
        users=records(users, USER),
    )
