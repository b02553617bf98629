"""Calls that came again for what had been answered are counted."""

import sqlalchemy as sa
from alembic import op

from credit_core.store import columns
from credit_core.store.engine import APP_ROLE

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "repeats",
        sa.Column("quarter_at", columns.Instant(), nullable=False, comment="start of the quarter of an hour"),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("call", sa.Text(), nullable=False),
        sa.Column("refused", columns.Flag(), nullable=False, comment="it asked for something else than the first one"),
        sa.Column("plan", sa.Text(), nullable=False, comment="of the account when the first of them came"),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("calls", BIG, nullable=False),
        sa.CheckConstraint("calls > 0", name=op.f("ck_repeats_positive")),
        sa.CheckConstraint(
            "call IN ('authorize', 'settle', 'release', 'partial', 'refund')", name=op.f("ck_repeats_call")
        ),
        sa.PrimaryKeyConstraint("quarter_at", "account_id", "call", "refused", name=op.f("pk_repeats")),
        comment="Calls that came again for what had been answered: they write no entry, so they are counted here.",
        sqlite_strict=True,
    )
    there = sa.text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)")
    # As in 0002: a role that may not create roles has none to grant to.
    if op.get_bind().dialect.name == "postgresql" and op.get_bind().scalar(there, {"role": APP_ROLE}):
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON repeats TO {APP_ROLE}")
