"""What a control knows of each tunable: one description per leaf of the body, with the ends that validation enforces."""

from __future__ import annotations

from typing import Any

import pytest

from credit_core.errors import InvalidConfig
from credit_core.policy.config import Config, apply_changes, flatten
from credit_core.policy.tunables import tunables
from tests.policy.defaults import DEFAULTS


def body() -> dict[str, Any]:
    return Config().body()


EXTENDED = {"plans.gold.cap_multiple": 5.0, "nudges.segments.vip": 1.3}


@pytest.mark.parametrize("changes", [{}, EXTENDED], ids=["as shipped", "with a plan and a segment added"])
def test_tunables_cover_every_leaf_of_the_body_exactly_once_and_in_order(changes: dict[str, Any]) -> None:
    config = apply_changes(body(), changes)
    assert [tunable.key for tunable in tunables(config)] == list(flatten(config.body()))


@pytest.mark.parametrize("changes", [{}, EXTENDED], ids=["as shipped", "with a plan and a segment added"])
def test_every_tunable_says_what_it_is(changes: dict[str, Any]) -> None:
    for tunable in tunables(apply_changes(body(), changes)):
        assert tunable.title, tunable.key
        assert tunable.unit, tunable.key
        assert tunable.hint, tunable.key
        assert tunable.hint.endswith("."), tunable.key
        assert tunable.group, tunable.key


def test_titles_are_unlike_within_a_group() -> None:
    named = [(tunable.group, tunable.title) for tunable in tunables(Config())]
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("key", list(DEFAULTS))
def test_a_tunable_s_default_is_the_shipped_value_whatever_is_live(key: str) -> None:
    live = apply_changes(body(), {"controller.k": 0.03, "plans.free.soft_decay": 0.9, "nudges.library.hi": 1.4})
    (tunable,) = [tunable for tunable in tunables(live) if tunable.key == key]
    assert tunable.default == DEFAULTS[key]


def test_every_number_has_both_ends_and_its_default_between_them() -> None:
    for tunable in tunables(Config()):
        if isinstance(tunable.default, bool | str):
            continue
        assert tunable.minimum is not None, tunable.key
        assert tunable.maximum is not None, tunable.key
        assert tunable.minimum <= tunable.default <= tunable.maximum, tunable.key


def test_a_tunable_with_fixed_answers_lists_them() -> None:
    choices = {tunable.key: tunable.choices for tunable in tunables(Config()) if tunable.choices}
    assert choices["controller.surplus_unit"] == ("credits", "days", "quota_percent")
    assert choices["controller.intercept"] == ("fixed", "feed_forward")
    assert "logistic" in choices["controller.strategy"]


@pytest.mark.parametrize("beyond", [-1.0, 1.0])
def test_the_ends_of_a_tunable_are_those_of_its_validation(beyond: float) -> None:
    for tunable in tunables(Config()):
        if isinstance(tunable.default, bool | str):
            continue
        end = tunable.minimum if beyond < 0 else tunable.maximum
        assert end is not None
        outside = int(end + beyond) if isinstance(tunable.default, int) else end + beyond * 1e-6
        with pytest.raises(InvalidConfig):
            apply_changes(body(), {tunable.key: outside})
