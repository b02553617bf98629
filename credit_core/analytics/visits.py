"""Who came on which day, and when before: from that, how many accounts came in any span of days is a sum.

A visit is an account, a place (plan and region) and a day on which it did what is counted. It is the first of a span where the
one before it lies outside; accounts that came in one place alone are counted by day and day before. Of those that came in more,
a visit also has the last day in each other place, so that it is known which is the first whatever places are looked at. What
holds by week is kept in files (:mod:`credit_core.analytics.by_week`), and asked for by :mod:`credit_core.analytics.visiting`.
Of a day that is not over, and of one that a question cuts through, visits are told account by account, with their instants.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from credit_core.analytics import by_week, carrying
from credit_core.analytics.by_week import PEOPLE
from credit_core.analytics.carrying import Written
from credit_core.analytics.filing import paths, quoted
from credit_core.analytics.manifest import Manifest
from credit_core.analytics.sync import LOCAL

#: The relation of visits, and the kind of file.
NAME = "visits"
#: What is counted: counts of the roll-up by person → the newest instant of it, kept beside.
COUNTED = {"requested": "requested_at", "unaffordable": "unaffordable_at"}
#: Of a day on which a place has entries at all.
ANY = "entries"


def completed(at: Manifest, folder: Path, written: Written) -> Manifest:
    """The manifest with the visits of all days that are over; the same one where nothing is missing."""
    last, known = carrying.last_whole_day(at), by_week.there(at, NAME)
    if last is None or any(last == until for _, until in known.files):
        return at
    files = {}
    for span in by_week.weeks(carrying.first_day(at), last):
        holds = known.through is not None and span[1] <= known.through
        files[span] = (
            known.files[span]
            if holds and span in known.files
            else written(by_week.named(NAME, span), _made(at, folder, span))
        )
    return replace(at, tables=at.tables | by_week.tables(at, NAME, files))


def _made(at: Manifest, folder: Path, span: by_week.Span) -> str:
    """SQL of the visits of some days."""
    first, last = span
    rows = carrying.rows_of(at, PEOPLE, folder, first, last)
    until = carrying.carried(at, PEOPLE).files.get(first - timedelta(days=1))
    before = None if until is None else f"read_parquet({paths(folder, [until])})"
    return f"{statement(rows, before, first, at.zone)} ORDER BY ALL"


def statement(rows: str, before: str | None, first: date, zone: str) -> str:
    """SQL of visits, from rows of the roll-up by person of some days, and a relation of what is added up ``before`` the ``first``.

    Columns day, plan, region, what, since (the day of the last visit there), others (the last days in other places), accounts.
    """
    came = [f"SELECT account_id, plan, region, day, '{what}' AS what FROM days WHERE {what} > 0" for what in COUNTED]
    for what, instant in COUNTED.items() if before is not None else ():
        day = f"CAST({LOCAL.replace('$zone', quoted(zone)).replace('occurred_at', instant)} AS DATE)"
        came.append(
            f"SELECT account_id, plan, region, {day} AS day, '{what}' AS what FROM {before} WHERE {instant} IS NOT NULL"
        )
    return f"""
        WITH days AS MATERIALIZED ({rows}),
        came AS MATERIALIZED (SELECT DISTINCT * FROM ({" UNION ALL ".join(came)})),
        several AS (
            SELECT what, account_id FROM (SELECT DISTINCT what, account_id, plan, region FROM came)
            GROUP BY what, account_id HAVING count(*) > 1
        ),
        theirs AS MATERIALIZED (
            SELECT came.*, dense_rank() OVER (ORDER BY plan, region) AS place FROM came SEMI JOIN several USING (what, account_id)
        ),
        last_there AS (
            SELECT v.what, v.account_id, v.place, v.day, o.plan, o.region, max(o.day) AS since
            FROM theirs v JOIN theirs o ON o.what = v.what AND o.account_id = v.account_id AND o.place <> v.place
                AND (o.day < v.day OR o.day = v.day AND o.place < v.place)
            WHERE v.day >= DATE '{first}' GROUP BY ALL
        ),
        elsewhere AS (
            SELECT what, account_id, place, day, list({{'plan': plan, 'region': region, 'since': since}} ORDER BY plan, region) AS others
            FROM last_there GROUP BY ALL
        ),
        placed AS (
            SELECT came.*, theirs.place, lag(came.day) OVER (
                PARTITION BY came.what, came.account_id, came.plan, came.region ORDER BY came.day
            ) AS since
            FROM came LEFT JOIN theirs ON theirs.what = came.what AND theirs.account_id = came.account_id AND theirs.day = came.day
                AND theirs.plan IS NOT DISTINCT FROM came.plan AND theirs.region IS NOT DISTINCT FROM came.region
        )
        SELECT p.day, p.plan, p.region, p.what, p.since, e.others, count(*) AS accounts
        FROM placed p LEFT JOIN elsewhere e
            ON e.what = p.what AND e.account_id = p.account_id AND e.day = p.day AND e.place = p.place
        WHERE p.day >= DATE '{first}' GROUP BY ALL
        UNION ALL
        SELECT DISTINCT day, plan, region, '{ANY}', CAST(NULL AS DATE), NULL, 0 FROM days"""


def of_day(did: str, places: str, before: str | None) -> str:
    """SQL of one day's visits, each account's by itself, so that any part of the day up to an instant can be asked for.

    ``did``: columns account_id, plan, region, and the instant at which each of :data:`COUNTED` was done; most often one row for
    each account. ``places``: plan and region of entries, and their instants. ``before``: newest instants before the day.

    Columns plan, region, for each of :data:`COUNTED` its first instant and the newest before the day, there; others (the newest
    instants before that first one in other places), and entries: of a place alone, the first instant of any.
    """
    whats, instants = ", ".join(COUNTED), ", ".join(COUNTED.values())
    nobody = ", ".join(f"CAST(NULL AS BIGINT) AS {instant}" for instant in COUNTED.values())
    each = f"unnest({list(COUNTED)}) AS what, unnest([{{}}]) AS came_at"
    own = ", ".join(
        f"CASE WHEN what = '{what}' THEN came_at END, max(since) FILTER (what = '{what}' AND place_before = place)"
        for what in COUNTED
    )
    return f"""
        WITH did AS MATERIALIZED ({did}),
        earlier AS ({before or f"SELECT account_id, plan, region, {nobody} FROM did WHERE FALSE"}),
        matched AS MATERIALIZED (
            SELECT did.*, {instants}, earlier.account_id IS NULL
                OR did.plan IS NOT DISTINCT FROM earlier.plan AND did.region IS NOT DISTINCT FROM earlier.region AS alike
            FROM did LEFT JOIN earlier ON earlier.account_id = did.account_id
        ),
        several AS MATERIALIZED (
            SELECT account_id FROM matched GROUP BY account_id HAVING count(*) > 1 OR NOT bool_and(alike)
        ),
        theirs AS MATERIALIZED (
            SELECT what, account_id, plan, region, today, dense_rank() OVER (ORDER BY plan, region) AS place,
                CASE WHEN today THEN min(came_at) ELSE max(came_at) END AS came_at
            FROM (
                SELECT account_id, plan, region, TRUE AS today, {each.format(whats)} FROM did
                UNION ALL SELECT account_id, plan, region, FALSE, {each.format(instants)} FROM earlier
            ) SEMI JOIN several USING (account_id) WHERE came_at IS NOT NULL GROUP BY what, account_id, plan, region, today
        ),
        last_there AS (
            SELECT v.what, v.account_id, v.plan, v.region, v.place, v.came_at, o.plan AS plan_before,
                o.region AS region_before, o.place AS place_before, max(o.came_at) AS since
            FROM theirs v LEFT JOIN theirs o ON o.what = v.what AND o.account_id = v.account_id
                AND (o.came_at < v.came_at OR o.came_at = v.came_at AND o.place < v.place)
            WHERE v.today GROUP BY ALL
        )
        SELECT plan, region, {", ".join(f"{what}, {instant}" for what, instant in COUNTED.items())},
            NULL AS others, CAST(NULL AS BIGINT) AS {ANY}
        FROM matched ANTI JOIN several USING (account_id)
        UNION ALL
        SELECT plan, region, {own},
            list({{'plan': plan_before, 'region': region_before, 'since': since}} ORDER BY place_before)
                FILTER (place_before <> place), NULL
        FROM last_there GROUP BY what, account_id, plan, region, place, came_at
        UNION ALL
        SELECT plan, region, {", ".join("NULL, NULL" for _ in COUNTED)}, NULL, min(occurred_at) FROM ({places}) GROUP BY plan, region"""
