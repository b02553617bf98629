"""Ask for figures, get a configuration: a search over replays, a table to pick from, and the pick as a draft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd
import streamlit as st

from credit_core.analytics.filters import Filters
from credit_core.lab import calibrate
from credit_core.lab.background import Asked, Progress
from credit_core.lab.calibrate import Found
from credit_core.lab.ground import ground
from credit_core.lab.targets import FIGURES, Bound, Wish
from credit_core.policy.config import flatten
from credit_core.service import configure
from credit_core.settings import database_url
from pages.components import lab_jobs, numbers, session, tables, tuning_diff
from pages.components import tuning_draft as drafts
from pages.components.lab_asked import key_of
from pages.components.text import escape_markdown, sentence_list, title_of

_GOALS = ("fresh_rate", "pacing_efficiency", "run_out_share", "dry_time", "flicker", "provider_cost")
_BOUNDED = ("run_out_share", "dry_time", "flicker", "fresh_rate", "pacing_efficiency", "provider_cost")
_SHORT = {
    "run_out_share": "Run out", "pacing_efficiency": "Efficiency", "dry_time": "Dry time", "premium_share": "Premium",
    "unspent_credits": "Unspent",
}  # fmt: skip
_WISH, _USED = "_lab_wish", "_lab_used"
_TOLD = (
    "fresh_rate",
    "run_out_share",
    "pacing_efficiency",
    "dry_time",
    "flicker",
    "provider_cost",
    "coverage_miss_rate",
)


def show(chosen: Filters) -> None:
    """The form, then what was found."""
    _form()
    asked: tuple[Wish, bool, float, int] | None = st.session_state.get(_WISH)
    if asked is None:
        st.caption(
            "For points of the S-curve (p at so many credits behind and ahead) use the targets on the Tuning page: there the "
            "gain follows at once."
        )
        return
    wish, coverage, budget_s, seed = asked
    facts, catalog = session.facts(), session.core().deployment.catalog

    def work(progress: Progress, stopped: Asked) -> tuple[Found, int]:
        found = ground(facts, catalog, chosen)
        return calibrate.search(
            found.prepared, found.live, wish, found.period, coverage=coverage, seed=seed, budget_s=budget_s, progress=progress,
            stopped=stopped,
        ), found.number  # fmt: skip

    key = ("calibrate", database_url(), key_of(chosen), *asked)
    done = lab_jobs.awaited(key, work, "Looking for a configuration", "lab_calibrate", "The search")
    if done is not None:
        _found(*done)


def _form() -> None:
    with st.form("lab_wish", border=True):
        left, right = st.columns(2)
        with left:
            goal = st.selectbox("As good as possible", _GOALS, format_func=_title, key="lab_goal")
        with right:
            bounded = st.multiselect(
                "Within bounds of",
                _BOUNDED,
                default=["run_out_share"],
                format_func=_title,
                key="lab_bounded",
                max_selections=3,
            )
        with st.container(horizontal=True, gap="small"):
            values = {slug: _bound(slug) for slug in _BOUNDED if slug in (bounded or ["run_out_share"])}
            budget_s = st.number_input("Seconds at most", 5, 3_600, 120, step=30, key="lab_budget", width=150)
            seed = st.number_input("Seed", 0, 1_000_000, 0, key="lab_seed", width=110)
        coverage = st.toggle(
            "May lower the coverage thresholds", value=True, key="lab_coverage",
            help="Thin library cells force fresh ones whatever the balance. Lower thresholds force fewer, and leave more requests to "
            "thin cells.",
        )  # fmt: skip
        if st.form_submit_button("Search", type="primary", icon=":material/my_location:", key="lab_search"):
            bounds = tuple(Bound(slug, _side(slug), value) for slug, value in values.items())
            st.session_state[_WISH] = (Wish(goal, _up(goal), bounds), bool(coverage), float(budget_s), int(seed))
            st.session_state.pop(_USED, None)


def _bound(slug: str) -> float:
    share = FIGURES[slug].unit.startswith("share")
    words = f"{_title(slug)} {'below' if _side(slug) == '<' else 'above'}, {'%' if share else FIGURES[slug].unit}"
    usual = {"run_out_share": 2.0, "dry_time": 1.0, "flicker": 20.0, "fresh_rate": 60.0, "pacing_efficiency": 85.0}
    top = 100.0 if share else 1e9
    value = st.number_input(words, 0.0, top, usual.get(slug, 10_000.0), key=f"lab_bound_{slug}", width=250)
    return float(value) / 100.0 if share else float(value)


def _found(found: Found, number: int) -> None:
    st.markdown(verdict(found))
    if found.cut:
        st.caption(":material/schedule: The time ended the search early; with more of it other candidates may turn up.")
    names = [slug for slug in found.frame.columns if slug in FIGURES]
    columns = [
        tables.Column("label", "Candidate", pinned=True),
        tables.Column("meets", "Meets all bounds", "flag"),
        *(tables.Column(slug, _SHORT.get(slug, _title(slug)), _kind(slug), _title(slug)) for slug in names),
        tables.Column(
            "on_line", "On the line", "flag", "None has more efficiency and less dry time, flicker and cost."
        ),
    ]
    frame = found.frame.assign(label=[_label(row) for row in found.frame.to_dict("records")])
    tables.show(
        frame,
        columns,
        key="lab_finalists",
        zone=session.zone(),
        search=False,
        alt="Finalists on all accounts, best first",
    )
    labels = dict(zip(frame["number"].tolist(), frame["label"].tolist(), strict=True))
    choices = [each for each in labels if each != 0]
    if not choices:
        return
    picked = st.selectbox("Look at", choices, format_func=lambda each: labels[each], key="lab_pick")
    _details(found, picked or choices[0], number)


def verdict(found: Found) -> str:
    """What came out, in words."""
    best = found.frame.iloc[0]
    bounds = sentence_list([_said(bound) for bound in found.wish.bounds], 4)
    goal = f"{_title(found.wish.slug).lower()} as {'high' if found.wish.up else 'low'} as possible"
    asked = f"Asked for {bounds + ' and ' if bounds else ''}{goal}; {numbers.count(found.tried)} candidates tried."
    if not found.met:
        live = found.frame[found.frame["number"] == 0].iloc[0]
        missed = sentence_list(
            [
                f"{_title(bound.slug).lower()} {_written(bound.slug, best[bound.slug])} (live {_written(bound.slug, live[bound.slug])})"
                for bound in found.wish.bounds
                if bound.violation(float(best[bound.slug])) > 0.0
            ],
            4,
        )
        return f"{asked} **None meets every bound on all accounts.** The nearest has {missed}. Loosen a bound, or allow more."
    if int(best["number"]) == 0:
        return f"{asked} **What is live is the best of them.**"
    return (
        f"{asked} **{title_of(str(best['name']))} meets them on all accounts**: {_title(found.wish.slug).lower()} "
        f"{_written(found.wish.slug, best[found.wish.slug])}, "
        + sentence_list([f"{_title(b.slug).lower()} {_written(b.slug, best[b.slug])}" for b in found.wish.bounds], 4)
        + "."
    )


def _details(found: Found, number: int, live: int) -> None:
    changes = found.changes(number)
    st.markdown("**On all accounts, live → candidate**")
    tables.show(
        _compared(found, number), _COMPARED, key="lab_compared", zone=session.zone(), search=False,
        alt="Live against the candidate, with 95 % intervals of the differences",
    )  # fmt: skip
    st.markdown(f"**What it changes against version {live}**")
    flat = flatten(configure.live_version(session.core().deployment).body)
    rows = tuning_diff.rows({key: (flat.get(key), value) for key, value in changes.items()}, tuning_diff.known())
    tuning_diff.show(rows, key="lab_changes", old=f"Version {live}", new="Candidate")
    if any(key.startswith("coverage.") or key.endswith("coverage_threshold") for key in changes):
        st.caption(
            ":material/info: It also changes coverage thresholds, so fewer gaps of the library are answered with fresh ones."
        )
    _use(changes)


def _use(changes: dict[str, Any]) -> None:
    used = st.session_state.get(_USED)
    if used == changes:
        st.success("It is your draft now. Look at its preview, then publish it there.", icon=":material/check:")
        st.page_link("pages/tuning.py", label="Open Tuning", icon=":material/tune:")
        return
    if isinstance(used, str):
        st.warning(escape_markdown(used), icon=":material/warning:")
    st.button(
        "Use as draft", type="primary", icon=":material/edit_note:", key="lab_use", on_click=_as_draft, args=(changes,),
        help="Replaces what your draft changes now; nothing goes live.",
    )  # fmt: skip


def _as_draft(changes: dict[str, Any]) -> None:
    version = configure.live_version(session.core().deployment)
    if drafts.open_draft(version.version, version.body) is not None:
        st.session_state[_USED] = "Your draft was made against an older version. Settle that on the Tuning page first."
        return
    drafts.current().changes.clear()
    drafts.change_many(changes)
    trouble = drafts.current().trouble
    st.session_state[_USED] = f"The draft could not be saved: {trouble}" if trouble else changes


def _compared(found: Found, number: int) -> pd.DataFrame:
    held: dict[tuple[int, int], pd.DataFrame] = st.session_state.setdefault("_lab_compared", {})
    key = (id(found), number)
    if key not in held:
        metrics = found.comparison(number).metrics
        rows = metrics[(metrics["by"] == "all") & metrics["slug"].isin(_TOLD)]
        held.clear()
        held[key] = pd.DataFrame([_line(row) for row in rows.to_dict("records")])
    return held[key]


def _line(row: dict[Any, Any]) -> dict[str, str]:
    slug = str(row["slug"])
    low, high = (_written(slug, row[end], sign=True) for end in ("low", "high"))
    known = low != numbers.UNKNOWN
    return {
        "figure": str(row["title"]),
        "live": _written(slug, row["live"]),
        "candidate": _written(slug, row["candidate"]),
        "interval": f"{low} to {high}" if known else numbers.UNKNOWN,
    }


_COMPARED: Sequence[tables.Column] = (
    tables.Column("figure", "Figure"),
    tables.Column("live", "Live"),
    tables.Column("candidate", "Candidate"),
    tables.Column("interval", "Difference, 95 % interval"),
)


def _label(row: dict[Any, Any]) -> str:
    return "Live" if row["number"] == 0 else f"{row['number']} · {title_of(str(row['name']))}"


def _kind(slug: str) -> Literal["share", "dollars", "credits", "number"]:
    unit = FIGURES[slug].unit
    if unit.startswith("share"):
        return "share"
    return "dollars" if unit == "dollars" else "credits" if unit == "credits" else "number"


def _written(slug: str, value: Any, *, sign: bool = False) -> str:
    if _kind(slug) == "share":
        return numbers.share(value, sign=sign)
    return numbers.in_dollars(value) if _kind(slug) == "dollars" else numbers.decimal(value, 1, sign=sign)


def _said(bound: Bound) -> str:
    return (
        f"{_title(bound.slug).lower()} {'below' if bound.side == '<' else 'above'} {_written(bound.slug, bound.value)}"
    )


def _title(slug: str) -> str:
    return FIGURES[slug].title


def _side(slug: str) -> Literal["<", ">"]:
    return ">" if _up(slug) else "<"


def _up(slug: str) -> bool:
    return slug in ("fresh_rate", "pacing_efficiency")
