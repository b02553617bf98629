"""Are we all right: what is present, how far the copy has come, requests by day, and targets with their error budget."""

from __future__ import annotations

import json
from datetime import datetime
from typing import NamedTuple

import pandas as pd
from sqlalchemy import func, select

from credit_core.analytics import relations
from credit_core.analytics.days import reporting_days
from credit_core.analytics.filters import Filters
from credit_core.analytics.metrics import Format, metric
from credit_core.analytics.queries import standing
from credit_core.analytics.queries.series import Value, lived_days, tells_apart, values
from credit_core.analytics.sync import Facts
from credit_core.policy.config import Config
from credit_core.policy.plans import COUNTED
from credit_core.store import schema
from credit_core.units import MICRO, from_us

#: A hold this long past its lifetime is stuck (SPEC 2, invariant 11).
STUCK_AFTER_US = 60 * MICRO
_DAILY = {
    "active_accounts": "active_accounts",
    "requests": "requests",
    "fresh": "fresh",
    "library": "library",
    "misses": "coverage_misses",
    "declined": "declined",
    "limit_hits": "limit_hits",
    "generations": "generations",
}


class Terms(NamedTuple):
    """What a plan runs by, and which credits it counts."""

    plan: str
    quota_policy: str
    credit_unit: str


class Options(NamedTuple):
    """The values present of each dimension, sorted."""

    plans: tuple[str, ...]
    regions: tuple[str, ...]
    models: tuple[str, ...]
    cells: tuple[tuple[str, str], ...]
    teams: tuple[str, ...] = ()
    terms: tuple[Terms, ...] = ()

    @property
    def units(self) -> tuple[str, ...]:
        """Credit units of the plans present."""
        return tuple(sorted({one.credit_unit for one in self.terms}))

    @property
    def policies(self) -> tuple[str, ...]:
        """Quota policies of the plans present."""
        return tuple(sorted({one.quota_policy for one in self.terms}))

    def paced(self, unit: str | None) -> bool:
        """True where some plan of ``unit`` (None: of any) is titrated."""
        return any(one.quota_policy == "titrated_monthly" for one in self._of(unit))

    def charges(self, unit: str | None) -> bool:
        """True where some plan of ``unit`` (None: of any) charges credits; the others count generations."""
        return any(one.quota_policy not in COUNTED for one in self._of(unit))

    def _of(self, unit: str | None) -> list[Terms]:
        return [one for one in self.terms if unit in (None, one.credit_unit)]


class AsOf(NamedTuple):
    """How far the copy has come. ``lag_entries`` are in the ledger and not copied yet; ``lag_s`` is the oldest one's age."""

    as_of: datetime | None
    first_at: datetime | None
    entries: int
    lag_entries: int
    lag_s: float
    zone: str
    version: int


def options(facts: Facts) -> Options:
    """What filters can offer."""
    f = relations.facts.c

    def present(*columns: str) -> list[tuple[str, ...]]:
        chosen = [f[name] for name in columns]
        return sorted(facts.rows(select(*chosen).distinct().where(*(one.is_not(None) for one in chosen))))

    plans, regions, models, teams = (
        tuple(row[0] for row in present(name)) for name in ("plan", "region", "model", "team_id")
    )
    p = relations.plans.c
    terms = facts.rows(select(p.plan, p.quota_policy, p.credit_unit).where(p.plan.in_(plans)).order_by(p.plan))
    cells = tuple((genre, mood) for genre, mood in present("genre", "mood"))
    return Options(plans, regions, models, cells, teams, tuple(Terms(*row) for row in terms))


def entries_by_plan(facts: Facts, filters: Filters) -> dict[str, int]:
    """How many entries each plan has behind the filters."""
    f = relations.facts.c
    kept = relations.behind(relations.facts, filters)
    return dict(facts.rows(select(f.plan, func.count()).where(kept).group_by(f.plan)))


def as_of(facts: Facts, now: datetime) -> AsOf:
    """How far the copy has come, and how much the ledger is ahead of it at ``now``."""
    known = facts.extent
    oldest = func.min(schema.ledger_entries.c.recorded_at)
    with facts.engine.connect() as connection:
        waiting, since = connection.execute(select(func.count(), oldest).where(facts.waiting())).one()
    first, last = (None if instant is None else from_us(instant) for instant in (known.first_us, known.last_us))
    lag_s = 0.0 if since is None else max(0.0, (now - since).total_seconds())
    return AsOf(last, first, known.entries, int(waiting), lag_s, facts.zone, facts.version)


def daily_outcomes(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Per reporting day: active_accounts, requests, fresh, library, misses, declined, limit_hits, generations."""
    f = relations.facts.c
    kept, parts = relations.behind(relations.facts, filters), []
    # Accounts are told apart by other rows than what can be added up.
    for apart in (False, True):
        counted = [(name, metric(slug)) for name, slug in _DAILY.items() if tells_apart(metric(slug)) is apart]
        figures = (declared.numerator(f).label(name) for name, declared in counted)
        parts.append(facts.frame(select(f.day, *figures).where(kept).group_by(f.day)))
    found = parts[0].merge(parts[1], on="day", how="outer")[["day", *_DAILY]]
    found["day"] = pd.to_datetime(found["day"])
    frame = pd.DataFrame({"day": pd.to_datetime([one.day for one in reporting_days(filters.period, facts.zone)])})
    frame = frame.merge(found, on="day", how="left").astype(dict.fromkeys(_DAILY, "Int64"))
    quiet = frame["requests"].isna() & frame["day"].isin(lived_days(facts, filters.period))
    frame[list(_DAILY)] = frame[list(_DAILY)].mask(quiet, 0)
    return frame


def slos(facts: Facts, filters: Filters, config: Config) -> pd.DataFrame:
    """Targets of SPEC 6 with the part of the error budget that is left.

    Columns slug, title, format, value, target, budget_left_share (1 untouched, under 0 overspent), met, numerator,
    denominator. ``met`` is missing where the value is unknown.
    """
    targets = config.slos
    now = standing.spread(facts, filters)
    behind = Value(now.behind_share, now.behind, now.accounts)
    bounds = {
        "idle_library_share": targets.idle_library_share,
        "coverage_miss_rate": targets.coverage_miss_rate,
        "run_out_share": targets.run_out_share,
        "authorize_p95_ms": targets.authorize_p95_ms,
        "at_cap_share": targets.at_cap_share,
    }
    known = values(facts, filters, tuple(bounds))
    stuck, desync = _stuck_holds(facts), _desync(facts)
    judged: list[tuple[str, str, Format, Value, float]] = [
        ("behind_share", "Accounts behind", "share", behind, targets.behind_share),
        *((slug, metric(slug).title, metric(slug).format, figure, bounds[slug]) for slug, figure in known.items()),
        ("stuck_holds", "Stuck holds", "count", Value(float(stuck), stuck, None), 0.0),
        ("desync", "Desync", "count", Value(None if desync is None else float(desync), desync, None), 0.0),
    ]
    rows = [_against(*one) for one in judged]
    columns = ["slug", "title", "format", "value", "target", "budget_left_share", "met", "numerator", "denominator"]
    return pd.DataFrame(rows, columns=columns, dtype="object").astype(
        {"value": "float64", "target": "float64", "budget_left_share": "float64", "met": "boolean"}
    )


def _against(slug: str, title: str, shown: Format, known: Value, target: float) -> tuple[object, ...]:
    """Targets of 0 must be met exactly; others must stay under."""
    if known.value is None:
        return (slug, title, shown, None, target, None, None, known.numerator, known.denominator)
    met = known.value < target or known.value == target == 0.0
    left = 1.0 - known.value / target if target else float(met)
    return (slug, title, shown, known.value, target, left, met, known.numerator, known.denominator)


def _stuck_holds(facts: Facts) -> int:
    last = facts.extent.last_us
    limit = (0 if last is None else last) - STUCK_AFTER_US
    return int(
        facts.rows(select(func.count()).select_from(relations.holds).where(relations.holds.c.expires_at < limit))[0][0]
    )


def _desync(facts: Facts) -> int | None:
    """Balances unlike the sums of their entries, found by the last check; unknown before the first."""
    c = relations.checks.c
    found = facts.rows(select(c.violations).order_by(c.check_id.desc()).limit(1))
    return int(json.loads(found[0][0]).get("1", 0)) if found else None
