"""What pages ask: functions of (facts, filters, …) that return frames with plain columns, units last.

``*_uc`` are exact integers, ``*_credits`` floats for display; ``*_at`` are aware datetimes in the reporting zone; ``day`` is
a reporting day. Missing means unknown; 0 means zero.
"""

from credit_core.analytics.queries.arrivals import (
    cycles_of,
    demand_rates,
    entries_of,
    entry_hash,
    last_copied,
    live_version,
    lots_of,
    median_claim_days,
    median_latencies_ms,
    replayed_accounts,
    without_consent,
)
from credit_core.analytics.queries.burn import (
    burn_against_pace,
    burn_by_account,
    burn_by_plan_model,
    burners,
    top_movers,
)
from credit_core.analytics.queries.coverage import cells, miss_by_plan, misses_by_day, pantry_queue
from credit_core.analytics.queries.cycle_days import burn_by_cycle_day
from credit_core.analytics.queries.decisions import logged_decisions, recent_decisions
from credit_core.analytics.queries.export import csv_bytes, rows_behind, rows_frame, to_csv, write_csv
from credit_core.analytics.queries.forecast import burn_forecast, unusual_days
from credit_core.analytics.queries.integrity import BALANCES, Line, TieOut, checks, open_holds, tie_out
from credit_core.analytics.queries.overview import (
    AsOf,
    Options,
    Terms,
    as_of,
    daily_outcomes,
    entries_by_plan,
    options,
    slos,
)
from credit_core.analytics.queries.readout import Readout, readout
from credit_core.analytics.queries.releases import account_ids, body, release_marks, releases, versions
from credit_core.analytics.queries.rewards import reward_count, rewarded_decisions
from credit_core.analytics.queries.risk import chance_of, risk_calibration, run_out_risk
from credit_core.analytics.queries.series import Value, breakdown, daily, hours_of_week, kpis, value, values
from credit_core.analytics.queries.surplus import (
    dry_time,
    run_outs,
    surplus_bands,
    surplus_by_plan,
    surplus_histogram,
    surplus_now,
)
from credit_core.analytics.queries.users import find_users, user_timeline

__all__ = [
    "BALANCES",
    "AsOf",
    "Line",
    "Options",
    "Readout",
    "Terms",
    "TieOut",
    "Value",
    "account_ids",
    "as_of",
    "body",
    "breakdown",
    "burn_against_pace",
    "burn_by_account",
    "burn_by_cycle_day",
    "burn_by_plan_model",
    "burn_forecast",
    "burners",
    "cells",
    "chance_of",
    "checks",
    "csv_bytes",
    "cycles_of",
    "daily",
    "daily_outcomes",
    "demand_rates",
    "dry_time",
    "entries_by_plan",
    "entries_of",
    "entry_hash",
    "find_users",
    "hours_of_week",
    "kpis",
    "last_copied",
    "live_version",
    "logged_decisions",
    "lots_of",
    "median_claim_days",
    "median_latencies_ms",
    "miss_by_plan",
    "misses_by_day",
    "open_holds",
    "options",
    "pantry_queue",
    "readout",
    "recent_decisions",
    "release_marks",
    "releases",
    "replayed_accounts",
    "reward_count",
    "rewarded_decisions",
    "risk_calibration",
    "rows_behind",
    "rows_frame",
    "run_out_risk",
    "run_outs",
    "slos",
    "surplus_bands",
    "surplus_by_plan",
    "surplus_histogram",
    "surplus_now",
    "tie_out",
    "to_csv",
    "top_movers",
    "unusual_days",
    "user_timeline",
    "value",
    "values",
    "versions",
    "without_consent",
    "write_csv",
]
