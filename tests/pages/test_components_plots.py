"""What a figure is sent with."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.delta_generator import DeltaGenerator

from pages.components import plots
from pages.components.charts import style


@pytest.mark.parametrize("clickable", [False, True])
def test_a_figure_is_sent_with_its_own_height_so_that_the_browser_draws_it_once(
    clickable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    def enqueue(self: DeltaGenerator, kind: str, proto: Any, *rest: Any, layout_config: Any = None, **more: Any) -> Any:
        sent.append((kind, layout_config.height))
        return self

    monkeypatch.setattr(DeltaGenerator, "_enqueue", enqueue)
    fig = style.figure(height=222)
    plots.show(fig, key="some", alt="Nothing.", on_click=print if clickable else None)
    assert sent == [("plotly_chart", 222)]
