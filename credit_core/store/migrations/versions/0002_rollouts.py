"""Staged releases: their plans and events, which refuse change, and the newest look at their arms per day."""

import sqlalchemy as sa
from alembic import op

from credit_core.store import columns
from credit_core.store.engine import APP_ROLE

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
#: Append-only table → what counts as replacing one of its rows.
KEYS = {
    "rollouts": "rollout_id = NEW.rollout_id",
    "rollout_events": "rollout_id = NEW.rollout_id AND event_no = NEW.event_no",
}


def upgrade() -> None:
    create_tables()
    if op.get_bind().dialect.name == "sqlite":
        refuse_change_on_sqlite()
    else:
        refuse_change_on_postgresql()


def refuse_change_on_sqlite() -> None:
    for table, key in KEYS.items():
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
        op.execute(
            f"CREATE TRIGGER {table}_no_replace_0 BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key}) "
            f"BEGIN SELECT RAISE(ABORT, 'UNIQUE constraint failed: {table} is append-only'); END"
        )


def refuse_change_on_postgresql() -> None:
    for table in KEYS:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION titrate_refuse_change()"
        )
        # ALWAYS: session_replication_role = replica must not switch it off.
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only")
    there = sa.text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)")
    # Where the connecting role may not create roles the triggers stand alone, and ``verify`` says so.
    if op.get_bind().scalar(there, {"role": APP_ROLE}):
        op.execute(f"GRANT SELECT, INSERT ON {', '.join(KEYS)} TO {APP_ROLE}")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON rollout_looks TO {APP_ROLE}")


def create_tables() -> None:
    op.create_table(
        "rollouts",
        sa.Column("rollout_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False, comment="of the version: what an approval is bound to"),
        sa.Column("base_version", sa.Integer(), nullable=False, comment="what was live"),
        sa.Column("base_release_id", sa.Integer(), nullable=False, comment="newest release when it was asked for"),
        sa.Column("steps", columns.Document(), nullable=False, comment="[share, hold_s] each"),
        sa.Column("guardrails", columns.Document(), nullable=False),
        sa.Column("needs_approval", columns.Flag(), nullable=False),
        sa.Column("requested_at", columns.Instant(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["version"], ["config_versions.version"], name=op.f("fk_rollouts_version")),
        sa.ForeignKeyConstraint(["base_version"], ["config_versions.version"], name=op.f("fk_rollouts_base_version")),
        sa.PrimaryKeyConstraint("rollout_id", name=op.f("pk_rollouts")),
        comment="Plans of staged releases; what became of one is in its events and in the releases.",
        sqlite_strict=True,
    )
    op.create_table(
        "rollout_events",
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column(
            "event_no",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="1, 2, 3 …: who writes a number first acts",
        ),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("happened_at", columns.Instant(), nullable=False),
        sa.Column("step", sa.Integer(), comment="of the schedule, from 0"),
        sa.Column("release_id", sa.Integer(), comment="that put the step live"),
        sa.Column("after_entry_id", BIG, comment="newest entry then: what the step's arms did comes after it"),
        sa.Column("signals", columns.Document(), comment="what asked for the pause"),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('approved', 'declined', 'staged', 'held', 'resumed')", name=op.f("ck_rollout_events_kind")
        ),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.rollout_id"], name=op.f("fk_rollout_events_rollout_id")),
        sa.ForeignKeyConstraint(
            ["release_id"], ["config_releases.release_id"], name=op.f("fk_rollout_events_release_id")
        ),
        sa.PrimaryKeyConstraint("rollout_id", "event_no", name=op.f("pk_rollout_events")),
        sqlite_strict=True,
    )
    op.create_table(
        "rollout_looks",
        sa.Column("rollout_id", sa.Integer(), nullable=False),
        sa.Column(
            "day",
            sa.Text(),
            nullable=False,
            comment="UTC date of the look, ISO 8601; a later look of the day replaces it",
        ),
        sa.Column("looked_at", columns.Instant(), nullable=False),
        sa.Column("figures", columns.Document(), nullable=False, comment="metric to value and accounts of each arm"),
        sa.Column(
            "assigned",
            columns.Document(),
            nullable=False,
            comment="by step: accounts first seen in treatment, control, rest",
        ),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.rollout_id"], name=op.f("fk_rollout_looks_rollout_id")),
        sa.PrimaryKeyConstraint("rollout_id", "day", name=op.f("pk_rollout_looks")),
        sqlite_strict=True,
    )
