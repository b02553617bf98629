"""Metrics of requests and how they were answered."""

from __future__ import annotations

from credit_core.analytics import measures as m
from credit_core.analytics.metrics.declaration import ENDED, Metric, number, rate

#: Requests, and what became of them.
DECISIONS: tuple[Metric, ...] = (
    number(
        "requests", "Requests", "requests", "neutral", "answers of authorize, and rows of recorded usage",
        "SPEC 6, requests", m.requested,
    ),
    Metric(
        slug="generations",
        title="Generations",
        unit="generations",
        format="count",
        direction="neutral",
        definition="generations of plans that count them, less those that failed",
        source="SPEC 3, daily_count, plan_credits, guest_window",
        numerator=m.total(lambda f: f.d_count),
        dimensions=ENDED,
        summable=("day", *ENDED),
    ),
    number(
        "fresh", "Fresh", "decisions", "neutral", "requests answered with a fresh one: by rules 4–8, or allowed by counts and balance",
        "SPEC 6, fresh rate", m.served_fresh,
    ),
    number(
        "library", "Library", "decisions", "neutral", "decisions by rules 4–8 for the library",
        "SPEC 6, fresh rate", m.judged_with("library"),
    ),
    number(
        "declined", "Declined", "requests", "down", "refused: by rules 1–3, over a plan's count, or unaffordable where no library answers",
        "SPEC 4, rules 1–3; SPEC 3", m.declined,
    ),
    number(
        "rate_limit_hits", "Rate-limit hits", "requests", "down", "requests refused by rule 2",
        "SPEC 6, rate-limit hits", m.by_rule("rate_limited"),
    ),
    number(
        "blocked_attempts", "Blocked attempts", "requests", "down", "requests refused by rule 1: a challenge was open",
        "SPEC 4, rule 1", m.by_rule("blocked"),
    ),
    number(
        "limit_hits", "Limit hits", "requests", "down", "requests over the counts of their plan: by day, month or guest's window",
        "SPEC 3", m.by_rule("over_limit"),
    ),
    number(
        "anomalies", "Anomalies", "generations", "down", "fresh ones in an hour that the user's own history does not explain",
        "SPEC 3, anomaly flag", lambda f: f.anomaly.is_(True) & (f.line == 1),
    ),
    number(
        "coverage_misses", "Coverage misses", "decisions", "down", "decisions by rules 4–8 with miss",
        "SPEC 6, coverage-miss rate", m.missed,
    ),
    number(
        "session_capped", "Session-capped", "decisions", "down", "decisions by rule 6",
        "SPEC 4, rule 6", m.by_rule("session_cap"),
    ),
    number(
        "unaffordable", "Unaffordable", "decisions", "down", "decisions by rule 4, of any plan",
        "SPEC 4, rule 4", m.by_rule("unaffordable"),
    ),
    rate(
        "fresh_rate", "Fresh rate", "neutral", "fresh / decisions by rules 4–8, at decision time", "SPEC 6, fresh rate",
        m.count(m.judged_with("fresh")), m.count(m.judged),
    ),
    rate(
        "fresh_rate_chosen", "Fresh rate, chosen", "neutral", "fresh / decisions by rule 8 alone", "SPEC 6, fresh rate",
        m.count(m.drawn("fresh")), m.count(m.by_rule("controller")),
    ),
    rate(
        "coverage_miss_rate", "Coverage-miss rate", "down", "decisions with miss / decisions by rules 4–8", "SPEC 6, coverage-miss rate",
        m.count(m.missed), m.count(m.judged),
    ),
    rate(
        "session_capped_share", "Session-capped share", "down", "decisions by rule 6 / decisions by rules 4–8", "SPEC 4, rule 6",
        m.count(m.by_rule("session_cap")), m.count(m.judged),
    ),
    rate(
        "unaffordable_share", "Unaffordable share", "down", "decisions by rule 4 / decisions by rules 4–8", "SPEC 4, rule 4",
        m.count(m.judged_by("unaffordable")), m.count(m.judged),
    ),
    rate(
        "idle_library_share", "Library while ahead", "down",
        "library answers by rule 8 above +3 surplus days / library answers by rule 8", "SPEC 6, SLOs",
        m.count(lambda f: m.drawn("library")(f) & (f.surplus_days > 3)), m.count(m.drawn("library")),
    ),
    Metric(
        slug="flicker",
        title="Flicker",
        unit="share",
        format="share",
        direction="down",
        definition="neighbouring fresh/library decisions in one session of one user that differ / all neighbours",
        source="SPEC 6, flicker",
        numerator=m.count(lambda n: n.outcome != n.outcome_before),
        denominator=m.count(lambda n: n.outcome_before.is_not(None)),
        relation="neighbours",
    ),
)  # fmt: skip
