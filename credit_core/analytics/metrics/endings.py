"""Metrics of generations once they run: how they end, and how long that takes."""

from __future__ import annotations

from credit_core.analytics import measures as m
from credit_core.analytics.metrics.declaration import CLOSED, DECIDED, ENDED, Metric, number, quantile, rate

#: Ends, holds and latencies.
ENDINGS: tuple[Metric, ...] = (
    rate(
        "failure_rate", "Failure rate", "down", "releases because the provider failed / ended reserves", "SPEC 6, failure rate",
        m.count(m.failed), m.count(m.legs(*m.ENDS)), ENDED,
    ),
    rate(
        "partial_rate", "Partial rate", "down", "partial / ended reserves",
        "SPEC 6, partial rate", m.count(m.legs("partial")), m.count(m.legs(*m.ENDS)), ENDED,
    ),
    rate(
        "refund_rate", "Refund rate", "down", "refunds / settles",
        "SPEC 6, refund rate", m.count(m.legs("refund")), m.count(m.legs("settle")), ENDED,
    ),
    number(
        "late_settles", "Late settles", "settles", "down", "settles that came after their hold was swept", "SPEC 6, late settles",
        m.legs("rejected", reason="late_settle"), ENDED,
    ),
    Metric(
        slug="duplicates_refused",
        title="Duplicates refused",
        unit="calls",
        format="count",
        direction="down",
        definition="calls that came again for a request: answered as the first one, or refused where they ask for something else",
        source="SPEC 6, duplicates refused",
        numerator=m.total(lambda r: r.calls),
        dimensions=CLOSED,
        summable=("day", *CLOSED),
        relation="repeated",
    ),
    number(
        "swept", "Swept holds", "holds", "down", "holds that nobody ended within their lifetime",
        "SPEC 2.1, sweeper", m.legs("release", reason="swept"), ENDED,
    ),
    Metric(
        slug="open_holds",
        title="Open holds",
        unit="holds",
        format="count",
        direction="down",
        definition="reserves not ended by the end of the period",
        source="SPEC 6, open holds",
        numerator=m.open_legs,
        dimensions=ENDED,
        summable=ENDED,
        span="to_date",
    ),
    quantile(
        "latency_p50_ms", "Latency, median", "median of the provider's latency", "SPEC 6, p50 latency",
        m.quantile("0.5", "latency_ms"), ENDED,
    ),
    quantile(
        "latency_p95_ms", "Latency, p95", "95th percentile of the provider's latency", "SPEC 6, p95 latency",
        m.quantile("0.95", "latency_ms"), ENDED,
    ),
    quantile(
        "authorize_p95_ms", "Authorize, p95", "95th percentile of the time inside authorize, without the commit", "SPEC 6, SLOs",
        m.quantile("0.95", "authorize_ms"), DECIDED,
    ),
)  # fmt: skip
