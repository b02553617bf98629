"""Tables of revision 0001 that operators write: catalogue, configuration, drafts, checks."""

import sqlalchemy as sa
from alembic import op

from credit_core.store import columns

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def create_tables() -> None:
    """Make them."""
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
