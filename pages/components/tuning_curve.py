"""The curve panel of the tuning page: the S-curve live against draft, what it amounts to, and the k that meets targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from credit_core.lab import curve
from credit_core.policy import controller
from credit_core.policy.advice import SLOW_SHARE, Advice, Demand, Dynamics, dynamics
from credit_core.policy.config import Config
from pages.components import charts, kpi, numbers, plots
from pages.components import tuning_draft as drafts
from pages.components.numbers import THIN
from pages.components.text import escape_markdown, title_of
from pages.components.tuning_scales import written

#: The design's own targets: p this far behind and ahead of pace, credits.
TARGET_SURPLUS, TARGET_BEHIND, TARGET_AHEAD = 50.0, 0.2, 0.8
_LEVELS = {
    "block": ("red", ":material/block:"),
    "warn": ("orange", ":material/warning:"),
    "note": ("gray", ":material/info:"),
}
#: Digits that a worked-out k is written with.
_DIGITS = 6
_HELP = {
    "width": kpi.Help("How far surplus must move for p to go from 10 to 90 %.", "2·ln 9·u/k", "credits"),
    "droop": kpi.Help(
        "Where an account settles whose demand is more than its quota affords: a plain S-curve holds it off pace by this much.",
        "u·(logit p* − b)/k, p* = (Q/L)/λ",
        "credits of surplus",
    ),
    "time": kpi.Help("How long it takes to close 63 % of a gap to that point.", "u/(λ·k·p*·(1 − p*))", "days"),
    "targets": kpi.Help(
        "p at the surplus of the targets below.", "clip(1/(1 + e^(−(k·S/u + b))), p_min, p_max)", "share"
    ),
}


def show(live: Config, draft: Config, demands: Mapping[str, Demand], kept: Sequence[str]) -> Demand:
    """The curves for a plan that the reader chooses; gives that plan's demand."""
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.subheader("S-curve", anchor=False)
        demand = _plan(demands, kept)
    surplus, behind, ahead = _asked_for()
    logistic = draft.controller.strategy == "logistic"
    changed = draft.controller != live.controller or draft.strategies != live.strategies
    reach = max(demand.quota, 1.2 * surplus)
    frame = curve.curve(live, draft if changed else None, demand, reach)
    targets = [charts.Target(-surplus, behind, "Target behind"), charts.Target(surplus, ahead, "Target ahead")]
    fig = charts.s_curve(
        frame, draft="p_draft" if changed else None, targets=targets if logistic else (), width=_shaded(draft, demand, reach),
        bounds=(draft.controller.p_min, draft.controller.p_max) if logistic else None, height=300,
    )  # fmt: skip
    at_ends = f"{numbers.share(frame['p_live'].iloc[0])} to {numbers.share(frame['p_live'].iloc[-1])}"
    plots.show(fig, key="tuning_s_curve", alt=f"Chance of a fresh one over surplus; live goes from {at_ends}.")
    st.caption(
        f"{title_of(demand.plan)}, quota {numbers.in_credits(demand.quota)}; mid-cycle, without nudges and modes."
    )
    return demand


def amounts_to(live: Config, draft: Config, demand: Demand) -> None:
    """What the curve amounts to for a plan's demand: width, droop and time constant."""
    surplus, _, _ = _asked_for()
    _cards(live, draft, demand, surplus)
    st.caption(measured(demand))
    if draft.controller.strategy != "logistic":
        strategy = title_of(draft.controller.strategy)
        st.caption(f"{strategy} is no S-curve: it has no gain, so width, droop and time constant do not apply.")


def measured(demand: Demand) -> str:
    """Which numbers droop and time constant were worked out with, in words."""
    pace = f"{numbers.decimal(demand.pace, 1)} credits a day"
    plan = title_of(demand.plan)
    if demand.rate is None:
        return (
            f"{plan}: no demand was measured yet (`python -m credit_core reconcile` works it out daily), so droop and time constant "
            f"are unknown. The quota affords {pace}."
        )
    rate = numbers.decimal(demand.rate, 1)
    if not demand.pressed:
        return (
            f"{plan}: none of {numbers.count(demand.accounts)} accounts asks for more than the quota affords ({pace}); the mean is "
            f"{rate}. Nobody is held back, so there is no droop: surplus grows instead."
        )
    return (
        f"{plan}, measured: {numbers.count(demand.pressed)} of {numbers.count(demand.accounts)} accounts ask for more than the quota "
        f"affords ({pace}). Their mean demand is λ = {rate} credits a day, so the affordable share is "
        f"p* = {numbers.share(demand.affordable)}. All accounts together: {numbers.decimal(demand.mean_rate, 1)} a day."
    )


def _shaded(draft: Config, demand: Demand, reach: float) -> tuple[float, float] | None:
    """The part of the axis on which the draft goes from 10 to 90 %; none where that is all of it, or none of it."""
    width = curve.width_10_90(draft, demand)
    if width is None or width[0] >= reach or width[1] <= -reach or (width[0] <= -reach and width[1] >= reach):
        return None
    return max(width[0], -reach), min(width[1], reach)


def preferred(demands: Mapping[str, Demand], kept: Sequence[str]) -> Demand:
    """The plan to show first: the one that the filters keep, else Basic, else the one with most accounts under pressure."""
    name = next((name for name in (*kept, "basic") if name in demands), None)
    return demands[name] if name else max(demands.values(), key=lambda demand: demand.pressed)


def _plan(demands: Mapping[str, Demand], kept: Sequence[str]) -> Demand:
    names, first = list(demands), preferred(demands, kept)
    chosen = st.selectbox(
        "Plan", names, index=names.index(first.plan), format_func=title_of, key="tuning_plan", width=180,
        label_visibility="collapsed",
    )  # fmt: skip
    return demands[chosen or first.plan]


def _asked_for() -> tuple[float, float, float]:
    """The targets as the fields below the chart hold them."""
    state = st.session_state
    return (
        state.setdefault("tuning_target_surplus", TARGET_SURPLUS),
        state.setdefault("tuning_target_behind", TARGET_BEHIND),
        state.setdefault("tuning_target_ahead", TARGET_AHEAD),
    )


def _cards(live: Config, draft: Config, demand: Demand, surplus: float) -> None:
    now, then = dynamics(live, demand), dynamics(draft, demand)
    was, become = ([curve.chance(config, demand, s) for s in (-surplus, surplus)] for config in (live, draft))
    ends = f"{numbers.decimal(become[0] * 100, 0)} → {numbers.decimal(become[1] * 100, 0)}{THIN}%"
    words = f"live {numbers.share(was[0])} → {numbers.share(was[1])}"
    cards = [kpi.Card(f"p at ∓{numbers.short(surplus)} credits", ends, target_text=words, help=_HELP["targets"])]
    if then.width is not None:
        quotas = numbers.decimal(then.width / demand.quota, 1)
        cards += [
            kpi.Card(
                "10 to 90 % width", numbers.short(then.width), "credits", help=_HELP["width"],
                target_text=f"{quotas} quotas · live {numbers.short(now.width)}",
            ),
            kpi.Card("Droop", _signed(then.droop), "credits", target_text=_droop_words(now, then, demand), help=_HELP["droop"]),
            kpi.Card(
                "Time constant", numbers.short(then.time_constant_days), "days", target_text=_time_words(now, then, demand),
                help=_HELP["time"],
            ),
        ]  # fmt: skip
    # Two in a row: half a page has no room for four.
    kpi.row(cards[:2], key="tuning_curve")
    if cards[2:]:
        kpi.row(cards[2:], key="tuning_dynamics")


def _droop_words(now: Dynamics, then: Dynamics, demand: Demand) -> str:
    live = f"live {_signed(now.droop)}"
    if then.droop is not None and abs(then.droop) > demand.quota:
        return f":red[:material/block: more than the quota] · {live}"
    return live


def _time_words(now: Dynamics, then: Dynamics, demand: Demand) -> str:
    live = f"live {numbers.short(now.time_constant_days)}"
    if then.time_constant_days is not None and then.time_constant_days > demand.cycle_days * SLOW_SHARE:
        return f":orange[:material/warning: over a third of the cycle] · {live}"
    return live


def _signed(value: float | None) -> str:
    return numbers.decimal(value, 1, trim=True, sign=True)


def targets(draft: Config, demand: Demand) -> None:
    """From two points of the curve to the k and p at zero that meet them."""
    if draft.controller.strategy != "logistic":
        st.caption(f"{title_of(draft.controller.strategy)} is no S-curve, so no k meets a point of it.")
        return
    st.markdown(f"**Targets → k** for {title_of(demand.plan)}: the chance of a fresh one behind and ahead of pace.")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="tuning_targets"):
        st.number_input("p behind", 0.001, 0.999, key="tuning_target_behind", step=0.05, format="%.3g", width=92)
        st.number_input("p ahead", 0.001, 0.999, key="tuning_target_ahead", step=0.05, format="%.3g", width=92)
        st.number_input("at ± credits", 0.1, 1e6, key="tuning_target_surplus", step=5.0, format="%.5g", width=104)
        surplus, behind, ahead = _asked_for()
        unit = dynamics(draft, demand).unit
        try:
            gain = controller.gain_for(behind, ahead, surplus, unit)
        except ValueError:
            st.button("Use k = –", disabled=True, key="tuning_use_gain", help="p behind must be below p ahead.")
            return
        values = {"controller.k": _rounded(gain.k), "controller.p_at_zero": _rounded(gain.p_at_zero)}
        fed = draft.controller.intercept == "feed_forward"
        if fed:
            del values["controller.p_at_zero"]
        met = all(drafts.current().value(key) == value for key, value in values.items())
        words = (
            f"Use k = {numbers.decimal(gain.k, 4)}" if gain.k >= 0.001 else f"Use k = {written(values['controller.k'])}"
        )
        st.button(
            words, type="secondary" if met else "primary", icon=":material/my_location:", disabled=met, key="tuning_use_gain",
            on_click=drafts.change_many, args=(values,),
            help=f"Writes k = {written(values['controller.k'])}"
            + (" (the feed-forward intercept centres the curve)" if fed else f" and p at zero = {written(values['controller.p_at_zero'])}")
            + " into the draft.",
        )  # fmt: skip
    if met:
        st.caption(":material/check: The draft meets these targets.")


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def advice(found: Sequence[Advice]) -> None:
    """What to know before publishing, the gravest first."""
    with st.container(gap="xsmall"):
        for one in found:
            colour, icon = _LEVELS[one.level]
            st.markdown(f":{colour}[{icon}] {escape_markdown(one.sentence)}")
