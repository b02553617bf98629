"""Sentences agree with their numbers, leave out what is unknown, and claim no cause without a change."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from credit_core.analytics.queries.standing import SinceRelease
from pages.components import sentences
from pages.components.numbers import THIN

NOON = datetime(2025, 3, 9, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def paces(**over: float) -> pd.DataFrame:
    """Plans whose pace was 100 credits."""
    shares = list(over.values())
    return pd.DataFrame({"plan": list(over), "over_credits": [100 * share for share in shares], "over_share": shares})


def plain(sentence: str) -> str:
    return sentence.replace(THIN, " ").replace("*", "").replace("\\", "")


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (paces(basic=0.18, free=-0.1), "Basic burns 18 % over pace"),
        (paces(basic=0.1, free=-0.42), "Free burns 42 % under pace"),
        (paces(basic=0.02, free=-0.04), "every plan burns within 5 % of pace"),
        (paces(basic=0.02), "Basic burns within 5 % of pace"),
        (paces(basic=float("nan")), ""),
        (paces(), ""),
    ],
)
def test_the_plan_furthest_from_pace_is_told(frame: pd.DataFrame, said: str) -> None:
    assert plain(sentences.plan_pace(frame)) == said


@pytest.mark.parametrize(
    ("action", "before", "since", "said"),
    [
        ("release", -0.02, 0.18, "Basic burns 18 % over pace since release 3, on pace before"),
        ("rollback", 0.3, 0.1, "Basic burns 10 % over pace since the rollback to release 3, 30 % over pace before"),
        ("release", 0.16, 0.18, "Basic burns 17 % over pace"),
        ("release", float("nan"), 0.18, "Basic burns 17 % over pace"),
    ],
)
def test_a_release_is_named_only_where_the_pace_moved_with_it(
    action: str, before: float, since: float, said: str
) -> None:
    found = SinceRelease(3, action, NOON, paces(basic=before), paces(basic=since))

    assert plain(sentences.plan_pace(paces(basic=0.17), found)) == said


@pytest.mark.parametrize(
    ("empty", "soon", "said"),
    [
        (0, 0, "nobody will run out before Sunday"),
        (0, 1, "1 user will run out before Sunday at the present burn"),
        (0, 214, "214 users will run out before Sunday at their present burn"),
        (1, 0, "1 user has no credits left, and nobody else will run out before Sunday"),
        (37, 1, "37 users have no credits left, and 1 more will run out before Sunday at the present burn"),
    ],
)
def test_run_outs_agree_with_their_number(empty: int, soon: int, said: str) -> None:
    assert plain(sentences.running_out(empty, soon, "Sunday")) == said


@pytest.mark.parametrize(
    ("missed", "known", "said"),
    [
        ([], 0, ""),
        ([], 1, "the one target that can be told is met"),
        ([], 7, "all 7 targets are met"),
        (["At cap"], 1, "1 of 1 target is missed: at cap"),
        (["At cap"], 6, "1 of 6 targets is missed: at cap"),
        (["At cap", "Run-outs"], 6, "2 of 6 targets are missed: at cap and run-outs"),
    ],
)
def test_targets_agree_with_their_number(missed: list[str], known: int, said: str) -> None:
    assert plain(sentences.targets(missed, known)) == said


def test_clauses_become_sentences_and_unknown_ones_vanish() -> None:
    assert sentences.joined("one thing", "", "another") == "One thing. Another."
    assert sentences.joined("", "") == ""


def test_a_day_that_is_not_over_says_how_far_it_reaches() -> None:
    end = datetime(2025, 3, 9, 23, tzinfo=UTC)

    assert sentences.unfinished(NOON, end, BERLIN) == "9 Mar reaches to 13:00 only."
    assert sentences.unfinished(datetime(2025, 3, 9, 22, 30, tzinfo=UTC), end, BERLIN) == ""
    assert sentences.unfinished(datetime(2025, 3, 12, tzinfo=UTC), end, BERLIN) == ""


def test_names_from_outside_are_escaped() -> None:
    attack = "![x](http://evil.example/a.png)"

    assert attack not in sentences.plan_pace(paces(**{attack: 0.5}))
    assert attack not in sentences.cell(attack, attack)


def test_comparisons_read_as_said_aloud() -> None:
    assert sentences.within("yesterday") == "yesterday"
    assert sentences.within("previous 28 days") == "in the previous 28 days"
    assert sentences.weekday(NOON, BERLIN) == "Sunday, 9 Mar"
    assert sentences.percent(0.184).replace(THIN, " ") == "18 %"
    assert sentences.percent(0.0184).replace(THIN, " ") == "1.8 %"
