"""Tables beside the ledger (SPEC 3 to 5): catalogue, teams, guests, payments, library, configuration, checks."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Identity, Index, Integer, LargeBinary, Table, Text

from credit_core.policy.payments import KINDS as EVENT_KINDS
from credit_core.store.columns import Document, Flag, Instant, big, real
from credit_core.store.metadata import metadata, one_of

#: Whether a team's members spend from one account or each from a share of the quota.
TEAM_MODES = ("pooled", "apportioned")
#: Calls that one request makes once.
REPEATED_CALLS = ("authorize", "settle", "release", "partial", "refund")

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
    CheckConstraint(one_of("mode", TEAM_MODES), "mode"),
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

guest_windows = Table(
    "guest_windows",
    metadata,
    Column("window_key", Text, primary_key=True, comment="session:account or ip:keyed hash"),
    Column("ip_hash", LargeBinary, comment="of an address's window"),
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
    CheckConstraint(one_of("outcome", ("fresh", "library")), "outcome"),
    sqlite_strict=True,
)

repeats = Table(
    "repeats",
    metadata,
    Column("quarter_at", Instant, primary_key=True, comment="start of the quarter of an hour"),
    Column("account_id", Text, primary_key=True),
    Column("call", Text, primary_key=True),
    Column("refused", Flag, primary_key=True, comment="it asked for something else than the first one"),
    Column("plan", Text, nullable=False, comment="of the account when the first of them came"),
    Column("region", Text),
    Column("calls", big(), nullable=False),
    CheckConstraint("calls > 0", "positive"),
    CheckConstraint(one_of("call", REPEATED_CALLS), "call"),
    comment="Calls that came again for what had been answered: they write no entry, so they are counted here.",
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
    Column("taken_at", Instant, comment="lent to a worker, for an hour"),
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
    CheckConstraint(one_of("arm", ("all", "treatment")), "arm"),
    CheckConstraint("share > 0 AND share <= 1", "share"),
    CheckConstraint(one_of("action", ("release", "rollback")), "action"),
    sqlite_strict=True,
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("rollout_id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, ForeignKey("config_versions.version"), nullable=False),
    Column("content_hash", Text, nullable=False, comment="of the version: what an approval is bound to"),
    Column("base_version", Integer, ForeignKey("config_versions.version"), nullable=False, comment="what was live"),
    Column("base_release_id", Integer, nullable=False, comment="newest release when it was asked for"),
    Column("steps", Document, nullable=False, comment="[share, hold_s] each"),
    Column("guardrails", Document, nullable=False),
    Column("needs_approval", Flag, nullable=False),
    Column("requested_at", Instant, nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_strict=True,
    comment="Plans of staged releases; what became of one is in its events and in the releases.",
)

rollout_events = Table(
    "rollout_events",
    metadata,
    Column("rollout_id", Integer, ForeignKey("rollouts.rollout_id"), primary_key=True),
    Column(
        "event_no", Integer, primary_key=True, autoincrement=False, comment="1, 2, 3 …: who writes a number first acts"
    ),
    Column("kind", Text, nullable=False),
    Column("happened_at", Instant, nullable=False),
    Column("step", Integer, comment="of the schedule, from 0"),
    Column("release_id", Integer, ForeignKey("config_releases.release_id"), comment="that put the step live"),
    Column("after_entry_id", big(), comment="newest entry then: what the step's arms did comes after it"),
    Column("signals", Document, comment="what asked for the pause"),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    CheckConstraint(one_of("kind", ("approved", "declined", "staged", "held", "resumed")), "kind"),
    sqlite_strict=True,
)

rollout_looks = Table(
    "rollout_looks",
    metadata,
    Column("rollout_id", Integer, ForeignKey("rollouts.rollout_id"), primary_key=True),
    Column(
        "day", Text, primary_key=True, comment="UTC date of the look, ISO 8601; a later look of the day replaces it"
    ),
    Column("looked_at", Instant, nullable=False),
    Column("figures", Document, nullable=False, comment="metric to value and accounts of each arm"),
    Column("assigned", Document, nullable=False, comment="by step: accounts first seen in treatment, control, rest"),
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
    CheckConstraint(one_of("kind", (*EVENT_KINDS, "override")), "kind"),
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
