"""Coverage: where does the library fail? Cells, thresholds by plan, and what filling the next ones would mend."""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries import gaps
from pages.components import charts, drill, filters, kpi, numbers, plots, sentences, session, states, tables
from pages.components.answers import ask
from pages.components.metric_cards import Wanted, cards, figures
from pages.components.session import guard
from pages.components.text import figure_text

guard()


@dataclass(frozen=True)
class Measure:
    """What the cell map shows: its name, a column of the cells, its unit, its tint and what it means."""

    name: str
    column: str
    unit: charts.Unit
    tint: str
    means: str
    most: float | None = None


MEASURES = {
    "misses": Measure(
        "Miss rate", "miss_rate", charts.SHARE.titled("miss rate, %"), charts.VERMILLION,
        "Share of the cell's requests that met a gap: its coverage was under the plan's threshold.",
    ),
    "demand": Measure(
        "Demand", "demand_per_day", charts.Unit("requests a day", 1.0, numbers.short, numbers.short), charts.BLUE,
        "Requests for the cell a day.",
    ),
    "health": Measure(
        "Health", "health", charts.SHARE.titled("health, %"), charts.GREEN,
        "Coverage × the share of assets that are not stale: 100 % is a full, recent cell.", most=1.0,
    ),
    "risk": Measure(
        "Credits at risk", "at_risk_credits", charts.CREDITS.titled(figure_text(f"{filters.credit_words()} at risk")), charts.ORANGE,
        "Credits spent on fresh ones that the library could not answer.",
    ),
}  # fmt: skip
EVERY_CELL = "All cells"
CELL, MEASURE = "cell", "measure"
_PICKED = "_picked_cell"
MOST_TO_FILL = 100
#: Lines of the chart over time: one for each colour.
CELLS_BY_DAY = 6

st.title("Coverage")
chosen, facts, zone = filters.current(), session.facts(), session.zone()
if session.ledger().as_of is None:
    filters.no_entries()
    st.stop()
config = session.core().config()


#: What stands on the cards.
WANTED = (
    Wanted("coverage_miss_rate", "Miss rate", target=config.slos.coverage_miss_rate),
    Wanted("coverage_misses", "Misses"),
    Wanted("fresh_rate"),
    Wanted("requests"),
)


def label(genre: str, mood: str) -> str:
    """A cell's name on screen and in the URL."""
    return f"{genre} × {mood}"


def labels(frame: pd.DataFrame) -> list[str]:
    return [label(genre, mood) for genre, mood in zip(frame["genre"], frame["mood"], strict=True)]


def sentence(queue: pd.DataFrame, cells: pd.DataFrame) -> None:
    """Where the library fails, in words."""
    found = figures(WANTED, chosen)["coverage_miss_rate"]
    rate, decisions = found["value"], found["denominator"]
    if numbers.is_unknown(rate):
        st.markdown("No request asked the library in this period with these filters.")
        return
    if not found["numerator"]:
        st.markdown(f"The library had every cell it was asked for in {sentences.counted(decisions, 'decision')}.")
        return
    worst = cells.loc[cells["misses"].idxmax()]
    target = config.slos.coverage_miss_rate
    met = "under" if rate < target else "over"
    gaps_met = f"**{sentences.percent(rate)}** of decisions met a gap in the library, {met} the target of {sentences.percent(target)}"
    where = (
        f"most misses fell on {sentences.cell(worst['genre'], worst['mood'])}: {numbers.count(worst['misses'])} of "
        f"{sentences.counted(int(worst['requests']), 'request')}"
    )
    st.markdown(sentences.joined(gaps_met, where, filled(queue, min(5, len(queue)))))


def filled(queue: pd.DataFrame, cells: int) -> str:
    """What filling the next ``cells`` of the queue would mend."""
    if not cells:
        return ""
    last = queue.iloc[cells - 1]
    these, them = (f"the next {cells} cells", "them") if cells > 1 else ("the next cell", "it")
    assets = sentences.counted(int(last["cum_assets_needed"]), "asset")
    if not last["cum_misses"]:
        return f"{these} of the queue had no misses in this period; {assets} would bring {them} to the threshold"
    had = f"{sentences.percent(last['cum_miss_share'])}** of the period's misses"
    return f"{these} of the queue had **{had}; {assets} would bring {them} to the threshold"


def to_cell(data: list[str]) -> None:
    """A click on the map narrows to its cell."""
    st.session_state[CELL] = label(*data)


def to_all() -> None:
    st.session_state[CELL] = EVERY_CELL


def controls() -> tuple[Measure, str]:
    """What the map shows, and the cell that the page is narrowed to."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="map_controls"):
        shown = st.segmented_control(
            "Shown on the map",
            list(MEASURES),
            default="misses",
            format_func=lambda key: MEASURES[key].name,
            key=MEASURE,
            bind="query-params",
            required=True,
        )
        cell = st.selectbox("Cell", [EVERY_CELL, *choices], key=CELL, bind="query-params", width=260)
    return MEASURES[shown], cell


def cell_map(cells: pd.DataFrame, measure: Measure) -> None:
    """The library at a glance: genre × mood."""
    fig = charts.cell_map(
        cells, row="genre", column="mood", value=measure.column, unit=measure.unit, row_title="genre", column_title="mood",
        tint=measure.tint, most=measure.most, detail=detail,
    )  # fmt: skip
    plots.show(fig, key="cells", alt=f"{measure.means} By genre and mood.", on_click=to_cell)
    most = ""
    if cells[measure.column].max() > 0:
        first = cells.loc[cells[measure.column].idxmax()]
        most = (
            f"Most: **{sentences.cell(first['genre'], first['mood'])}**, {measure.unit.text(first[measure.column])}. "
        )
    st.caption(f"{measure.means} {most}Click a cell to narrow to it.")


def detail(cell: dict) -> str:
    """A cell's hover."""
    return "\n".join(
        [
            f"{numbers.count(cell['misses'])} misses in {sentences.counted(int(cell['requests']), 'request')}",
            f"{numbers.short(cell['demand_per_day'])} requests a day",
            f"{sentences.counted(int(cell['assets']), 'asset')}, {numbers.count(cell['stale_assets'])} stale",
            f"coverage {numbers.share(cell['coverage'])}, health {numbers.share(cell['health'])}",
            f"{numbers.in_credits(cell['at_risk_credits'])} at risk",
        ]
    )


def one_cell(narrowed: Filters) -> None:
    """One cell's course and the decisions behind it."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.subheader(f"{sentences.cell(*narrowed.cell)}")
            st.button("All cells", icon=":material/close:", on_click=to_all, key="to_all_cells", type="tertiary")
        course = ask(queries.daily, narrowed, "coverage_miss_rate")
        if not course["denominator"].sum():
            filters.nothing_here("Nobody asked for this cell in this period with these filters.")
            return
        left, right = st.columns(2)
        marks = charts.marks_from(ask(queries.release_marks, chosen))
        with left:
            fig = charts.time_lines(
                course, x="day", y="value", unit=charts.SHARE.titled("miss rate, %"), zone=zone, marks=marks,
                span=filters.span(), tint=charts.VERMILLION,
            )  # fmt: skip
            plots.show(fig, key="cell_course", alt="Miss rate of the chosen cell by day.", on_days=filters.set_days)
        with right:
            fig = charts.time_lines(
                course, x="day", y="denominator", unit=charts.DECISIONS.per("day"), zone=zone, marks=marks, span=filters.span(),
            )  # fmt: skip
            plots.show(fig, key="cell_demand", alt="Decisions for the chosen cell by day.", on_days=filters.set_days)


def summary() -> list[kpi.Card]:
    """Five figures."""
    return [*cards(WANTED, chosen), first_card()]


def first_card() -> kpi.Card:
    """How many of those who met the library met it for the first time."""
    firsts = ask(gaps.first_fallbacks, chosen)
    before = ask(gaps.first_fallbacks, chosen.compared()) if chosen.compare else None
    return kpi.Card(
        "First fallbacks",
        numbers.share(firsts.share),
        unit=f"{numbers.count(firsts.firsts)} of {sentences.counted(firsts.users, 'user')}",
        change=numbers.points(firsts.share, None if before is None else before.share, better="neutral"),
        help=kpi.Help(
            "Of the users who got a library answer in the period, those who had never had one before.",
            "users whose first library answer lies in the period / users with one", "share", "SPEC 3, first-library-fallback tip",
        ),
    )  # fmt: skip


def thresholds() -> None:
    """What each plan asks of a cell, and how often it got less."""
    st.subheader("Thresholds by plan")
    rows = ask(queries.miss_by_plan, chosen, config)
    fig = charts.demand_by_coverage(
        ask(gaps.demand_by_coverage, chosen, config), coverage="coverage", under="under_share", requests="requests",
        thresholds=dict(zip(rows["plan"], rows["threshold"], strict=True)),
    )  # fmt: skip
    plots.show(
        fig, key="demand_by_coverage", alt="Share of requests by coverage of their cells, with each plan's threshold."
    )
    st.caption(
        "How much of the demand is for cells with little in them; left of a plan's line, its requests are misses."
    )
    tables.show(
        rows,
        [
            tables.Column("plan", "Plan", "slug", pinned=True),
            tables.Column(
                "threshold", "Threshold", "share", help="Coverage under which a request is a miss and served fresh."
            ),
            tables.Column("cells_under_threshold", "Cells under it", "count"),
            tables.Column("misses", "Misses", "count"),
            tables.Column("miss_rate", "Miss rate", "share"),
        ],
        key="thresholds",
        zone=zone,
        file_name="misses_by_plan",
        alt="Coverage threshold and misses by plan.",
    )


def pantry(queue: pd.DataFrame) -> None:
    """What to make next, and what that would mend."""
    st.subheader("Pantry queue")
    if queue.empty:
        states.unknown("The queue is empty: every demanded cell is over its threshold.")
        return
    if len(queue) > 1:
        most = min(MOST_TO_FILL, len(queue))
        count = st.slider("Fill the next cells", 1, most, min(5, most), key="fill", bind="query-params", width=420)
    else:
        count = 1
    st.markdown(sentences.joined(filled(queue, count)))
    if len(queue) > gaps.STEPS[0]:
        tables.show(
            gaps.fill_steps(queue),
            [
                tables.Column("cells", "Fill the next", "count", pinned=True),
                tables.Column("cum_misses", "Misses mended", "count"),
                tables.Column("cum_miss_share", "Of all misses", "share"),
                tables.Column("cum_assets_needed", "Assets to add", "count"),
                tables.Column("cum_at_risk_credits", "Credits spent on them", "credits", help="On fresh ones, for want of these cells."),
            ],
            key="fill_steps", zone=zone, search=False, file_name="pantry_steps",
            alt="What filling the next 10, 50 and 100 cells would mend.",
        )  # fmt: skip
    tables.show(
        queue,
        [
            tables.Column("rank", "Rank", "count"),
            tables.Column("genre", "Genre"),
            tables.Column("mood", "Mood"),
            tables.Column("demand_per_day", "Asked a day", "credits", help="Requests for the cell a day."),
            tables.Column("coverage", "Coverage", "share"),
            tables.Column("threshold", "Threshold", "share", help="The highest threshold of the plans that asked."),
            tables.Column("assets_needed", "Assets to add", "count", help="Until the threshold is reached."),
            tables.Column("misses", "Misses", "count"),
            tables.Column(
                "cum_miss_share",
                "Misses mended so far",
                "share",
                help="Share of the period's misses of this cell and those above it.",
            ),
            tables.Column(
                "cum_at_risk_credits",
                "Credits so far",
                "credits",
                help="Spent on fresh ones for want of this cell and those above it.",
            ),
            tables.Column("queued_at", "Queued", "instant", hidden=True),
        ],
        key="pantry",
        zone=zone,
        on_row=lambda row: pick(row["genre"], row["mood"]),
        file_name="pantry_queue",
        alt="Cells to fill next, by demand and distance to the threshold.",
    )


def pick(genre: str, mood: str) -> None:
    """A row of a table narrows to its cell."""
    st.session_state[_PICKED] = label(genre, mood)
    st.rerun()


def over_time() -> None:
    """Misses by day, of the cells that had most."""
    st.subheader("Misses a day, by cell")
    frame = ask(queries.misses_by_day, chosen, limit=CELLS_BY_DAY)
    if frame.empty:
        states.unknown("No misses in this period.")
        return
    frame["cell"] = labels(frame)
    fig = charts.stacked_bars(
        frame, x="day", y="misses", series="cell", unit=charts.COUNT.titled("misses a day"), zone=zone,
        marks=charts.marks_from(ask(queries.release_marks, chosen)), span=filters.span(),
    )  # fmt: skip
    plots.show(fig, key="misses", alt="Coverage misses by day, of the cells with most.", on_days=filters.set_days)


def staleness(cells: pd.DataFrame) -> None:
    """Cells whose assets are old."""
    st.subheader("Stale assets")
    frame = cells[cells["stale_assets"] > 0].assign(cell=labels)
    if frame.empty:
        states.unknown(f"No asset is older than {sentences.counted(config.coverage.stale_days, 'day')}.")
        return
    fig = charts.ranked_bars(
        frame,
        label="cell",
        value="stale_assets",
        unit=charts.COUNT.titled("stale assets"),
        series_colours=False,
        limit=10,
    )
    plots.show(
        fig,
        key="stale",
        alt="Cells with most stale assets.",
        on_click=lambda label: st.session_state.update({CELL: label}),
    )
    st.caption(
        f"Assets older than {sentences.counted(config.coverage.stale_days, 'day')}; they count against a cell's health."
    )


if _PICKED in st.session_state:
    st.session_state[CELL] = st.session_state.pop(_PICKED)
if not filters.only_paced("library coverage"):
    drill.entries(chosen, "coverage")
    st.stop()
with states.loading(420):
    everything = ask(queries.cells, chosen, config)
known = sorted({*session.options().cells, *zip(everything["genre"], everything["mood"], strict=True)})
choices = {label(genre, mood): (genre, mood) for genre, mood in known}
said = st.container()
if everything.empty:
    with said:
        sentence(ask(gaps.pantry_effect, chosen, config), everything)
    filters.nothing_here("No request named a library cell in this period with these filters.")
    drill.entries(chosen, "coverage")
    st.stop()
measure, picked = controls()
looked_at = chosen.narrowed(cell=choices[picked]) if picked in choices else chosen
# The map first: the words above it and the cards below wait for what they alone ask.
cell_map(everything, measure)
if looked_at.cell is not None:
    one_cell(looked_at)
waiting = ask(gaps.pantry_effect, chosen, config)
with said:
    sentence(waiting, everything)
kpi.row(summary(), key="coverage")
pantry(waiting)
plan_side, stale_side = st.columns(2)
with plan_side:
    thresholds()
with stale_side:
    staleness(everything)
over_time()
drill.entries(looked_at, "coverage")
