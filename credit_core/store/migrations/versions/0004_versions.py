"""Accounts carry a version that rises with every change of theirs, so that a leg can tell that nothing has moved."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
#: What of a user no leg changes: operators do, by hand.
TERMS = "account_id, team_id, segment, conserving, session_consent, blocked_at, override_until, challenged_at"
RAISE = "UPDATE accounts SET version = version + 1 WHERE account_id IN (OLD.account_id, NEW.account_id)"


def upgrade() -> None:
    comment = "rises with every change of the account, its users and its lots"
    op.add_column("accounts", sa.Column("version", BIG, nullable=False, server_default="0", comment=comment))
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE TRIGGER users_raise_version AFTER UPDATE OF {TERMS} ON users BEGIN {RAISE}; END")
    else:
        op.execute(
            "CREATE FUNCTION titrate_raise_version() RETURNS trigger LANGUAGE plpgsql AS $$ "
            f"BEGIN {RAISE}; RETURN NULL; END $$"
        )
        op.execute(
            f"CREATE TRIGGER users_raise_version AFTER UPDATE OF {TERMS} ON users "
            "FOR EACH ROW EXECUTE FUNCTION titrate_raise_version()"
        )
