"""Saved views: kept under their names for everybody, on both engines."""

from __future__ import annotations

import pytest

from credit_core import CreditCore
from credit_core.errors import Conflict, InvalidRequest, NotFound
from credit_core.service import views
from tests.service.scenes import NOW

QUESTION = {"metric": "spent", "by": "plan", "plan": ["basic", "free"]}


def test_a_view_is_kept_under_its_name_for_everybody(core: CreditCore) -> None:
    assert views.saved(core.deployment) == []
    views.save(core.deployment, "  Burn  by plan ", QUESTION, "olga")
    views.save(core.deployment, "100% = _all_", {"metric": "requests"}, "otto")
    with CreditCore.open(core.deployment.ledger.url) as other:
        assert views.saved(other.deployment) == [
            views.View("100% = _all_", {"metric": "requests"}, "otto", views.saved(core.deployment)[0].saved_at),
            views.View("Burn by plan", QUESTION, "olga", NOW),
        ]


def test_a_name_that_is_taken_is_replaced_only_where_that_is_meant(core: CreditCore) -> None:
    views.save(core.deployment, "mine", QUESTION, "olga")
    with pytest.raises(Conflict, match="There is a view 'mine' already"):
        views.save(core.deployment, "mine", {}, "otto")
    views.save(core.deployment, "mine", {"metric": "fresh"}, "otto", replace=True)
    assert [(view.controls, view.author) for view in views.saved(core.deployment)] == [({"metric": "fresh"}, "otto")]


def test_a_view_that_is_removed_is_gone(core: CreditCore) -> None:
    views.save(core.deployment, "mine", QUESTION, "olga")
    views.remove(core.deployment, "mine")
    assert views.saved(core.deployment) == []
    with pytest.raises(NotFound, match="There is no view 'mine'"):
        views.remove(core.deployment, "mine")


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "a\x00b"])
def test_a_name_that_cannot_be_shown_is_refused(core: CreditCore, name: str) -> None:
    with pytest.raises(InvalidRequest, match="printable"):
        views.save(core.deployment, name, QUESTION, "olga")


def test_there_is_an_end_to_views_and_to_their_length(core: CreditCore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match="too long"):
        views.save(core.deployment, "long", {"plan": ["x" * 3_000]}, "olga")
    monkeypatch.setattr(views, "MOST_VIEWS", 1)
    views.save(core.deployment, "one", QUESTION, "olga")
    with pytest.raises(InvalidRequest, match="Remove one"):
        views.save(core.deployment, "two", QUESTION, "olga")
