"""Tuning: what would this change do? Controls → curve, preview and validation → publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import streamlit as st

from credit_core.analytics.filters import Filters
from credit_core.errors import CreditError
from credit_core.lab import curve
from credit_core.policy import config as schema
from credit_core.policy.advice import FLAT_BELOW, Cell, Demand, advise, check, dynamics
from credit_core.policy.config import Config
from credit_core.service import configure
from credit_core.settings import database_url
from pages.components import (
    filters,
    numbers,
    session,
    states,
    tuning_bar,
    tuning_controls,
    tuning_curve,
    tuning_outcomes,
    tuning_preview,
)
from pages.components import tuning_draft as drafts
from pages.components.numbers import THIN
from pages.components.session import guard
from pages.components.text import title_of

guard()


@dataclass(frozen=True)
class Bench:
    """What the workbench holds still while controls move."""

    number: int
    live: Config
    body: dict[str, object]
    demands: Mapping[str, Demand]
    library: Sequence[Cell]
    chosen: Filters


def about(bench: Bench) -> str:
    """The sentence under the title: what live's curve does to an account that is a quarter of its quota off pace."""
    demand = tuning_curve.preferred(bench.demands, bench.chosen.plans)
    if bench.live.controller.strategy != "logistic":
        return f"Live is version {bench.number}, by the strategy {bench.live.controller.strategy}."
    quarter = demand.quota / 4.0
    behind, ahead = (curve.chance(bench.live, demand, s) for s in (-quarter, quarter))
    width = dynamics(bench.live, demand).width
    verdict = "**is nearly flat**" if ahead - behind < FLAT_BELOW else "answers to pace"
    return (
        f"Live is version {bench.number}. For {title_of(demand.plan)} (quota {numbers.in_credits(demand.quota)}) its S-curve {verdict}: "
        f"p is {numbers.share(behind)} at {numbers.in_credits(quarter)} behind pace and {numbers.share(ahead)} at as much ahead; to go "
        f"from 10 to 90{THIN}% it takes {numbers.in_credits(width)}."
    )


@st.fragment
def workbench(bench: Bench) -> None:
    """Controls, curve, preview, validation and bar: a moved control reruns this alone.

    What a moved control is for comes first: the cards are filled before the curve and the controls are drawn again.
    """
    catalog = session.core().deployment.catalog
    models = tuple(name for name, model in catalog.models.items() if model.modality == "image")
    checked = check(bench.body, drafts.current().changes, models)
    draft = checked.config
    left, right = st.columns([5, 7], gap="large")
    cards_place, curve_place = right.container(), right.container()
    below = st.container()
    shown = None
    if draft is None:
        with curve_place:
            st.error("The draft cannot work as it stands:", icon=":material/block:")
            tuning_curve.advice(checked.faults)
            st.caption(
                "Mend it on the left, or take the change back; the curve and the preview come back by themselves."
            )
    else:
        with cards_place:
            st.subheader("What the period would have been", anchor=False)
            shown = tuning_preview.find(bench.chosen, bench.live, draft, catalog)
            if shown is not None:
                tuning_preview.metrics(shown, tuning_preview.FIRST, key="tuning_preview", by_row=3)
                st.markdown(tuning_preview.sentence(shown))
            standing_place = st.container()
        with curve_place:
            demand = tuning_curve.show(bench.live, draft, bench.demands, bench.chosen.plans)
    measured = [demand for demand in bench.demands.values() if demand.accounts] or list(bench.demands.values())
    found = checked.faults if draft is None else advise(draft, measured, bench.live, bench.library)
    with left:
        tuning_controls.show(bench.live, models, checked.faults)
    if draft is not None:
        with right:
            tuning_curve.amounts_to(bench.live, draft, demand)
            _validation(found)
    if shown is not None:
        with below:
            tuning_outcomes.show(shown)
            tuning_preview.rests_on(shown)
    tuning_bar.show(found, tuning_preview.headline(shown), None if draft is None else (draft, demand))
    if shown is not None and draft is not None:
        # Last, because the rest of the replay begins here and would compete with the drawing of all this.
        with standing_place:
            tuning_preview.standing(shown, bench.live, draft, bench.number)


def _validation(found: list[tuning_curve.Advice]) -> None:
    with st.container(border=True, key="tuning_advice"):
        st.markdown("**Validation**")
        if found:
            tuning_curve.advice(found)
        else:
            st.markdown(":green[:material/check_circle:] Nothing speaks against it.")


def page() -> None:
    """The page: a stale draft is settled first, then the workbench."""
    st.title("Tuning", anchor=False)
    version = configure.live_version(session.core().deployment)
    stale = drafts.open_draft(version.version, version.body)
    tuning_bar.published()
    if stale is not None:
        tuning_bar.stale(stale)
        return
    chosen = replace(filters.current(), compare=None)
    if not filters.paced():
        # The controller decides for paced plans alone, so another unit chosen for other pages narrows nothing here.
        chosen = replace(chosen, unit=None, within=None, policies=())
    catalog = session.core().deployment.catalog
    demands = tuning_preview.demands(session.facts(), catalog, database_url(), chosen)
    live = schema.parse(version.body)
    cells = tuning_preview.cells(session.facts(), database_url(), chosen, live)
    bench = Bench(version.version, live, version.body, demands, cells, chosen)
    st.markdown(about(bench))
    st.bottom.empty()
    workbench(bench)


try:
    page()
except CreditError as error:
    states.failed(
        "The configuration could not be read just now.",
        "The ledger, what is live, and every draft that was saved: nothing was written.",
        "Reload in a moment. Where it stays so, check that the database answers.",
        command="python -m credit_core verify",
        detail=str(error),
    )
