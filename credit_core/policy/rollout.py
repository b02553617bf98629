"""Staged releases (SPEC 5): the schedule, what was done to it, and what a look at the two arms asks for.

Everything here is a function of what the ledger database holds: a plan that never changes, the events written since, and
the releases. So any number of watchers come to the same verdict, and the first one that writes it is the one that acts.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal, NamedTuple

from credit_core import units
from credit_core.errors import InvalidRequest

#: Treatment and control are of equal size, so an experiment takes at most half of the accounts (SPEC 5).
MAX_EXPERIMENT_SHARE = 0.5
#: The share that is tried first where nobody says otherwise.
SOFT_LAUNCH = 0.1
MOST_HOLD_DAYS = 90
#: A smaller chance of the arms' sizes pauses the schedule: small, because it is looked at again and again.
SRM_ALPHA = 0.001
SRM, UNJUDGED = "srm", "unjudged"

Side = Literal["at_most", "at_least"]
Against = Literal["itself", "control"]
Action = Literal["roll_back", "pause"]
Status = Literal["waiting", "overtaken", "declined", "running", "held", "done", "rolled_back", "superseded"]
#: Statuses in which the schedule still goes on, or may.
OPEN: tuple[Status, ...] = ("waiting", "running", "held")


class Step(NamedTuple):
    """A share of the accounts, and how long it is held before the next step."""

    share: float
    hold_s: float


def steps_of(shares: Sequence[float], hold_s: float = units.DAY_S) -> tuple[Step, ...]:
    """Steps of these shares with equal holds."""
    return tuple(Step(share, hold_s) for share in shares)


#: The shipped schedule: 1 → 5 → 10 → 25 → 50 → 100 %, a day each.
FULL_SCHEDULE = steps_of((0.01, 0.05, 0.1, 0.25, 0.5, 1.0))


class Guardrail(NamedTuple):
    """A bound on a metric of the treatment arm, or on its difference from control.

    ``least_n``: accounts that each side needs before the bound is judged. A breach rolls back, or only pauses.
    """

    metric: str
    side: Side
    bound: float
    against: Against = "control"
    least_n: int = 100
    action: Action = "roll_back"


class Arm(NamedTuple):
    """A metric of one arm: its value, None where unknown, and the number of accounts it is of."""

    value: float | None
    n: int


class Figure(NamedTuple):
    """A metric of both arms."""

    treatment: Arm
    control: Arm


class Reading(NamedTuple):
    """A guardrail as judged: ``value`` is what the bound is on, ``room`` the distance left to it (negative: breached)."""

    guardrail: Guardrail
    figure: Figure
    value: float | None
    n: int
    state: Literal["unknown", "too few", "fine", "breached"]
    room: float | None


class Event(NamedTuple):
    """What was done to a staged release, oldest first."""

    kind: Literal["approved", "declined", "staged", "held", "resumed"]
    happened_at: datetime
    author: str
    reason: str
    step: int | None = None
    release_id: int | None = None
    signals: tuple[str, ...] = ()


class Later(NamedTuple):
    """A release that followed."""

    version: int
    action: str
    released_at: datetime
    author: str
    reason: str


class Standing(NamedTuple):
    """Where a staged release stands. ``step`` is None before the first; ``due_at`` of the next step, None without one."""

    status: Status
    step: int | None
    since: datetime
    due_at: datetime | None
    author: str
    reason: str
    #: Signals that a person has seen and gone on from, in this step.
    muted: frozenset[str] = frozenset()


class Verdict(NamedTuple):
    """What a look asks for."""

    act: Literal["roll_back", "hold", "ramp", "nothing"]
    breached: tuple[Reading, ...] = ()
    signals: tuple[str, ...] = ()


def checked_steps(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The schedule, else :class:`InvalidRequest`: shares rise, are at most half or everybody, and holds are 0 to 90 days."""
    if not steps:
        raise InvalidRequest("A staged release needs at least one step, such as 0.1 for a tenth of the accounts.")
    found = tuple(
        Step(checked_share(step.share), units.checked_real(step.hold_s, "hold_s", 0.0, MOST_HOLD_DAYS * units.DAY_S))
        for step in steps
    )
    if any(later.share <= earlier.share for earlier, later in pairwise(found)):
        raise InvalidRequest("The shares of a schedule must rise from step to step: 0.01, 0.05, 0.1, 0.25, 0.5, 1.")
    return found


def checked_share(share: float) -> float:
    """A share that can be released to: over 0 and at most half, or 1."""
    share = units.checked_real(share, "share", 0.0, 1.0)
    if not (share == 1.0 or 0.0 < share <= MAX_EXPERIMENT_SHARE):
        raise InvalidRequest(
            f"share must be 1, or over 0 and at most {MAX_EXPERIMENT_SHARE} so that control is as large as treatment; got {share}."
        )
    return share


def checked_guardrails(guardrails: Sequence[Guardrail], known: Sequence[str]) -> tuple[Guardrail, ...]:
    """The guardrails, else :class:`InvalidRequest`. ``known``: the metrics that there are."""
    for rail in guardrails:
        if rail.metric not in known:
            raise InvalidRequest(f"There is no guardrail on {rail.metric!r}. There are: {', '.join(known)}.")
        for value, allowed in (
            (rail.side, ("at_most", "at_least")),
            (rail.against, ("itself", "control")),
            (rail.action, ("roll_back", "pause")),
        ):
            if value not in allowed:
                raise InvalidRequest(f"{rail.metric}: {value!r} is not one of {', '.join(allowed)}.")
        units.checked_real(rail.bound, f"bound of {rail.metric}", -1e9, 1e9)
        units.checked_count(rail.least_n, f"least_n of {rail.metric}", 1, 10**9)
    if len({(rail.metric, rail.side, rail.against, rail.action) for rail in guardrails}) < len(guardrails):
        raise InvalidRequest("Two guardrails have the same metric, side and action. Keep the stricter one.")
    return tuple(guardrails)


def same_person(one: str, other: str) -> bool:
    """True where two names are one person's, however they are typed."""
    return _folded(one) == _folded(other)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()


def standing(
    steps: Sequence[Step], asked: tuple[datetime, str, str], overtaken: Later | None, events: Sequence[Event]
) -> Standing:
    """Where a staged release stands. ``asked``: when, by whom, why. ``overtaken``: the release that followed its own last
    one, or what it was asked against; None where there is none."""
    state = Standing("waiting", None, asked[0], None, asked[1], asked[2])
    held_s, held_at, began_at = 0.0, None, asked[0]
    for event in events:
        state = state._replace(since=event.happened_at, author=event.author, reason=event.reason)
        if event.kind == "declined":
            return state._replace(status="declined")
        if event.kind == "staged" and event.step is not None:
            held_s, held_at, began_at = 0.0, None, event.happened_at
            done = steps[event.step].share == 1.0
            state = Standing(
                "done" if done else "running", event.step, event.happened_at,
                _due(steps, event.step, event.happened_at, 0.0), event.author, event.reason,
            )  # fmt: skip
        elif event.kind == "held":
            held_at = event.happened_at
            state = state._replace(status="held", due_at=None, muted=state.muted | set(event.signals))
        elif event.kind == "resumed" and state.step is not None and held_at is not None:
            held_s += (event.happened_at - held_at).total_seconds()
            state = state._replace(status="running", due_at=_due(steps, state.step, began_at, held_s))
    if overtaken is None or state.status == "done":
        return state
    status: Status = (
        "overtaken" if state.status == "waiting" else "rolled_back" if overtaken.action == "rollback" else "superseded"
    )
    return state._replace(
        status=status, since=overtaken.released_at, due_at=None, author=overtaken.author, reason=overtaken.reason
    )


def _due(steps: Sequence[Step], step: int, began_at: datetime, held_s: float) -> datetime | None:
    """When the next step is due: time spent on hold does not count."""
    if step + 1 >= len(steps):
        return None
    return began_at + timedelta(seconds=steps[step].hold_s + held_s)


def read(guardrail: Guardrail, figure: Figure) -> Reading:
    """Judge one guardrail."""
    ours, theirs = figure
    n = ours.n if guardrail.against == "itself" else min(ours.n, theirs.n)
    if ours.value is None or (guardrail.against == "control" and theirs.value is None):
        return Reading(guardrail, figure, None, n, "unknown", None)
    value = ours.value - (theirs.value or 0.0) if guardrail.against == "control" else ours.value
    room = guardrail.bound - value if guardrail.side == "at_most" else value - guardrail.bound
    if n < guardrail.least_n:
        return Reading(guardrail, figure, value, n, "too few", room)
    return Reading(guardrail, figure, value, n, "breached" if room < 0.0 else "fine", room)


def readings(guardrails: Sequence[Guardrail], figures: Mapping[str, Figure]) -> tuple[Reading, ...]:
    """Judge all guardrails."""
    unknown = Figure(Arm(None, 0), Arm(None, 0))
    return tuple(read(rail, figures.get(rail.metric, unknown)) for rail in guardrails)


def verdict(
    state: Standing, steps: Sequence[Step], judged: Sequence[Reading], srm_p: float | None, now: datetime
) -> Verdict:
    """What to do: a breach rolls back, even on hold; a signal pauses once; else the next step when it is due.

    The step to everybody ends the comparison, so it waits until every guardrail that rolls back has been judged.
    """
    if state.status not in ("running", "held") or state.step is None:
        return Verdict("nothing")
    breached = [reading for reading in judged if reading.state == "breached"]
    fatal = tuple(reading for reading in breached if reading.guardrail.action == "roll_back")
    if fatal:
        return Verdict("roll_back", fatal)
    if state.status == "held":
        return Verdict("nothing")
    signalling = tuple(reading for reading in breached if reading.guardrail.metric not in state.muted)
    signals = [*dict.fromkeys(reading.guardrail.metric for reading in signalling)]
    if srm_p is not None and srm_p < SRM_ALPHA and SRM not in state.muted:
        signals.append(SRM)
    if signals:
        return Verdict("hold", signalling, tuple(signals))
    if state.due_at is None or now < state.due_at:
        return Verdict("nothing")
    unjudged = [one for one in judged if one.guardrail.action == "roll_back" and one.state in ("unknown", "too few")]
    if unjudged and steps[state.step + 1].share == 1.0 and UNJUDGED not in state.muted:
        return Verdict("hold", tuple(unjudged), (UNJUDGED,))
    return Verdict("ramp")
