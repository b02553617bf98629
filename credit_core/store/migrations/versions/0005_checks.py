"""What a leg checks faster: on PostgreSQL the checks of accounts, lots and entries are one call of a function each.

The server reads a check's stored expression anew for every statement, and one that lists many words is long: a quarter of
a leg's time. A function's is kept by the session. It says the same, and what is there is checked by it once more.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

#: By table: what the new check is called, its columns with their types, and the checks it takes the place of.
CHECKS = {
    "accounts": (
        "not_negative_kind_mode",
        {"avail_uc": "bigint", "held_uc": "bigint", "kind": "text", "mode": "text"},
        {
            "not_negative": "avail_uc >= 0 AND held_uc >= 0",
            "kind": "kind IN ('user', 'team', 'guest')",
            "mode": "mode IN ('conserve', 'steady', 'spend')",
        },
    ),
    "lots": (
        "not_negative_kind_open",
        {"avail_uc": "bigint", "held_uc": "bigint", "kind": "text", "is_open": "boolean"},
        {
            "not_negative": "avail_uc >= 0 AND held_uc >= 0",
            "kind": "kind IN ('monthly', 'rollover', 'welcome', 'bonus', 'purchased', 'backfill')",
            "open": "is_open OR avail_uc + held_uc = 0",
        },
    ),
    "ledger_entries": (
        "positive_kind",
        {"seq": "bigint", "line": "integer", "kind": "text"},
        {
            "positive": "seq >= 1 AND line >= 1",
            "kind": "kind IN ('grant', 'adjust', 'rollover', 'expire', 'clamp', 'import', 'reserve', 'settle', 'release', "
            "'partial', 'refund', 'library', 'defer', 'rate_limited', 'rejected', 'pause', 'resume')",
        },
    ),
}


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        # It keeps a statement's checks with the statement.
        return
    for table, (name, columns, former) in CHECKS.items():
        takes = ", ".join(f"{column} {kind}" for column, kind in columns.items())
        says = " AND ".join(f"({check})" for check in former.values())
        op.execute(
            f"CREATE FUNCTION titrate_{table}_hold({takes}) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ "
            f"BEGIN RETURN {says}; END $$"
        )
        dropped = ", ".join(f"DROP CONSTRAINT ck_{table}_{old}" for old in former)
        op.execute(
            f"ALTER TABLE {table} {dropped}, "
            f"ADD CONSTRAINT ck_{table}_{name} CHECK (titrate_{table}_hold({', '.join(columns)}))"
        )
