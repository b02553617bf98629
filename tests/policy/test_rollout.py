"""Staged releases: schedules, guardrails, where a release stands after what was done to it, what a look asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from credit_core.errors import InvalidAmount, InvalidRequest
from credit_core.policy import rollout
from credit_core.policy.rollout import Arm, Event, Figure, Guardrail, Later, Reading, Step, Verdict

START = datetime(2025, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
STEPS = rollout.steps_of((0.1, 0.5, 1.0))
ASKED = (START, "olga", "Steeper")
STAGED = Event("staged", START, "olga", "Steeper", 0, 2)


def after(*events: Event, later: Later | None = None) -> rollout.Standing:
    return rollout.standing(STEPS, ASKED, later, events)


# ------------------------------------------------------------------------------------------------------------ schedules


def test_the_shipped_schedule_goes_to_everybody_a_day_a_step() -> None:
    assert [step.share for step in rollout.FULL_SCHEDULE] == [0.01, 0.05, 0.1, 0.25, 0.5, 1.0]
    assert {step.hold_s for step in rollout.FULL_SCHEDULE} == {86_400.0}
    assert rollout.checked_steps(rollout.FULL_SCHEDULE) == rollout.FULL_SCHEDULE


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((), "at least one step"),
        ((Step(0.6, 0.0),), "at most 0.5"),
        ((Step(0.0, 0.0),), "over 0"),
        ((Step(0.1, 0.0), Step(0.1, 0.0)), "must rise"),
        ((Step(0.5, 0.0), Step(0.1, 0.0)), "must rise"),
        ((Step(0.1, -1.0),), "hold_s"),
        ((Step(0.1, float("nan")),), "hold_s"),
        ((Step(0.1, 91 * 86_400.0),), "hold_s"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(steps: tuple[Step, ...], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        rollout.checked_steps(steps)


@pytest.mark.parametrize(
    ("rail", "said"),
    [
        (Guardrail("happiness", "at_least", 0.1), "There are: fresh_rate"),
        (Guardrail("fresh_rate", "below", 0.1), "'below'"),  # type: ignore[arg-type]
        (Guardrail("fresh_rate", "at_least", 0.1, against="all"), "'all'"),  # type: ignore[arg-type]
        (Guardrail("fresh_rate", "at_least", 0.1, action="shout"), "'shout'"),  # type: ignore[arg-type]
        (Guardrail("fresh_rate", "at_least", float("inf")), "bound of fresh_rate"),
        (Guardrail("fresh_rate", "at_least", 0.1, least_n=0), "least_n of fresh_rate"),
    ],
)
def test_a_guardrail_that_makes_no_sense_is_refused(rail: Guardrail, said: str) -> None:
    with pytest.raises((InvalidRequest, InvalidAmount), match=said):
        rollout.checked_guardrails([rail], ["fresh_rate"])


def test_the_same_guardrail_twice_is_refused() -> None:
    rails = [Guardrail("fresh_rate", "at_least", 0.1), Guardrail("fresh_rate", "at_least", 0.2)]
    with pytest.raises(InvalidRequest, match="Keep the stricter"):
        rollout.checked_guardrails(rails, ["fresh_rate"])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("olga", "Olga", True), ("olga", " OLGA ", True), ("ｏlga", "olga", True), ("olga", "mira", False)],
)
def test_a_person_is_known_however_the_name_is_typed(one: str, other: str, same: bool) -> None:
    assert rollout.same_person(one, other) is same


# ------------------------------------------------------------------------------------------------------------- standing


def test_without_an_event_it_waits_and_another_release_overtakes_it() -> None:
    assert after()[:2] == ("waiting", None)
    later = Later(7, "release", START + DAY, "mira", "Mine first")
    found = after(later=later)
    assert (found.status, found.since, found.author, found.reason) == ("overtaken", START + DAY, "mira", "Mine first")


def test_declined_is_the_end_of_it() -> None:
    found = after(Event("declined", START + DAY, "mira", "Not now"), later=Later(7, "release", START, "x", "y"))
    assert (found.status, found.author, found.reason) == ("declined", "mira", "Not now")


def test_a_step_is_held_as_long_as_the_schedule_says() -> None:
    found = after(STAGED)
    assert (found.status, found.step, found.due_at) == ("running", 0, START + DAY)


def test_time_on_hold_does_not_count() -> None:
    held = Event("held", START + timedelta(hours=20), "mira", "Lunch")
    resumed = Event("resumed", START + timedelta(hours=30), "mira", "Back")
    assert after(STAGED, held)[:4] == ("held", 0, held.happened_at, None)
    assert after(STAGED, held, resumed).due_at == START + timedelta(hours=34)
    ramped = Event("staged", START + timedelta(hours=31), "mira", "On", 1, 3)
    assert after(STAGED, held, resumed, ramped).due_at == START + timedelta(hours=55)


def test_the_last_step_is_due_to_nothing_and_everybody_is_done() -> None:
    done = Event("staged", START + DAY, "titrate watch", "Scheduled", 2, 4)
    assert after(STAGED, done)[:4] == ("done", 2, START + DAY, None)
    assert after(STAGED, done, later=Later(9, "release", START + 2 * DAY, "mira", "Next")).status == "done"
    assert rollout.standing(STEPS[:1], ASKED, None, [STAGED]).due_at is None


@pytest.mark.parametrize(("action", "status"), [("rollback", "rolled_back"), ("release", "superseded")])
def test_what_was_released_after_it_ended_it(action: str, status: str) -> None:
    found = after(STAGED, later=Later(1, action, START + DAY, "mira", "It hurts"))
    assert (found.status, found.step, found.due_at, found.author, found.reason) == (status, 0, None, "mira", "It hurts")


def test_a_signal_that_was_seen_is_quiet_for_the_rest_of_the_step() -> None:
    held = Event("held", START, "titrate watch", "Paused", signals=("srm", "fresh_rate"))
    resumed = Event("resumed", START, "mira", "Known")
    assert after(STAGED, held, resumed).muted == {"srm", "fresh_rate"}
    assert after(STAGED, held, resumed, STAGED._replace(step=1)).muted == frozenset()


# ------------------------------------------------------------------------------------------------------------- judging


@pytest.mark.parametrize(
    ("rail", "ours", "theirs", "value", "state", "room"),
    [
        (Guardrail("m", "at_most", 0.3, "itself", 10), Arm(0.25, 10), Arm(None, 0), 0.25, "fine", 0.05),
        (Guardrail("m", "at_most", 0.3, "itself", 10), Arm(0.30, 10), Arm(None, 0), 0.30, "fine", 0.0),
        (Guardrail("m", "at_most", 0.3, "itself", 10), Arm(0.75, 10), Arm(None, 0), 0.75, "breached", -0.45),
        (Guardrail("m", "at_least", 0.3, "itself", 10), Arm(0.25, 10), Arm(0.9, 3), 0.25, "breached", -0.05),
        (Guardrail("m", "at_least", 0.3, "itself", 11), Arm(0.25, 10), Arm(0.9, 3), 0.25, "too few", -0.05),
        (Guardrail("m", "at_least", -0.1, "control", 5), Arm(0.25, 10), Arm(0.5, 5), -0.25, "breached", -0.15),
        (Guardrail("m", "at_least", -0.1, "control", 6), Arm(0.25, 10), Arm(0.5, 5), -0.25, "too few", -0.15),
        (Guardrail("m", "at_most", 0.5, "control", 5), Arm(0.75, 10), Arm(0.5, 9), 0.25, "fine", 0.25),
        (Guardrail("m", "at_most", 0.5, "control", 5), Arm(0.75, 10), Arm(None, 9), None, "unknown", None),
        (Guardrail("m", "at_most", 0.5, "itself", 1), Arm(None, 10), Arm(0.1, 9), None, "unknown", None),
    ],
)
def test_a_guardrail_is_judged_on_its_side_of_the_bound(
    rail: Guardrail, ours: Arm, theirs: Arm, value: float | None, state: str, room: float | None
) -> None:
    found = rollout.read(rail, Figure(ours, theirs))
    assert (found.value, found.state) == (value, state)
    assert found.room == (None if room is None else pytest.approx(room, abs=1e-15))


def reading(state: str, action: str = "roll_back", metric: str = "m") -> Reading:
    unknown = Figure(Arm(None, 0), Arm(None, 0))
    return Reading(Guardrail(metric, "at_most", 0.1, action=action), unknown, None, 0, state, None)  # type: ignore[arg-type]


FATAL, SIGNAL, FINE, FEW = reading("breached"), reading("breached", "pause", "s"), reading("fine"), reading("too few")
NOW, DUE = START + timedelta(hours=1), START + DAY
HELD = Event("held", START, "mira", "Wait")


@pytest.mark.parametrize(
    ("events", "judged", "p", "now", "wanted"),
    [
        ((), (FATAL,), None, DUE, Verdict("nothing")),
        ((STAGED,), (FINE, FEW), 0.5, NOW, Verdict("nothing")),
        ((STAGED,), (FINE, FATAL, SIGNAL), 1e-9, DUE, Verdict("roll_back", (FATAL,))),
        ((STAGED, HELD), (FATAL,), None, NOW, Verdict("roll_back", (FATAL,))),
        ((STAGED, HELD), (SIGNAL,), 1e-9, DUE, Verdict("nothing")),
        ((STAGED,), (SIGNAL,), 0.5, DUE, Verdict("hold", (SIGNAL,), ("s",))),
        ((STAGED,), (FINE,), 0.00099, DUE, Verdict("hold", (), ("srm",))),
        ((STAGED,), (FINE,), 0.00101, DUE, Verdict("ramp")),
        ((STAGED,), (SIGNAL,), 1e-9, NOW, Verdict("hold", (SIGNAL,), ("s", "srm"))),
        ((STAGED,), (FEW,), None, DUE, Verdict("ramp")),
        ((STAGED,), (FINE,), None, DUE - timedelta(microseconds=1), Verdict("nothing")),
        ((STAGED._replace(step=1),), (FINE,), None, DUE, Verdict("ramp")),
        ((STAGED._replace(step=1),), (FINE, FEW), None, DUE, Verdict("hold", (FEW,), ("unjudged",))),
        ((STAGED._replace(step=2),), (FATAL,), None, DUE, Verdict("nothing")),
    ],
)  # fmt: skip
def test_what_a_look_asks_for(
    events: tuple[Event, ...], judged: tuple[Reading, ...], p: float | None, now: datetime, wanted: Verdict
) -> None:
    assert rollout.verdict(after(*events), STEPS, judged, p, now) == wanted


def test_what_a_person_went_on_from_does_not_pause_again() -> None:
    held = Event("held", START, "titrate watch", "Paused", signals=("s", "srm"))
    state = after(STAGED, held, Event("resumed", START, "mira", "Known"))
    assert rollout.verdict(state, STEPS, (SIGNAL,), 1e-9, DUE) == Verdict("ramp")
    # A guardrail that rolls back is never quiet.
    assert rollout.verdict(state, STEPS, (FATAL,), 1e-9, DUE).act == "roll_back"
