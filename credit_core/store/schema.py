"""The ledger database (SPEC 2 and 5). Instants are integer microseconds (UTC), amounts integer micro-units.

``ledger_entries``, ``cycles``-closings aside, is the truth; ``accounts``, ``lots`` and ``holds`` are derived from it and
at every commit equal to it (:mod:`credit_core.store.verify` holds the queries that say so).
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

from credit_core.policy.lots import LOT_KINDS
from credit_core.policy.payments import KINDS as EVENT_KINDS
from credit_core.store.columns import Document, Flag, Instant, big, real

ENTRY_KINDS = (
    "grant", "adjust", "rollover", "expire", "clamp", "import", "reserve", "settle", "release", "partial", "refund",
    "library", "defer", "rate_limited", "rejected", "pause", "resume",
)  # fmt: skip
#: Kinds that open a request: at most one per (user_id, request_id).
OPENING_KINDS = ("reserve", "library", "defer", "rate_limited", "rejected")
#: Lots that hold anything. A literal, so that both planners see that the partial index answers it.
LOT_IS_OPEN = "avail_uc + held_uc > 0"
#: Entries that count generations.
IS_COUNTED = "d_count IS NOT NULL"
#: Whether a team's members spend from one account or each from a share of the quota.
TEAM_MODES = ("pooled", "apportioned")
#: Kinds that end a reserve.
ENDING_KINDS = ("settle", "release", "partial")


def _in(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

deployment = Table(
    "deployment",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    comment="One row per fact of this deployment: salts, reporting zone.",
    sqlite_strict=True,
)

catalogs = Table(
    "catalogs",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("body", Document, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("loaded_at", Instant, nullable=False),
    sqlite_strict=True,
)

accounts = Table(
    "accounts",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("timezone", Text, nullable=False, comment="zone of the running cycle"),
    Column("anchor_day", Text, nullable=False, comment="local date the cycles count from, ISO 8601"),
    Column("anchor_no", Integer, nullable=False, comment="number of the cycle that begins on anchor_day"),
    Column("cycle_no", Integer, nullable=False),
    Column("cycle_start_at", Instant, nullable=False),
    Column("cycle_end_at", Instant, nullable=False),
    Column("quota_uc", big(), nullable=False),
    Column("avail_uc", big(), nullable=False),
    Column("held_uc", big(), nullable=False),
    Column("demand_uc", big(), nullable=False, comment="asked for in the running cycle, whatever was decided"),
    Column("largest_uc", big(), nullable=False, comment="cost of the largest request asked in the running cycle"),
    Column("mode", Text, nullable=False),
    Column("seq", big(), nullable=False),
    Column("head_hash", LargeBinary, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("paused_at", Instant),
    Column("due_at", Instant, comment="earliest of cycle end and lot expiry; none while paused"),
    Column(
        "cycled",
        Flag,
        nullable=False,
        comment="the plan's cycles close and begin with a grant; the others' just run on",
    ),
    Column("paid_until", Instant, comment="end of what was paid for; none: not billed through webhooks"),
    CheckConstraint("avail_uc >= 0 AND held_uc >= 0", "not_negative"),
    CheckConstraint(_in("kind", ("user", "team", "guest")), "kind"),
    CheckConstraint(_in("mode", ("conserve", "steady", "spend")), "mode"),
    Index(None, "due_at"),
    sqlite_strict=True,
)

users = Table(
    "users",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.account_id"), nullable=False),
    Column("timezone", Text, nullable=False, comment="takes effect with the next cycle"),
    Column("team_id", Text),
    Column("segment", Text),
    Column("conserving", Flag, nullable=False),
    Column("session_consent", Flag, nullable=False),
    Column("blocked_at", Instant),
    Column("created_at", Instant, nullable=False),
    Column("session_last_at", Instant, comment="last decision of the running session"),
    Column("session_images", Integer, nullable=False),
    Column("session_fresh", Integer, nullable=False),
    Column("session_fresh_uc", big(), nullable=False),
    Column("session_opening_uc", big(), nullable=False),
    Column("session_cells", Document, nullable=False, comment="cells asked for in the running session"),
    Column("bucket_level", real(), nullable=False),
    Column("bucket_at", Instant),
    Column("fresh_at", Instant, comment="newest fresh generation"),
    Column("hour_at", Instant, comment="the hour that hour_fresh counts"),
    Column("hour_fresh", Integer, nullable=False, comment="fresh ones in that hour"),
    Column("hour_most", real(), comment="more fresh ones in that hour are an anomaly; none while history is short"),
    Column("override_until", Instant, comment="limits are lifted until then"),
    Column("flagged_at", Instant),
    Column("flag_reason", Text),
    Column("challenged_at", Instant, comment="open challenge: nothing is authorized until it is cleared"),
    Column("guest_session", Text, comment="the session the user was a guest in before"),
    Index(None, "account_id"),
    sqlite_strict=True,
)

teams = Table(
    "teams",
    metadata,
    Column("team_id", Text, primary_key=True),
    Column("plan", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("anchor_day", Text, nullable=False, comment="local date the team's cycles count from, ISO 8601"),
    Column("created_at", Instant, nullable=False),
    CheckConstraint(_in("mode", TEAM_MODES), "mode"),
    sqlite_strict=True,
)

team_members = Table(
    "team_members",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("from_cycle", Integer, primary_key=True, autoincrement=False, comment="of the team; the newest row counts"),
    Column("team_id", Text, ForeignKey("teams.team_id"), nullable=False),
    Column(
        "weight",
        Integer,
        nullable=False,
        comment="in the apportioned quota; 0 from the cycle on that begins without the member",
    ),
    Column("plan", Text, comment="that one who leaves goes on with"),
    CheckConstraint("weight >= 0", "not_negative"),
    Index(None, "team_id"),
    sqlite_strict=True,
)

team_shares = Table(
    "team_shares",
    metadata,
    Column("team_id", Text, ForeignKey("teams.team_id"), primary_key=True),
    Column("cycle_no", Integer, primary_key=True, autoincrement=False, comment="of the team"),
    Column("user_id", Text, primary_key=True),
    Column("plan", Text, nullable=False),
    Column("quota_uc", big(), nullable=False),
    CheckConstraint("quota_uc >= 0", "not_negative"),
    sqlite_strict=True,
    comment="The quota of an apportioned team's cycle, shared out once, by the first member whose account opens it.",
)

lots = Table(
    "lots",
    metadata,
    Column("lot_id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.account_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("granted_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("unit_price_usd_micro", big(), nullable=False, comment="micro-dollars per credit"),
    Column("avail_uc", big(), nullable=False),
    Column("held_uc", big(), nullable=False),
    CheckConstraint("avail_uc >= 0 AND held_uc >= 0", "not_negative"),
    CheckConstraint(_in("kind", LOT_KINDS), "kind"),
    Index(
        "ix_lots_open",
        "account_id",
        sqlite_where=text(LOT_IS_OPEN),
        postgresql_where=text(LOT_IS_OPEN),
    ),
    sqlite_strict=True,
)

ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("id", big(), Identity(always=True), primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.account_id"), nullable=False),
    Column("seq", big(), nullable=False),
    Column("leg_id", Text, nullable=False, comment="names one act; a repeated act has the same leg_id"),
    Column("line", Integer, nullable=False, comment="1, 2 … within the leg; facts of the whole leg stand on line 1"),
    Column("user_id", Text),
    Column("team_id", Text),
    Column("occurred_at", Instant, nullable=False),
    Column("recorded_at", Instant, nullable=False),
    Column("kind", Text, nullable=False),
    Column("lot_id", Text, ForeignKey("lots.lot_id")),
    Column("d_avail_uc", big(), nullable=False),
    Column("d_held_uc", big(), nullable=False),
    Column("request_id", Text),
    Column("parent_request_id", Text, comment="of the deferred request whose fresh half this is"),
    Column("session_id", Text),
    Column("plan", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("modality", Text),
    Column("model", Text),
    Column("images", Integer),
    Column("genre", Text),
    Column("mood", Text),
    Column("config_version", Integer),
    Column("arm", Text),
    Column("quota_policy", Text, comment="of the plan; opening legs only"),
    Column("status", Text, comment="RESERVED, LIBRARY, DEFERRED, RATE_LIMITED or REJECTED; opening legs only"),
    Column("outcome", Text, comment="fresh or library"),
    Column("rule", Text),
    Column("miss", Flag),
    Column("forced", Flag),
    Column("mode", Text, comment="hysteresis mode after the decision"),
    Column("prior_mode", Text, comment="hysteresis mode before it"),
    Column("strategy", Text),
    Column("available_uc", big(), comment="all lots, before the decision"),
    Column("paced_uc", big(), comment="A: monthly and rollover lots"),
    Column("quota_uc", big()),
    Column("cycle_days", real()),
    Column("days_left", real()),
    Column("surplus", real(), comment="S, credits"),
    Column("surplus_days", real()),
    Column("demand_rate", real(), comment="lambda, credits a day"),
    Column("session_images", Integer),
    Column("session_fresh", Integer),
    Column("session_fresh_uc", big()),
    Column("session_opening_uc", big()),
    Column("segment", Text),
    Column("conserving", Flag),
    Column("coverage", real()),
    Column("health", real()),
    Column("under_represented", Flag),
    Column("cell_new", Flag, comment="the cell was not asked for before in the running session"),
    Column("arm_p", real(), comment="chance that fresh is the better arm, by the rewards logged so far"),
    Column("largest_uc", big(), comment="cost of the largest request asked before in the running cycle"),
    Column("threshold", real()),
    Column("p0", real()),
    Column("nudge_freshness", real()),
    Column("nudge_credit_health", real()),
    Column("nudge_library", real()),
    Column("nudge_segment", real()),
    Column("nudge_conservation", real()),
    Column("nudge_mode", real()),
    Column("p", real()),
    Column("u01", real()),
    Column("cost_uc", big(), comment="what a fresh one costs the user"),
    Column("retry_after_s", real()),
    Column("authorize_ms", real(), comment="time inside authorize, without the commit"),
    Column("cost_usd_micro", big(), comment="what the provider charged"),
    Column("latency_ms", real(), comment="of the provider"),
    Column("limit_name", Text, comment="the tightest count: day, month, free, session or ip"),
    Column("limit_count", Integer),
    Column("used_count", Integer, comment="before the decision"),
    Column("resets_at", Instant),
    Column("d_count", Integer, comment="generations counted, or taken back where one failed"),
    Column("counted_at", Instant, comment="of the reserve: the day and cycle that d_count belongs to"),
    Column("anomaly", Flag, comment="more fresh ones in this hour than the user's history explains"),
    Column("ip_hash", LargeBinary, comment="keyed hash of the address"),
    Column("actor", Text),
    Column("reason", Text),
    Column("content_hash", LargeBinary, comment="keyed hash of the request's content"),
    Column("details", Document),
    Column("prev_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    CheckConstraint("seq >= 1 AND line >= 1", "positive"),
    CheckConstraint(_in("kind", ENTRY_KINDS), "kind"),
    Index("uq_ledger_entries_account_seq", "account_id", "seq", unique=True),
    Index("uq_ledger_entries_leg_line", "leg_id", "line", unique=True),
    Index(
        "ix_ledger_entries_counted",
        "account_id",
        "counted_at",
        sqlite_where=text(IS_COUNTED),
        postgresql_where=text(IS_COUNTED),
    ),
    sqlite_strict=True,
)

holds = Table(
    "holds",
    metadata,
    Column("leg_id", Text, primary_key=True, comment="of the reserve"),
    Column("account_id", Text, ForeignKey("accounts.account_id"), nullable=False),
    Column("user_id", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("amount_uc", big(), nullable=False),
    Column("reserved_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Index(None, "expires_at"),
    Index(None, "account_id"),
    sqlite_strict=True,
)

deferrals = Table(
    "deferrals",
    metadata,
    Column("leg_id", Text, primary_key=True, comment="of the defer entry"),
    Column("account_id", Text, ForeignKey("accounts.account_id"), nullable=False),
    Column("user_id", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("deferred_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Index(None, "deferred_at"),
    sqlite_strict=True,
)

guest_windows = Table(
    "guest_windows",
    metadata,
    Column("window_key", Text, primary_key=True, comment="session:account or ip:keyed hash"),
    Column("opened_at", Instant, comment="first generation of the running window"),
    Column("used", Integer, nullable=False, comment="not-failed generations in it"),
    CheckConstraint("used >= 0", "not_negative"),
    sqlite_strict=True,
)

origins = Table(
    "origins",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("ip_hash", LargeBinary, primary_key=True),
    Column("ip", Text, nullable=False),
    Column("first_seen_at", Instant, nullable=False),
    comment="Addresses in the clear; the only table that can be erased.",
    sqlite_strict=True,
)

rewards = Table(
    "rewards",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("outcome", Text, nullable=False, comment="fresh or library"),
    Column("value", real(), nullable=False),
    Column("rewarded_at", Instant, nullable=False),
    CheckConstraint("value >= 0 AND value <= 1", "share"),
    CheckConstraint(_in("outcome", ("fresh", "library")), "outcome"),
    sqlite_strict=True,
)

cycles = Table(
    "cycles",
    metadata,
    Column("account_id", Text, ForeignKey("accounts.account_id"), primary_key=True),
    Column("cycle_no", Integer, primary_key=True, autoincrement=False),
    Column("start_at", Instant, nullable=False),
    Column("end_at", Instant, nullable=False),
    Column("plan", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("quota_uc", big(), nullable=False),
    Column("opening_uc", big(), nullable=False, comment="monthly and rollover credits right after the grant"),
    Column("closed_at", Instant, comment="when the closing was recorded"),
    Column("demand_uc", big(), comment="asked for in the cycle, whatever was decided; known at closing"),
    Column("unspent_uc", big()),
    Column("kept_uc", big()),
    Column("carried_uc", big()),
    Column("cap_multiple", real()),
    CheckConstraint("end_at > start_at", "forward"),
    sqlite_strict=True,
)

library_days = Table(
    "library_days",
    metadata,
    Column("genre", Text, primary_key=True),
    Column("mood", Text, primary_key=True),
    Column("day", Text, primary_key=True, comment="UTC date the assets were added, ISO 8601"),
    Column("assets", Integer, nullable=False),
    CheckConstraint("assets >= 0", "not_negative"),
    sqlite_strict=True,
)

library_cells = Table(
    "library_cells",
    metadata,
    Column("genre", Text, primary_key=True),
    Column("mood", Text, primary_key=True),
    Column("requested_at", Instant, comment="first time anybody asked for the cell"),
    Column("queued_at", Instant, comment="joined the pantry queue"),
    sqlite_strict=True,
)

plan_demand = Table(
    "plan_demand",
    metadata,
    Column("plan", Text, primary_key=True),
    Column("day", Text, primary_key=True, comment="UTC date that the rate holds for, ISO 8601"),
    Column("rate", real(), nullable=False, comment="mean demand of the plan's accounts, credits a day"),
    sqlite_strict=True,
)

config_versions = Table(
    "config_versions",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("parent", Integer),
    Column("body", Document, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("note", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    sqlite_strict=True,
)

config_releases = Table(
    "config_releases",
    metadata,
    Column("release_id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, ForeignKey("config_versions.version"), nullable=False),
    Column("arm", Text, nullable=False),
    Column("share", real(), nullable=False),
    Column("salt", Text, comment="of the experiment; kept while it ramps"),
    Column("released_at", Instant, nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("action", Text, nullable=False),
    CheckConstraint(_in("arm", ("all", "treatment")), "arm"),
    CheckConstraint("share > 0 AND share <= 1", "share"),
    CheckConstraint(_in("action", ("release", "rollback")), "action"),
    sqlite_strict=True,
)

payment_events = Table(
    "payment_events",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("received_at", Instant, nullable=False),
    Column("occurred_at", Instant, nullable=False, comment="by the provider's clock"),
    Column("kind", Text, nullable=False),
    Column("user_id", Text, comment="none where neither the event nor its payment names one"),
    Column("reference", Text, nullable=False, comment="of the payment, purchase or subscription it is about"),
    Column("terms", Document, nullable=False, comment="plan, pack, paid_until, amount: what the event names"),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the body as it came"),
    Column("effect", Document, nullable=False, comment="what it did when it came"),
    CheckConstraint(_in("kind", (*EVENT_KINDS, "override")), "kind"),
    Index(None, "user_id"),
    Index(None, "reference"),
    sqlite_strict=True,
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("user_id", Text, ForeignKey("users.user_id"), primary_key=True),
    Column("provider", Text, nullable=False),
    Column("plan", Text, comment="none once all payments were taken back"),
    Column("base_plan", Text, nullable=False, comment="the user's plan without it"),
    Column("paid_until", Instant),
    Column("as_of", Instant, nullable=False, comment="by the provider's clock"),
    sqlite_strict=True,
)

drafts = Table(
    "drafts",
    metadata,
    Column("operator", Text, primary_key=True),
    Column("parent", Integer, ForeignKey("config_versions.version"), primary_key=True),
    Column("changes", Document, nullable=False, comment="dotted key → value"),
    Column("saved_at", Instant, nullable=False),
    sqlite_strict=True,
)

checks = Table(
    "checks",
    metadata,
    Column("check_id", big(), Identity(always=True), primary_key=True),
    Column("checked_at", Instant, nullable=False),
    Column("entries", big(), nullable=False),
    Column("duration_ms", real(), nullable=False),
    Column("violations", Document, nullable=False, comment="invariant → number of rows that break it"),
    Column("actor", Text, nullable=False),
    sqlite_strict=True,
)

#: Tables that the database itself refuses to change once written.
APPEND_ONLY = ("ledger_entries", "config_versions", "config_releases", "catalogs", "rewards", "payment_events")
