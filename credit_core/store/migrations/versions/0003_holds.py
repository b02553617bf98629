"""What a leg writes less: one index of holds that nobody asks, on SQLite their row ids; on PostgreSQL, pages with room for updates."""

import sqlalchemy as sa
from alembic import op

from credit_core.store import columns

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
#: A changed row stays on its page, and its indexes as they are, where there is room for it.
FILLFACTOR = 85


def upgrade() -> None:
    op.drop_index(op.f("ix_holds_account_id"), "holds")
    if op.get_bind().dialect.name == "sqlite":
        keep_holds_by_their_key()
    else:
        for table in ("accounts", "users"):
            op.execute(f"ALTER TABLE {table} SET (fillfactor = {FILLFACTOR})")


def keep_holds_by_their_key() -> None:
    op.drop_index(op.f("ix_holds_expires_at"), "holds")
    op.rename_table("holds", "holds_0001")
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
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO holds SELECT * FROM holds_0001")
    op.drop_table("holds_0001")
    op.create_index(op.f("ix_holds_expires_at"), "holds", ["expires_at"])
