"""What stands in a block while it computes."""

from __future__ import annotations

from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest


def page() -> None:
    import streamlit as st

    from pages.components import states

    with states.loading(420):
        figure = 7
    st.text(figure)
    if st.checkbox("More"):
        with states.loading(300):
            st.text("more")


def test_a_grey_shape_stands_while_a_page_opens_and_not_between_two_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[int] = []
    skeleton = st.skeleton

    def shown(*, height: int) -> Any:
        shapes.append(height)
        return skeleton(height=height)

    monkeypatch.setattr(st, "skeleton", shown)
    test = AppTest.from_function(page).run()
    assert shapes == [420]
    test.run()
    assert shapes == [420]
    test.checkbox[0].check().run()
    assert shapes == [420, 300]
    assert [one.value for one in test.text] == ["7", "more"]
    assert not test.exception
