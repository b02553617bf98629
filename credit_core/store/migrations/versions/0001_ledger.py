"""The ledger, its derived tables, configuration and library; and what makes the append-only tables refuse change."""

import sqlalchemy as sa
from alembic import op

from credit_core.store import columns
from credit_core.store.engine import APP_ROLE

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
APPEND_ONLY = ("ledger_entries", "config_versions", "config_releases", "catalogs", "rewards", "payment_events")
#: A replaced row is deleted without a delete trigger unless the connection asks for recursive triggers; these keys say
#: what counts as replacing.
KEYS = {
    "ledger_entries": (
        "id = NEW.id",
        "account_id = NEW.account_id AND seq = NEW.seq",
        "leg_id = NEW.leg_id AND line = NEW.line",
    ),
    "config_versions": ("version = NEW.version",),
    "config_releases": ("release_id = NEW.release_id",),
    "catalogs": ("version = NEW.version",),
    "rewards": ("user_id = NEW.user_id AND request_id = NEW.request_id",),
    "payment_events": ("provider = NEW.provider AND event_id = NEW.event_id",),
}


def upgrade() -> None:
    create_tables()
    if op.get_bind().dialect.name == "sqlite":
        refuse_change_on_sqlite()
    else:
        refuse_change_on_postgresql()


def refuse_change_on_sqlite() -> None:
    for table in APPEND_ONLY:
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        for number, key in enumerate(KEYS[table]):
            op.execute(
                f"CREATE TRIGGER {table}_no_replace_{number} BEFORE INSERT ON {table} "
                f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key}) "
                f"BEGIN SELECT RAISE(ABORT, 'UNIQUE constraint failed: {table} is append-only'); END"
            )


def refuse_change_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION titrate_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'object_not_in_prerequisite_state'; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION titrate_refuse_change()"
        )
        # ALWAYS: session_replication_role = replica must not switch it off.
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only")
    # The sync's watermark: ids are given out in another order than transactions commit.
    op.execute("ALTER TABLE ledger_entries ADD COLUMN tx xid8 NOT NULL DEFAULT pg_current_xact_id()")
    op.execute("CREATE INDEX ix_ledger_entries_tx_id ON ledger_entries (tx, id)")
    grant_to_the_application()


def grant_to_the_application() -> None:
    """The application does not own the tables, so that it cannot drop their triggers; where the connecting role may not
    create roles the triggers stand alone, and ``verify`` says so."""
    connection = op.get_bind()
    may_create = connection.scalar(
        sa.text("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
    )
    there = connection.scalar(sa.text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)"), {"role": APP_ROLE})
    if not there and not may_create:
        return
    op.execute(
        f"DO $$ BEGIN CREATE ROLE {APP_ROLE} NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )
    member = connection.scalar(
        sa.text("SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = :role"),
        {"role": APP_ROLE},
    )
    if not member:
        op.execute(f"GRANT {APP_ROLE} TO CURRENT_USER")
    changed = sorted(set(sa.inspect(connection).get_table_names()) - {*APPEND_ONLY, "alembic_version"})
    op.execute(f"GRANT SELECT, INSERT ON {', '.join(APPEND_ONLY)} TO {APP_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(changed)} TO {APP_ROLE}")
    op.execute(f"GRANT SELECT ON alembic_version TO {APP_ROLE}")


def create_tables() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False, comment="zone of the running cycle"),
        sa.Column("anchor_day", sa.Text(), nullable=False, comment="local date the cycles count from, ISO 8601"),
        sa.Column("anchor_no", sa.Integer(), nullable=False, comment="number of the cycle that begins on anchor_day"),
        sa.Column("cycle_no", sa.Integer(), nullable=False),
        sa.Column("cycle_start_at", columns.Instant(), nullable=False),
        sa.Column("cycle_end_at", columns.Instant(), nullable=False),
        sa.Column("quota_uc", BIG, nullable=False),
        sa.Column("avail_uc", BIG, nullable=False),
        sa.Column("held_uc", BIG, nullable=False),
        sa.Column("demand_uc", BIG, nullable=False, comment="asked for in the running cycle, whatever was decided"),
        sa.Column("largest_uc", BIG, nullable=False, comment="cost of the largest request asked in the running cycle"),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("head_hash", sa.LargeBinary(), nullable=False),
        sa.Column("recorded_at", columns.Instant(), nullable=False),
        sa.Column("created_at", columns.Instant(), nullable=False),
        sa.Column("paused_at", columns.Instant(), nullable=True),
        sa.Column(
            "due_at",
            columns.Instant(),
            nullable=True,
            comment="earliest of cycle end and lot expiry; none while paused",
        ),
        sa.Column(
            "cycled",
            columns.Flag(),
            nullable=False,
            comment="the plan's cycles close and begin with a grant; the others' just run on",
        ),
        sa.Column(
            "paid_until",
            columns.Instant(),
            nullable=True,
            comment="end of what was paid for; none: not billed through webhooks",
        ),
        sa.CheckConstraint("kind IN ('user', 'team', 'guest')", name=op.f("ck_accounts_kind")),
        sa.CheckConstraint("mode IN ('conserve', 'steady', 'spend')", name=op.f("ck_accounts_mode")),
        sa.CheckConstraint("avail_uc >= 0 AND held_uc >= 0", name=op.f("ck_accounts_not_negative")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_accounts")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_accounts_due_at"), "accounts", ["due_at"], unique=False)
    op.create_table(
        "catalogs",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("body", columns.Document(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("loaded_at", columns.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_catalogs")),
        sqlite_strict=True,
    )
    op.create_table(
        "checks",
        sa.Column("check_id", BIG, sa.Identity(always=True), nullable=False),
        sa.Column("checked_at", columns.Instant(), nullable=False),
        sa.Column("entries", BIG, nullable=False),
        sa.Column("duration_ms", REAL, nullable=False),
        sa.Column("violations", columns.Document(), nullable=False, comment="invariant → number of rows that break it"),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("check_id", name=op.f("pk_checks")),
        sqlite_strict=True,
    )
    op.create_table(
        "config_versions",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("body", columns.Document(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_at", columns.Instant(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_config_versions")),
        sqlite_strict=True,
    )
    op.create_table(
        "deployment",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_deployment")),
        comment="One row per fact of this deployment: salts, reporting zone.",
        sqlite_strict=True,
    )
    op.create_table(
        "guest_windows",
        sa.Column("window_key", sa.Text(), nullable=False, comment="session:account or ip:keyed hash"),
        sa.Column("ip_hash", sa.LargeBinary(), nullable=True, comment="of an address's window"),
        sa.Column("opened_at", columns.Instant(), nullable=True, comment="first generation of the running window"),
        sa.Column("used", sa.Integer(), nullable=False, comment="not-failed generations in it"),
        sa.CheckConstraint("used >= 0", name=op.f("ck_guest_windows_not_negative")),
        sa.PrimaryKeyConstraint("window_key", name=op.f("pk_guest_windows")),
        sqlite_strict=True,
    )
    op.create_table(
        "library_cells",
        sa.Column("genre", sa.Text(), nullable=False),
        sa.Column("mood", sa.Text(), nullable=False),
        sa.Column("requested_at", columns.Instant(), nullable=True, comment="first time anybody asked for the cell"),
        sa.Column("queued_at", columns.Instant(), nullable=True, comment="joined the pantry queue"),
        sa.Column("taken_at", columns.Instant(), nullable=True, comment="lent to a worker, for an hour"),
        sa.PrimaryKeyConstraint("genre", "mood", name=op.f("pk_library_cells")),
        sqlite_strict=True,
    )
    op.create_table(
        "library_days",
        sa.Column("genre", sa.Text(), nullable=False),
        sa.Column("mood", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False, comment="UTC date the assets were added, ISO 8601"),
        sa.Column("assets", sa.Integer(), nullable=False),
        sa.CheckConstraint("assets >= 0", name=op.f("ck_library_days_not_negative")),
        sa.PrimaryKeyConstraint("genre", "mood", "day", name=op.f("pk_library_days")),
        sqlite_strict=True,
    )
    op.create_table(
        "origins",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("ip_hash", sa.LargeBinary(), nullable=False),
        sa.Column("ip", sa.Text(), nullable=False),
        sa.Column("first_seen_at", columns.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "ip_hash", name=op.f("pk_origins")),
        comment="Addresses in the clear; the only table that can be erased.",
        sqlite_strict=True,
    )
    op.create_table(
        "payment_events",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("received_at", columns.Instant(), nullable=False),
        sa.Column("occurred_at", columns.Instant(), nullable=False, comment="by the provider's clock"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "user_id", sa.Text(), nullable=True, comment="none where neither the event nor its payment names one"
        ),
        sa.Column(
            "reference", sa.Text(), nullable=False, comment="of the payment, purchase or subscription it is about"
        ),
        sa.Column(
            "terms", columns.Document(), nullable=False, comment="plan, pack, paid_until, amount: what the event names"
        ),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the body as it came"),
        sa.Column("effect", columns.Document(), nullable=False, comment="what it did when it came"),
        sa.CheckConstraint(
            "kind IN ('paid', 'pack', 'refund', 'chargeback', 'expired', 'cancelled', 'override')",
            name=op.f("ck_payment_events_kind"),
        ),
        sa.PrimaryKeyConstraint("provider", "event_id", name=op.f("pk_payment_events")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_payment_events_reference"), "payment_events", ["reference"], unique=False)
    op.create_index(op.f("ix_payment_events_user_id"), "payment_events", ["user_id"], unique=False)
    op.create_table(
        "plan_demand",
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False, comment="UTC date that the rate holds for, ISO 8601"),
        sa.Column("rate", REAL, nullable=False, comment="mean demand of the plan's accounts, credits a day"),
        sa.PrimaryKeyConstraint("plan", "day", name=op.f("pk_plan_demand")),
        sqlite_strict=True,
    )
    op.create_table(
        "rewards",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False, comment="fresh or library"),
        sa.Column("value", REAL, nullable=False),
        sa.Column("rewarded_at", columns.Instant(), nullable=False),
        sa.CheckConstraint("outcome IN ('fresh', 'library')", name=op.f("ck_rewards_outcome")),
        sa.CheckConstraint("value >= 0 AND value <= 1", name=op.f("ck_rewards_share")),
        sa.PrimaryKeyConstraint("user_id", "request_id", name=op.f("pk_rewards")),
        sqlite_strict=True,
    )
    op.create_table(
        "teams",
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("anchor_day", sa.Text(), nullable=False, comment="local date the team's cycles count from, ISO 8601"),
        sa.Column("created_at", columns.Instant(), nullable=False),
        sa.CheckConstraint("mode IN ('pooled', 'apportioned')", name=op.f("ck_teams_mode")),
        sa.PrimaryKeyConstraint("team_id", name=op.f("pk_teams")),
        sqlite_strict=True,
    )
    op.create_table(
        "config_releases",
        sa.Column("release_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.Column("share", REAL, nullable=False),
        sa.Column("salt", sa.Text(), nullable=True, comment="of the experiment; kept while it ramps"),
        sa.Column("released_at", columns.Instant(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.CheckConstraint("action IN ('release', 'rollback')", name=op.f("ck_config_releases_action")),
        sa.CheckConstraint("arm IN ('all', 'treatment')", name=op.f("ck_config_releases_arm")),
        sa.CheckConstraint("share > 0 AND share <= 1", name=op.f("ck_config_releases_share")),
        sa.ForeignKeyConstraint(["version"], ["config_versions.version"], name=op.f("fk_config_releases_version")),
        sa.PrimaryKeyConstraint("release_id", name=op.f("pk_config_releases")),
        sqlite_strict=True,
    )
    op.create_table(
        "cycles",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("cycle_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start_at", columns.Instant(), nullable=False),
        sa.Column("end_at", columns.Instant(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("quota_uc", BIG, nullable=False),
        sa.Column("opening_uc", BIG, nullable=False, comment="monthly and rollover credits right after the grant"),
        sa.Column("closed_at", columns.Instant(), nullable=True, comment="when the closing was recorded"),
        sa.Column(
            "demand_uc", BIG, nullable=True, comment="asked for in the cycle, whatever was decided; known at closing"
        ),
        sa.Column("unspent_uc", BIG, nullable=True),
        sa.Column("kept_uc", BIG, nullable=True),
        sa.Column("carried_uc", BIG, nullable=True),
        sa.Column("cap_multiple", REAL, nullable=True),
        sa.CheckConstraint("end_at > start_at", name=op.f("ck_cycles_forward")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_cycles_account_id")),
        sa.PrimaryKeyConstraint("account_id", "cycle_no", name=op.f("pk_cycles")),
        sqlite_strict=True,
    )
    op.create_table(
        "deferrals",
        sa.Column("leg_id", sa.Text(), nullable=False, comment="of the defer entry"),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("deferred_at", columns.Instant(), nullable=False),
        sa.Column("expires_at", columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_deferrals_account_id")),
        sa.PrimaryKeyConstraint("leg_id", name=op.f("pk_deferrals")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_deferrals_deferred_at"), "deferrals", ["deferred_at"], unique=False)
    op.create_table(
        "drafts",
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=False),
        sa.Column("changes", columns.Document(), nullable=False, comment="dotted key → value"),
        sa.Column("saved_at", columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["parent"], ["config_versions.version"], name=op.f("fk_drafts_parent")),
        sa.PrimaryKeyConstraint("operator", "parent", name=op.f("pk_drafts")),
        sqlite_strict=True,
    )
    op.create_table(
        "holds",
        sa.Column("leg_id", sa.Text(), nullable=False, comment="of the reserve"),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("amount_uc", BIG, nullable=False),
        sa.Column("reserved_at", columns.Instant(), nullable=False),
        sa.Column("expires_at", columns.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_holds_account_id")),
        sa.PrimaryKeyConstraint("leg_id", name=op.f("pk_holds")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_holds_account_id"), "holds", ["account_id"], unique=False)
    op.create_index(op.f("ix_holds_expires_at"), "holds", ["expires_at"], unique=False)
    op.create_table(
        "lots",
        sa.Column("lot_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("granted_at", columns.Instant(), nullable=False),
        sa.Column("expires_at", columns.Instant(), nullable=True),
        sa.Column("unit_price_usd_micro", BIG, nullable=False, comment="micro-dollars per credit"),
        sa.Column("avail_uc", BIG, nullable=False),
        sa.Column("held_uc", BIG, nullable=False),
        sa.CheckConstraint(
            "kind IN ('monthly', 'rollover', 'welcome', 'bonus', 'purchased', 'backfill')", name=op.f("ck_lots_kind")
        ),
        sa.CheckConstraint("avail_uc >= 0 AND held_uc >= 0", name=op.f("ck_lots_not_negative")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_lots_account_id")),
        sa.PrimaryKeyConstraint("lot_id", name=op.f("pk_lots")),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_lots_open",
        "lots",
        ["account_id"],
        unique=False,
        sqlite_where=sa.text("avail_uc + held_uc > 0"),
        postgresql_where=sa.text("avail_uc + held_uc > 0"),
    )
    op.create_table(
        "team_members",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column(
            "from_cycle",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="of the team; the newest row counts",
        ),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column(
            "weight",
            sa.Integer(),
            nullable=False,
            comment="in the apportioned quota; 0 from the cycle on that begins without the member",
        ),
        sa.Column("plan", sa.Text(), nullable=True, comment="that one who leaves goes on with"),
        sa.CheckConstraint("weight >= 0", name=op.f("ck_team_members_not_negative")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.team_id"], name=op.f("fk_team_members_team_id")),
        sa.PrimaryKeyConstraint("user_id", "from_cycle", name=op.f("pk_team_members")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_team_members_team_id"), "team_members", ["team_id"], unique=False)
    op.create_table(
        "team_shares",
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("cycle_no", sa.Integer(), autoincrement=False, nullable=False, comment="of the team"),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("quota_uc", BIG, nullable=False),
        sa.CheckConstraint("quota_uc >= 0", name=op.f("ck_team_shares_not_negative")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.team_id"], name=op.f("fk_team_shares_team_id")),
        sa.PrimaryKeyConstraint("team_id", "cycle_no", "user_id", name=op.f("pk_team_shares")),
        comment="The quota of an apportioned team's cycle, shared out once, by the first member whose account opens it.",
        sqlite_strict=True,
    )
    op.create_table(
        "users",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False, comment="takes effect with the next cycle"),
        sa.Column("team_id", sa.Text(), nullable=True),
        sa.Column("segment", sa.Text(), nullable=True),
        sa.Column("conserving", columns.Flag(), nullable=False),
        sa.Column("session_consent", columns.Flag(), nullable=False),
        sa.Column("blocked_at", columns.Instant(), nullable=True),
        sa.Column("created_at", columns.Instant(), nullable=False),
        sa.Column("session_last_at", columns.Instant(), nullable=True, comment="last decision of the running session"),
        sa.Column("session_images", sa.Integer(), nullable=False),
        sa.Column("session_fresh", sa.Integer(), nullable=False),
        sa.Column("session_fresh_uc", BIG, nullable=False),
        sa.Column("session_opening_uc", BIG, nullable=False),
        sa.Column(
            "session_cells", columns.Document(), nullable=False, comment="cells asked for in the running session"
        ),
        sa.Column("bucket_level", REAL, nullable=False),
        sa.Column("bucket_at", columns.Instant(), nullable=True),
        sa.Column("fresh_at", columns.Instant(), nullable=True, comment="newest fresh generation"),
        sa.Column("hour_at", columns.Instant(), nullable=True, comment="the hour that hour_fresh counts"),
        sa.Column("hour_fresh", sa.Integer(), nullable=False, comment="fresh ones in that hour"),
        sa.Column(
            "hour_most",
            REAL,
            nullable=True,
            comment="more fresh ones in that hour are an anomaly; none while history is short",
        ),
        sa.Column("override_until", columns.Instant(), nullable=True, comment="limits are lifted until then"),
        sa.Column("flagged_at", columns.Instant(), nullable=True),
        sa.Column("flag_reason", sa.Text(), nullable=True),
        sa.Column(
            "challenged_at",
            columns.Instant(),
            nullable=True,
            comment="open challenge: nothing is authorized until it is cleared",
        ),
        sa.Column("guest_session", sa.Text(), nullable=True, comment="the session the user was a guest in before"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_users_account_id")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_users")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_users_account_id"), "users", ["account_id"], unique=False)
    op.create_table(
        "ledger_entries",
        sa.Column("id", BIG, sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("leg_id", sa.Text(), nullable=False, comment="names one act; a repeated act has the same leg_id"),
        sa.Column(
            "line",
            sa.Integer(),
            nullable=False,
            comment="1, 2 … within the leg; facts of the whole leg stand on line 1",
        ),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("team_id", sa.Text(), nullable=True),
        sa.Column("occurred_at", columns.Instant(), nullable=False),
        sa.Column("recorded_at", columns.Instant(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("lot_id", sa.Text(), nullable=True),
        sa.Column("d_avail_uc", BIG, nullable=False),
        sa.Column("d_held_uc", BIG, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column(
            "parent_request_id", sa.Text(), nullable=True, comment="of the deferred request whose fresh half this is"
        ),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("images", sa.Integer(), nullable=True),
        sa.Column("genre", sa.Text(), nullable=True),
        sa.Column("mood", sa.Text(), nullable=True),
        sa.Column("config_version", sa.Integer(), nullable=True),
        sa.Column("arm", sa.Text(), nullable=True),
        sa.Column("quota_policy", sa.Text(), nullable=True, comment="of the plan; opening legs only"),
        sa.Column(
            "status",
            sa.Text(),
            nullable=True,
            comment="RESERVED, LIBRARY, DEFERRED, RATE_LIMITED or REJECTED; opening legs only",
        ),
        sa.Column("outcome", sa.Text(), nullable=True, comment="fresh or library"),
        sa.Column("rule", sa.Text(), nullable=True),
        sa.Column("miss", columns.Flag(), nullable=True),
        sa.Column("forced", columns.Flag(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=True, comment="hysteresis mode after the decision"),
        sa.Column("prior_mode", sa.Text(), nullable=True, comment="hysteresis mode before it"),
        sa.Column("strategy", sa.Text(), nullable=True),
        sa.Column("available_uc", BIG, nullable=True, comment="all lots, before the decision"),
        sa.Column("paced_uc", BIG, nullable=True, comment="A: monthly and rollover lots"),
        sa.Column("quota_uc", BIG, nullable=True),
        sa.Column("cycle_days", REAL, nullable=True),
        sa.Column("days_left", REAL, nullable=True),
        sa.Column("surplus", REAL, nullable=True, comment="S, credits"),
        sa.Column("surplus_days", REAL, nullable=True),
        sa.Column("demand_rate", REAL, nullable=True, comment="lambda, credits a day"),
        sa.Column("session_images", sa.Integer(), nullable=True),
        sa.Column("session_fresh", sa.Integer(), nullable=True),
        sa.Column("session_fresh_uc", BIG, nullable=True),
        sa.Column("session_opening_uc", BIG, nullable=True),
        sa.Column("segment", sa.Text(), nullable=True),
        sa.Column("conserving", columns.Flag(), nullable=True),
        sa.Column("coverage", REAL, nullable=True),
        sa.Column("health", REAL, nullable=True),
        sa.Column("under_represented", columns.Flag(), nullable=True),
        sa.Column(
            "cell_new",
            columns.Flag(),
            nullable=True,
            comment="the cell was not asked for before in the running session",
        ),
        sa.Column(
            "arm_p", REAL, nullable=True, comment="chance that fresh is the better arm, by the rewards logged so far"
        ),
        sa.Column(
            "largest_uc", BIG, nullable=True, comment="cost of the largest request asked before in the running cycle"
        ),
        sa.Column("threshold", REAL, nullable=True),
        sa.Column("p0", REAL, nullable=True),
        sa.Column("nudge_freshness", REAL, nullable=True),
        sa.Column("nudge_credit_health", REAL, nullable=True),
        sa.Column("nudge_library", REAL, nullable=True),
        sa.Column("nudge_segment", REAL, nullable=True),
        sa.Column("nudge_conservation", REAL, nullable=True),
        sa.Column("nudge_mode", REAL, nullable=True),
        sa.Column("p", REAL, nullable=True),
        sa.Column("u01", REAL, nullable=True),
        sa.Column("cost_uc", BIG, nullable=True, comment="what a fresh one costs the user"),
        sa.Column("retry_after_s", REAL, nullable=True),
        sa.Column("authorize_ms", REAL, nullable=True, comment="time inside authorize, without the commit"),
        sa.Column("cost_usd_micro", BIG, nullable=True, comment="what the provider charged"),
        sa.Column("latency_ms", REAL, nullable=True, comment="of the provider"),
        sa.Column(
            "limit_name", sa.Text(), nullable=True, comment="the tightest count: day, month, free, session or ip"
        ),
        sa.Column("limit_count", sa.Integer(), nullable=True),
        sa.Column("used_count", sa.Integer(), nullable=True, comment="before the decision"),
        sa.Column("resets_at", columns.Instant(), nullable=True),
        sa.Column(
            "d_count", sa.Integer(), nullable=True, comment="generations counted, or taken back where one failed"
        ),
        sa.Column(
            "counted_at",
            columns.Instant(),
            nullable=True,
            comment="of the reserve: the day and cycle that d_count belongs to",
        ),
        sa.Column(
            "anomaly",
            columns.Flag(),
            nullable=True,
            comment="more fresh ones in this hour than the user's history explains",
        ),
        sa.Column("ip_hash", sa.LargeBinary(), nullable=True, comment="keyed hash of the address"),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("content_hash", sa.LargeBinary(), nullable=True, comment="keyed hash of the request's content"),
        sa.Column("details", columns.Document(), nullable=True),
        sa.Column("prev_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('grant', 'adjust', 'rollover', 'expire', 'clamp', 'import', 'reserve', 'settle', 'release', 'partial', "
            "'refund', 'library', 'defer', 'rate_limited', 'rejected', 'pause', 'resume')",
            name=op.f("ck_ledger_entries_kind"),
        ),
        sa.CheckConstraint("seq >= 1 AND line >= 1", name=op.f("ck_ledger_entries_positive")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_ledger_entries_account_id")),
        sa.ForeignKeyConstraint(["lot_id"], ["lots.lot_id"], name=op.f("fk_ledger_entries_lot_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_entries")),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_ledger_entries_counted",
        "ledger_entries",
        ["account_id", "counted_at"],
        unique=False,
        sqlite_where=sa.text("d_count IS NOT NULL"),
        postgresql_where=sa.text("d_count IS NOT NULL"),
    )
    op.create_index("uq_ledger_entries_account_seq", "ledger_entries", ["account_id", "seq"], unique=True)
    op.create_index("uq_ledger_entries_leg_line", "ledger_entries", ["leg_id", "line"], unique=True)
    op.create_table(
        "subscriptions",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=True, comment="none once all payments were taken back"),
        sa.Column("base_plan", sa.Text(), nullable=False, comment="the user's plan without it"),
        sa.Column("paid_until", columns.Instant(), nullable=True),
        sa.Column("as_of", columns.Instant(), nullable=False, comment="by the provider's clock"),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=op.f("fk_subscriptions_user_id")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_subscriptions")),
        sqlite_strict=True,
    )
