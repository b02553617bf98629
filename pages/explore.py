"""Explore: any metric by any dimension, as lines, bars, a heat map or a table. The address holds the whole question."""

from datetime import date
from urllib.parse import parse_qsl, urlencode

import pandas as pd
import streamlit as st

from credit_core.analytics import metrics, queries
from credit_core.analytics.queries import explore, series
from credit_core.analytics.queries.explore import Point, Question
from pages.components import (
    charts,
    drill,
    filters,
    numbers,
    plots,
    saved_views,
    sentences,
    session,
    states,
    tables,
    units_shown,
)
from pages.components.answers import ask
from pages.components.session import guard
from pages.components.text import escape_markdown, one_line, shortened, title_of

guard()

METRIC, BY, THEN, CHART, TOP, POINT = "metric", "by", "then", "chart", "top", "point"
NOTHING = "nothing"
LINES, BARS, HEAT, TABLE = "Lines", "Bars", "Heat map", "Table"
CHARTS = (LINES, BARS, HEAT, TABLE)
DIMENSIONS = {
    NOTHING: "Nothing", "plan": "Plan", "region": "Region", "team_id": "Team", "model": "Model", "modality": "Modality",
    "genre": "Genre", "mood": "Mood", "rule": "Rule", "outcome": "Outcome", "mode": "Mode", "kind": "Entry",
    "lot_kind": "Lot", "arm": "Arm", "config_version": "Version", "user_id": "User", "account_id": "Account",
}  # fmt: skip
TOPS = (2, 3, 4, 6, 8, 12)
MOST_PANELS, PANELS_IN_A_ROW = 6, 2
#: Questions that are asked of every ledger.
READY = {
    "What did the releases change?": {METRIC: "fresh_rate", BY: "config_version", THEN: NOTHING, CHART: BARS},
    "Which model fails most?": {METRIC: "failure_rate", BY: "model", THEN: NOTHING, CHART: BARS},
    "Where does the library miss?": {METRIC: "coverage_miss_rate", BY: "genre", THEN: "mood", CHART: HEAT},
    "Who spends most?": {METRIC: "spent", BY: "user_id", THEN: NOTHING, CHART: BARS},
    "What decides?": {METRIC: "requests", BY: "rule", THEN: NOTHING, CHART: LINES},
    "When do requests come?": {METRIC: "requests", BY: NOTHING, THEN: NOTHING, CHART: HEAT},
}
ROWS_SHOWN = 200

with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", key="title_bar"):
    st.title("Explore", width="content")
    views = st.container(width="content")
facts, zone, options, ledger = session.facts(), session.zone(), session.options(), session.ledger()
if ledger.as_of is None:
    filters.no_entries()
    st.stop()


def controls() -> tuple[Question, str]:
    """What is asked: a metric, up to two dimensions, a kind of chart."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="question_bar"):
        slug = st.selectbox(
            "Metric", list(metrics.METRICS), format_func=lambda name: metrics.metric(name).title, key=METRIC,
            bind="query-params", width=220, on_change=forget,
        )  # fmt: skip
        there = offered(metrics.metric(slug))
        by = dimension("By", BY, there)
        then = dimension("Then by", THEN, [name for name in there if name != by or name == NOTHING])
        chart = st.segmented_control(
            "Drawn as", CHARTS, default=LINES, key=CHART, bind="query-params", required=True, on_change=forget
        )
        top = st.selectbox(
            "Shown apart", TOPS, index=TOPS.index(6), key=TOP, bind="query-params", width=130, on_change=forget,
            help="Of each dimension; all others are one part, 'other'.",
        )  # fmt: skip
    return Question(slug, tuple(name for name in (by, then) if name != NOTHING), top), chart


def offered(metric: metrics.Metric) -> list[str]:
    """The dimensions that a metric can be broken down by, in the order of the list."""
    known = [name for name in DIMENSIONS if name in metric.dimensions]
    return [NOTHING, *known, *(name for name in metric.dimensions if name not in DIMENSIONS)]


def dimension(label: str, key: str, there: list[str]) -> str:
    """A choice among dimensions; one that another metric left behind is dropped."""
    if key in st.session_state and st.session_state[key] not in there:
        st.session_state[key] = NOTHING
    return st.selectbox(
        label, there, format_func=named, key=key, bind="query-params", width=130, on_change=forget
    )  # fmt: skip


def named(name: str) -> str:
    """A dimension on screen."""
    return DIMENSIONS.get(name) or title_of(name)


def forget() -> None:
    """Another question has other points."""
    st.query_params.pop(POINT, None)


def pick(day: str | None = None, **values: str) -> None:
    """A click on a point shows the rows behind it."""
    st.query_params[POINT] = urlencode(({"day": day} if day else {}) | values)


def picked() -> Point | None:
    """The point that the address names, where the question has it."""
    values = dict(parse_qsl(st.query_params.get(POINT, ""), keep_blank_values=True))
    if not values or not set(values) <= {"day", "dow", "hour", *question.by}:
        return None
    try:
        day = date.fromisoformat(values.pop("day")) if "day" in values else None
    except ValueError:
        return None
    return Point(day, tuple(sorted(values.items())))


def sentence() -> None:
    """The question's answer in words."""
    whole = ask(queries.kpis, chosen, (question.slug,)).iloc[0]
    written = numbers.metric(whole["value"], metric.format)
    if written == numbers.UNKNOWN:
        st.markdown("Nothing is known of this metric in this period with these filters.")
        return
    unit = (
        f" {escape_markdown(metric.unit.replace('credits', filters.credit_words(), 1))}"
        if metric.format == "credits"
        else ""
    )
    before = numbers.metric(whole["before"], metric.format)
    was = f", {before} {sentences.within(filters.compare_name())}" if before != numbers.UNKNOWN else ""
    clauses = [f"{metric.title}: **{written}{unit}**{was}"]
    if question.by and len(parts) > 1 and not numbers.is_unknown(parts["share"].iloc[0]):
        first = parts[parts[question.by[0]] != series.OTHER].iloc[:1]
        if len(question.by) == 1 and len(first):
            clauses.append(
                f"{sentences.named(first[question.by[0]].iloc[0])} has {sentences.percent(first['share'].iloc[0])} of it"
            )
    st.markdown(sentences.joined(*clauses))


def lines(panel: pd.DataFrame, earlier: pd.DataFrame | None, dimension: str | None):
    """The metric by day."""
    return charts.time_lines(
        panel, x="day", y="value", series=dimension, name=metric.title, unit=unit, zone=zone, marks=marks,
        span=filters.span(), compare=earlier, shift=filters.shift(), compare_name=filters.compare_name(),
        domain=domain(dimension), shares=adds_up,
    )  # fmt: skip


def domain(dimension: str | None) -> tuple[str, ...]:
    """Every value of a dimension whose colours stay the same whatever is filtered."""
    return {"plan": options.plans, "model": options.models, "region": options.regions}.get(dimension or "", ())


def on_line(point: list[str], **more: str) -> None:
    """[day, series] of a line or bar by day."""
    by = question.by[:1]
    pick(point[0], **({by[0]: point[1]} if by else {}), **more)


def by_box():
    """What a box over days does: where points can be clicked, nothing, for drawing one would swallow the click."""
    return None if explore.has_rows(question) else filters.set_days


def draw_lines() -> None:
    """One chart, or one for each value of the second dimension, on one scale."""
    frame = ask(explore.course, chosen, question, apart)
    before = chosen.compared()
    earlier = ask(explore.course, before, question, apart) if before is not None else None
    by = question.by[0] if question.by else None
    if len(question.by) < 2:
        # With many lines a dotted twin of each would hide them.
        fig = lines(frame, earlier if by is None else None, by)
        plots.show(
            fig, key="lines", alt=f"{metric.title} by day.", on_days=by_box(),
            on_click=on_line if explore.has_rows(question) else None,
        )  # fmt: skip
        return
    split = question.by[1]
    panels([(value, lines(frame[frame[split] == value], None, by)) for value in largest(split)], split, on_line)


def draw_bars() -> None:
    """Parts side by side; without a dimension, days."""
    if not question.by:
        frame = ask(explore.course, chosen, question, apart).assign(metric=metric.title)
        fig = charts.stacked_bars(
            frame, x="day", y="value", series="metric", unit=unit, zone=zone, marks=marks, span=filters.span(),
        )  # fmt: skip
        plots.show(
            fig, key="bars", alt=f"{metric.title} by day.", on_days=by_box(),
            on_click=on_line if explore.has_rows(question) else None,
        )  # fmt: skip
        return
    if len(question.by) == 1:
        plots.show(bars(parts), key="bars", alt=f"{metric.title} by {question.by[0]}.", on_click=on_bar())
        return
    split = question.by[1]
    panels([(value, bars(parts[parts[split] == value])) for value in largest(split)], split, on_bar())


def bars(frame: pd.DataFrame):
    """Bars of one panel, the comparison as a tick on each."""
    return charts.ranked_bars(
        frame, label=question.by[0], value="value", unit=unit, before="before" if chosen.compare else None,
        series_colours=question.by[0] in ("plan", "model", "outcome", "lot_kind"), compare_name=filters.compare_name(),
        better=metric.direction, whole=None if adds_up else 0.0, limit=question.top + 1,
    )  # fmt: skip


def on_bar():
    """What a click on a bar does."""
    if not explore.has_rows(question):
        return None
    return lambda value, **more: pick(**{question.by[0]: value}, **more)


def panels(drawn: list, split: str, clicked) -> None:
    """Small multiples, two in a row."""
    charts.same_scale([fig for _, fig in drawn])
    for first in range(0, len(drawn), PANELS_IN_A_ROW):
        for place, (value, fig) in zip(
            st.columns(PANELS_IN_A_ROW), drawn[first : first + PANELS_IN_A_ROW], strict=False
        ):
            with place:
                st.text(shortened(title_of(value.strip()), 48))
                on_click = None if clicked is None else (lambda point, value=value: clicked(point, **{split: value}))
                plots.show(
                    fig,
                    key=f"panel_{first}_{value}",
                    alt=f"{metric.title} where {split} is {value}.",
                    on_click=on_click,
                )
    left_out = parts[split].nunique() - len(drawn)
    if left_out > 0:
        st.caption(f"The {len(drawn)} largest; {left_out} more are in the table.")


def largest(split: str) -> list[str]:
    """The values of the second dimension that get a panel, 'other' last."""
    there = set(parts[split])
    ordered = [value for value in (*apart[split], series.OTHER) if value in there]
    return ordered[:MOST_PANELS]


def draw_heat() -> None:
    """Two dimensions; of one, its days; of none, the hours of the week."""
    if not question.by:
        if metric.counted_apart or metric.span == "to_date":
            states.unknown(f"{metric.title} has no hours. Choose a dimension, or lines.")
            return
        rate = metric.denominator is not None or metric.format == "ms"
        fig = charts.hour_of_week(
            ask(queries.hours_of_week, chosen, question.slug), weekday="dow", hour="hour", value="per_hour",
            unit=unit if rate else unit.per("hour"), zone_name=facts.zone,
        )  # fmt: skip
        plots.show(
            fig, key="hours", alt=f"{metric.title} in each hour of the week.",
            on_click=lambda cell: pick(dow=str(cell[0]), hour=str(cell[1])),
        )  # fmt: skip
        return
    row = question.by[0]
    if len(question.by) == 2:
        frame, column = parts, question.by[1]
        down, across = (in_order(name) for name in question.by)
    else:
        frame, column = ask(explore.course, chosen, question, apart), "day"
        frame = frame.dropna(subset=["value"]).assign(day=frame["day"].dt.strftime("%Y-%m-%d"))
        down, across = in_order(row), sorted(frame["day"].unique())
    if frame.empty:
        states.unknown("Nothing is known of this metric on any day.")
        return
    fig = charts.cell_map(
        frame, row=row, column=column, value="value", unit=unit, row_title=named(row).lower(),
        column_title=named(column).lower(), tint=charts.BLUE, rows=down, columns=across,
        column_names={day: numbers.day(date.fromisoformat(day), year=False) for day in across} if column == "day" else None,
    )  # fmt: skip

    def clicked(cell: list[str]) -> None:
        pick(cell[1], **{row: cell[0]}) if column == "day" else pick(**{row: cell[0], column: cell[1]})

    plots.show(
        fig, key="heat", alt=f"{metric.title} by {row} and {column}.",
        on_click=clicked if explore.has_rows(question) else None,
    )  # fmt: skip


def in_order(name: str) -> list[str]:
    """A dimension's values as ranked, 'other' last."""
    there = set(parts[name])
    return [value for value in (*apart[name], series.OTHER) if value in there]


def draw_table() -> None:
    """Every part, not only the largest."""
    if not question.by:
        rows = ask(queries.daily, chosen, question.slug)
        first = [tables.Column("day", "Day", "day", pinned=True)]
    else:
        rows = ask(explore.parts, chosen, question, {})
        rows = rows.assign(**{name: [written(value) for value in rows[name]] for name in question.by})
        first = [
            tables.Column(name, named(name), "text" if name in FREE_TEXT else "slug", pinned=True)
            for name in question.by
        ]
    kind = {"credits": "credits", "dollars": "dollars", "share": "share", "days": "days", "ms": "ms"}.get(
        metric.format, "count"
    )
    figures = [tables.Column("value", metric.title, kind, help=metric.definition)]
    if metric.denominator is not None:
        figures += [
            tables.Column("numerator", "Numerator", "count"),
            tables.Column("denominator", "Denominator", "count"),
        ]
    elif question.by and adds_up:
        figures.append(tables.Column("share", "Share", "share"))
    if question.by and chosen.compare:
        in_points = " (points for shares)" if metric.format == "share" else ""
        figures += [
            tables.Column("before", "Before", kind, help=filters.compare_name()),
            tables.Column("change", "Change", "share", help=f"Against the {filters.compare_name()}{in_points}."),
        ]
    tables.show(
        rows,
        [*first, *figures],
        key="answer",
        zone=zone,
        on_row=drill.to_user if "user_id" in question.by else None,
        file_name=question.slug,
        alt=f"{metric.title} in a table.",
    )


def written(value: object) -> str | None:
    """A dimension's value as text; a missing one stays missing."""
    if pd.isna(value):
        return None
    return f"{value:.0f}" if isinstance(value, float) else str(value)


#: Values that somebody chose; the others are the product's own names.
FREE_TEXT = ("user_id", "account_id", "team_id", "model", "genre", "mood", "region")


def explained() -> None:
    """What the metric is, how it was asked, and the link to it."""
    about, statement = st.columns(2)
    with about, st.expander("What this is", icon=":material/info:"):
        st.markdown(f"**{metric.title}**: {metric.definition}. Unit: {metric.unit}.")
        st.caption(metric.source)
        if question.by and not adds_up and metric.denominator is None:
            st.markdown("Its parts do not add up: what is in one part can be in another too.")
        if metric.denominator is not None:
            st.markdown("'Other' has a numerator and denominator of its own; rates are never averaged.")
    with statement, st.expander("Show the SQL", icon=":material/database:"):
        st.code(explore.sql(facts, chosen, question, apart), language="sql", wrap_lines=True)


def behind() -> None:
    """The entries behind the point that was clicked."""
    point = picked()
    if point is None:
        return
    with st.container(border=True, key="point"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            said = [f"{named(name).lower()} {one_line(value)}" for name, value in point.values]
            when = [] if point.day is None else [numbers.day(point.day)]
            st.text("Rows behind " + ", ".join([*when, *said]))
            st.button("Close", icon=":material/close:", key="close_point", type="tertiary", on_click=forget)
        if not explore.has_rows(question):
            states.unknown("Closed cycles are no entries of the ledger.")
            return
        count = ask(explore.point_count, chosen, question, apart, point)
        if not count:
            states.unknown("No entry went into this point.")
            return
        drill.entry_table(
            ask(explore.point_rows, chosen, question, apart, point, ROWS_SHOWN),
            key="point_rows",
            csv_data=lambda: explore.point_csv(facts, chosen, question, apart, point),
            total=count,
            file_name=f"rows_{question.slug}",
        )


with views:
    possible = {METRIC: metrics.METRICS, BY: DIMENSIONS, THEN: DIMENSIONS, CHART: CHARTS, TOP: TOPS}
    saved_views.popover(possible, READY, forget)
question, chart = controls()
chosen = filters.current()
metric, unit = question.metric, units_shown.unit_of(question.metric)
with states.loading(420):
    apart = ask(explore.apart, chosen, question)
    parts = ask(explore.parts, chosen, question, apart) if question.by else pd.DataFrame({"share": []})
adds_up = metric.denominator is None and set(question.by) <= set(metric.summable) and bool(question.by)
marks = charts.marks_from(ask(queries.release_marks, chosen))
sentence()
if question.by and parts.empty:
    filters.nothing_here()
else:
    {LINES: draw_lines, BARS: draw_bars, HEAT: draw_heat, TABLE: draw_table}[chart]()
    if chart != TABLE and explore.has_rows(question):
        st.caption("Click a point for the rows behind it. The address of this page is the question: share it as it is.")
behind()
explained()
