"""What a leg reads and writes less: accounts have a version that rises with every change of theirs, by which a leg can tell
that nothing has moved; and open lots are found by a mark that most legs leave as it is, not by amounts that all of them change.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
#: What no leg changes of a user and an account: where somebody does by hand, the version rises, too.
TERMS = {
    "users": "account_id, timezone, team_id, segment, conserving, session_consent, blocked_at, override_until, flagged_at, "
    "flag_reason, challenged_at, guest_session",
    "accounts": "plan, region, timezone, anchor_day, anchor_no, cycle_no, cycle_start_at, cycle_end_at, quota_uc, paused_at, due_at, "
    "cycled, paid_until",
}
WHEN = {"users": "", "accounts": "WHEN (NEW.version = OLD.version) "}
RAISE = "UPDATE accounts SET version = version + 1 WHERE account_id IN (OLD.account_id, NEW.account_id)"
#: As in 0003: a changed row stays on its page.
FILLFACTOR = 85


def upgrade() -> None:
    add_versions()
    mark_open_lots()


def add_versions() -> None:
    comment = "rises with every change of the account, its users and its lots"
    op.add_column("accounts", sa.Column("version", BIG, nullable=False, server_default="0", comment=comment))
    if op.get_bind().dialect.name == "sqlite":
        act = f"BEGIN {RAISE}; END"
    else:
        op.execute(
            "CREATE FUNCTION titrate_raise_version() RETURNS trigger LANGUAGE plpgsql AS $$ "
            f"BEGIN {RAISE}; RETURN NULL; END $$"
        )
        act = "EXECUTE FUNCTION titrate_raise_version()"
    for table, terms in TERMS.items():
        op.execute(
            f"CREATE TRIGGER {table}_raise_version AFTER UPDATE OF {terms} ON {table} FOR EACH ROW {WHEN[table]}{act}"
        )


def mark_open_lots() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    op.drop_index("ix_lots_open", "lots")
    op.execute(
        f"ALTER TABLE lots ADD COLUMN is_open {'INTEGER' if sqlite else 'BOOLEAN'} NOT NULL DEFAULT true "
        "CONSTRAINT ck_lots_open CHECK (is_open OR avail_uc + held_uc = 0)"
    )
    if not sqlite:
        op.execute("COMMENT ON COLUMN lots.is_open IS 'false: it holds nothing'")
        op.execute(f"ALTER TABLE lots SET (fillfactor = {FILLFACTOR})")
    op.execute("UPDATE lots SET is_open = false WHERE avail_uc + held_uc = 0")
    where = sa.text("is_open")
    op.create_index("ix_lots_open", "lots", ["account_id"], sqlite_where=where, postgresql_where=where)
