"""The customer preview: the view of SPEC 3 drawn as an application would show it to the customer, in their own time zone."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import streamlit as st

from credit_core import View
from credit_core.policy.customer import CostPreview, Meter, Receipt, Reset
from credit_core.policy.plans import COUNTED
from pages.components import numbers
from pages.components.text import escape_markdown, shortened, title_of

#: As wide as a phone, which is where customers look.
WIDTH_PX = 440
_BADGES = {
    "sparkle": ":green-badge[:material/auto_awesome: Plenty to spend]",
    "warning": ":orange-badge[:material/warning: Running low]",
    "low_balance": ":red-badge[:material/warning: Low balance]",
}
_LEVELS = {"ok": "{}", "warning": ":orange[:material/warning: {}]", "critical": ":red[:material/error: {}]"}
_OBSTACLES = {
    "credits": "more than the balance",
    "limit": "but a limit is reached",
    "paused": "but the account is paused",
    "blocked": "but the account is blocked",
}


def show(view: View, zone: ZoneInfo) -> None:
    """Draw ``view``. ``zone``: the customer's. What is unknown, or does not apply to their plan, is left out."""
    with st.container(border=True, gap="small", width=WIDTH_PX, key="customer_card"):
        badge = f" {_BADGES[view.badge]}" if view.badge else ""
        st.markdown(f"**{escape_markdown(title_of(view.plan))}** plan{badge}")
        _balance(view)
        if view.meter is not None:
            st.progress(view.meter.share, text=_LEVELS[view.meter.level].format(_used(view.meter)))
        for near in view.left:
            st.markdown(f":orange[:material/hourglass_bottom:] {title_of(near.modality)}: **{near.text}**")
        if view.countdown is not None:
            st.markdown(f":material/timer: {view.countdown.text}")
        if view.pace is not None:
            # Our own words, so only the tilde, which would strike out, is escaped.
            pace = view.pace.replace("~", r"\~")
            st.markdown(f":material/speed: {pace}")
        if view.reset is not None:
            st.markdown(f":material/event_repeat: {_reset(view.reset, zone)}")
        _spending(view)
        if view.receipt is not None:
            st.text(_receipt(view.receipt, zone))
        if view.tip is not None:
            st.info(view.tip, icon=":material/lightbulb:")
        if view.lifetime is not None:
            life = view.lifetime
            st.caption(
                f"Since sign-up: {numbers.count(life.fresh)} fresh, {numbers.count(life.library)} from the library, "
                f"{_credits(life.spent_uc)} spent."
            )


def _balance(view: View) -> None:
    if view.paused:
        st.markdown(":orange[:material/pause_circle:] Paused: nothing is granted or expires.")
    if view.blocked:
        st.markdown(":red[:material/block:] Blocked until the open challenge is cleared.")
    if view.available_uc is None or view.quota_policy in COUNTED:
        return
    st.metric("Credits left", numbers.credits(view.available_uc))
    parts = [
        f"{numbers.credits(amount)} {what}"
        for amount, what in ((view.pack_uc, "of them from packs"), (view.held_uc, "more in open requests"))
        if amount
    ]
    if parts:
        st.caption(", ".join(parts))


def _used(meter: Meter) -> str:
    write = numbers.credits if meter.unit == "credits" else numbers.count
    return f"{write(meter.used)} of {write(meter.total)} {meter.unit} used"


def _reset(reset: Reset, zone: ZoneInfo) -> str:
    brings = [
        None if reset.amount_uc is None else f"{_credits(reset.amount_uc)} if nothing more is spent",
        None if reset.generations is None else numbers.counted(reset.generations, "generation"),
    ]
    said = ", ".join(part for part in brings if part)
    return f"Next reset {numbers.instant(reset.at, zone)}" + (f": {said}" if said else "")


def _spending(view: View) -> None:
    """What the next one costs, and which models would do."""
    if view.preview is None:
        return
    st.markdown(f":material/sell: {_preview(view.preview)}")
    advice = view.recommendation
    # Named as a cheaper one already, it need not be named twice.
    if advice is not None and advice not in (view.preview.offer, *view.preview.cheaper):
        st.markdown(
            f":material/recommend: Best within the balance: {escape_markdown(advice.title)}, {_credits(advice.cost_uc)}"
        )


def _preview(preview: CostPreview) -> str:
    offer = preview.offer
    count = "" if preview.images == 1 else f"{numbers.count(preview.images)} × "
    named = "" if offer.model is None else f" by {escape_markdown(offer.title)}"
    text = f"Next: {count}{offer.modality}{named}, {_credits(preview.cost_uc) if preview.cost_uc else 'free'}"
    if preview.obstacle is not None:
        text += f", {_OBSTACLES[preview.obstacle]}"
    if preview.cheaper:
        cheaper = ", ".join(f"{escape_markdown(one.title)} ({_credits(one.cost_uc)})" for one in preview.cheaper)
        text += f". Cheaper: {cheaper}"
    return text


def _receipt(receipt: Receipt, zone: ZoneInfo) -> str:
    """One paragraph, shown as text: a model's name may come from an imported log."""
    model = f" for {shortened(receipt.model)}" if receipt.model else ""
    lots = ", ".join(f"{numbers.credits(part.amount_uc)} {part.lot_kind}" for part in receipt.taken)
    return (
        f"Last charge {numbers.instant(receipt.at, zone)}: {_credits(receipt.charged_uc)}{model}"
        f"{f' ({lots})' if lots else ''}. {_credits(receipt.available_after_uc)} left after it."
    )


def _credits(amount_uc: int) -> str:
    written = numbers.credits(amount_uc)
    return f"{written}{numbers.THIN}credit{'' if written == '1' else 's'}"
