"""Tables of revision 0001 for what payment providers report."""

import sqlalchemy as sa
from alembic import op

from credit_core.store import columns


def create_tables() -> None:
    """Make them; ``users`` is there."""
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
            "terms",
            columns.Document(),
            nullable=False,
            comment="plan, pack, paid_until, amount: what the event names",
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
