"""The sweeper finds deferred requests that are past their end without reading those that are not."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_deferrals_expires_at"), "deferrals", ["expires_at"], unique=False)
