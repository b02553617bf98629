"""The preview panel of the tuning page: what the draft would have decided on recent real decisions, live → draft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import streamlit as st

from credit_core.analytics.filters import Filters
from credit_core.analytics.sync import Facts
from credit_core.lab import preview, sample
from credit_core.policy.advice import Demand
from credit_core.policy.config import Config
from credit_core.policy.plans import Catalog
from pages.components import charts, filters, kpi, numbers, plots, session, states, tables, tuning_diff
from pages.components import tuning_draft as drafts
from pages.components.text import sentence_list

#: How many recent decisions are read for demand, and how many of them are decided again.
SIZES = (1_000, 5_000, 10_000)
USUAL_SIZE, READ = 5_000, SIZES[-1]
#: New decisions join the sample this often; while a control moves it stays what it is.
KEPT_S = 60
ONE_STEP = (
    "Each decision on its own, as things stood; it does not follow the balances onward. Both sides draw the same lots, so what "
    "differs is the configuration alone."
)


@dataclass(frozen=True)
class Recent:
    """Recent decisions of the filters, and what their accounts ask for by plan. ``mark`` tells samples apart."""

    logged: sample.Logged
    demands: dict[str, Demand]
    mark: tuple[str, Filters, datetime]


@st.cache_resource(show_spinner="Reading recent decisions …", max_entries=4, ttl=KEPT_S)
def recent(_facts: Facts, _catalog: Catalog, url: str, chosen: Filters) -> Recent:
    """The last :data:`READ` decisions behind the filters in the ledger at ``url``."""
    frame = sample.recent(_facts, chosen, READ)
    logged = sample.prepare(frame, sample.configs_of(_facts, frame))
    return Recent(logged, sample.demands(frame, _catalog), (url, chosen, session.now()))


@st.cache_resource(show_spinner=False, max_entries=8)
def _as_live(
    _found: Recent, _live: Config, _catalog: Catalog, mark: tuple[str, Filters, datetime], size: int, number: int
) -> tuple[sample.Logged, preview.Decided, int]:
    """The last ``size`` decisions, what version ``number`` decides on them, and how many do not come out as logged."""
    few = _found.logged.first(size)
    return few, preview.decide_again(few, _live, _catalog), len(preview.disagreements(few))


def show(found: Recent, live: Config, number: int, draft: Config, catalog: Catalog) -> str:
    """The whole panel, while version ``number`` is live; gives its headline, for the bar."""
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.subheader("On recent real decisions", anchor=False)
        size = _size(len(found.logged))
    if not len(found.logged):
        if session.ledger().as_of is None:
            filters.no_entries()
        else:
            filters.nothing_here("Nobody was decided on in this period, so there is nothing to decide again.")
        return ""
    logged, as_live, unlike = _as_live(found, live, catalog, found.mark, size, number)
    as_draft = as_live if draft == live else preview.decide_again(logged, draft, catalog)
    result = preview.compare(logged, as_live, as_draft)
    newest, oldest = logged.frame["occurred_at"].iloc[0], logged.frame["occurred_at"].iloc[-1]
    zone = session.zone()
    st.caption(
        f"The last {numbers.count(result.decisions)} decisions of {numbers.count(result.accounts)} accounts, "
        f"{numbers.instant(oldest, zone)} to {numbers.instant(newest, zone)}. {ONE_STEP}"
        + ("" if unlike else " Decided again by their own versions, all of them come out as they were logged.")
    )
    if unlike:
        st.warning(
            f"{numbers.count(unlike)} of these decisions do not come out as they were logged when decided again by their own version, "
            "so do not rely on this preview. Check the ledger: python -m credit_core verify",
            icon=":material/warning:",
        )
    _cards(result)
    st.markdown(_sentence(result, draft == live))
    _unseen()
    if draft == live:
        return ""
    _details(result)
    return f"fresh {numbers.share(result.live.fresh_rate)} → {numbers.share(result.draft.fresh_rate)}"


def _size(available: int) -> int:
    sizes = [size for size in SIZES if size < available] + [next((s for s in SIZES if s >= available), SIZES[-1])]
    usual = USUAL_SIZE if USUAL_SIZE in sizes else sizes[-1]
    if len(sizes) == 1:
        return usual
    chosen = st.selectbox(
        "Decisions", sizes, index=sizes.index(usual), format_func=lambda n: f"last {numbers.count(n)}", key="tuning_size",
        label_visibility="collapsed", width=140,
    )  # fmt: skip
    return chosen or usual


def _cards(result: preview.Preview) -> None:
    live, draft = result.live, result.draft

    def was(text: str) -> str:
        return f"live {text}"

    kpi.row(
        [
            kpi.Card(
                "Fresh share", numbers.share(draft.fresh_rate), target_text=was(numbers.share(live.fresh_rate)),
                change=numbers.points(draft.fresh_rate, live.fresh_rate, better="neutral"),
                help=kpi.Help("Decisions that were fresh, with the draws that were logged.", "fresh ÷ decisions by rules 4 to 8"),
            ),
            kpi.Card(
                "Expected fresh", numbers.decimal(draft.expected_fresh, 1), target_text=was(numbers.decimal(live.expected_fresh, 1)),
                change=numbers.change(draft.expected_fresh, live.expected_fresh, better="neutral"),
                help=kpi.Help("The same over all draws that could have been.", "Σ p of rule 8 + fresh ones of rules 5 and 7"),
            ),
            kpi.Card(
                "Credits", numbers.credits(draft.credits_uc), target_text=was(numbers.credits(live.credits_uc)),
                change=numbers.change(draft.credits_uc, live.credits_uc, better="neutral"),
                help=kpi.Help("What the fresh ones reserve.", unit="credits"),
            ),
            kpi.Card(
                "Premium model", numbers.share(draft.premium_share), target_text=was(numbers.share(live.premium_share)),
                change=numbers.points(draft.premium_share, live.premium_share, better="neutral"),
                help=kpi.Help("Share of the fresh ones, where the caller named no model, that go to the premium model."),
            ),
            kpi.Card(
                "Provider cost", numbers.money(draft.provider_usd_micro), target_text=was(numbers.money(live.provider_usd_micro)),
                change=numbers.change(draft.provider_usd_micro, live.provider_usd_micro, better="down"),
                help=kpi.Help("Fresh ones at the catalogue's provider cost.", unit="dollars"),
            ),
        ],
        key="tuning_preview",
    )  # fmt: skip


def _sentence(result: preview.Preview, same: bool) -> str:
    if same:
        return "The draft equals what is live, so nothing differs yet. Move a control on the left."
    flips = result.to_fresh + result.to_library
    words = (
        f"**{numbers.count(flips)} decision{'' if flips == 1 else 's'} turn out differently**: {numbers.count(result.to_fresh)} to "
        f"fresh, {numbers.count(result.to_library)} to library."
    )
    if result.difference is None:
        return f"{words} Too few accounts for an interval (at least {preview.FEWEST_ACCOUNTS} are needed)."
    sure = result.difference.low > 0 or result.difference.high < 0
    verdict = "" if sure else ", so it may be nothing"
    return (
        f"{words} The fresh share changes by {_moved(result.draft.fresh_rate, result.live.fresh_rate)} "
        f"(95 % interval {_points(result.difference.low)} to {_points(result.difference.high)}, accounts resampled{verdict})."
    )


def _moved(now: float | None, before: float | None) -> str:
    return numbers.UNKNOWN if now is None or before is None else f"{_points(now - before)} points"


def _points(share: float) -> str:
    return numbers.decimal(share * 100, 1, sign=True)


def _unseen() -> None:
    keys = preview.unseen(drafts.current().changes)
    if keys:
        names = tuning_diff.known()
        titles = [names[key].title if key in names else key for key in keys]
        verb = "works" if len(keys) == 1 else "work"
        states.unknown(f"{sentence_list(titles, 4)} {verb} over time; one step does not show it.")


def _details(result: preview.Preview) -> None:
    zone = session.zone()
    drawn = result.p_histogram
    if drawn["decisions"].sum():
        fig = charts.distribution(
            drawn, low="from_p", high="to_p", y="decisions", unit=charts.DECISIONS, x_title="p of decisions by rule 8", series="side",
        )  # fmt: skip
        # One over the other, not one upon the other: they are the same decisions.
        fig.data = fig.data[::-1]
        fig.update_layout(barmode="overlay", bargap=0).update_traces(opacity=0.65)
        fig.update_yaxes(range=[0, float(drawn["decisions"].max()) * 1.12])
        plots.show(fig, key="tuning_p", alt="How often each p occurs, live and draft.")
    st.markdown("**By plan**")
    tables.show(
        result.by_plan,
        _PLAN_COLUMNS,
        key="tuning_by_plan",
        zone=zone,
        search=False,
        alt="Fresh share by plan, live and draft",
    )
    st.markdown("**Decisions that turn out differently, by rule and plan**")
    if result.flips.empty:
        states.unknown("None does: with these draws every decision comes out as it would live.")
        return
    tables.show(
        result.flips,
        _FLIP_COLUMNS,
        key="tuning_flips",
        zone=zone,
        search=False,
        alt="Decisions that flip, by rule and plan",
    )


_PLAN_COLUMNS: Sequence[tables.Column] = (
    tables.Column("plan", "Plan", "slug"),
    tables.Column("decisions", "Decisions", "count"),
    tables.Column("fresh_rate_live", "Fresh, live", "share"),
    tables.Column("fresh_rate_draft", "Fresh, draft", "share"),
    tables.Column("change", "Change", "share"),
    tables.Column("low", "95 % from", "share", help="Lower end of the interval of the change, accounts resampled"),
    tables.Column("high", "95 % to", "share", help="Upper end of the interval of the change"),
    tables.Column("to_fresh", "To fresh", "count"),
    tables.Column("to_library", "To library", "count"),
)
_FLIP_COLUMNS: Sequence[tables.Column] = (
    tables.Column("plan", "Plan", "slug"),
    tables.Column("rule_live", "Rule, live", "slug"),
    tables.Column("rule_draft", "Rule, draft", "slug"),
    tables.Column("to_fresh", "To fresh", "count"),
    tables.Column("to_library", "To library", "count"),
    tables.Column("decisions", "Decisions", "count"),
)
