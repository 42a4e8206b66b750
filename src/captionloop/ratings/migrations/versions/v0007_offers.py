"""Captions that are offered to others to rate, known ones among them, and the networks of raters."""

import sqlalchemy as sa
from alembic import op

from captionloop.ratings.rating_tables import UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; nobody has agreed to show the photos that are there."""
    op.add_column("captions", sa.Column("shared", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("captions", sa.Column("known_good", sa.Boolean(), nullable=True))
    op.create_index("ix_captions_shared_created_at", "captions", ["shared", "created_at"])
    op.add_column("ratings", sa.Column("network", sa.String(32), nullable=True))
    op.create_table(
        "offers",
        sa.Column(
            "caption_id",
            sa.String(32),
            sa.ForeignKey("captions.caption_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("rater", sa.String(80), primary_key=True),
        sa.Column("offered_at", UtcDateTime(), nullable=False),
        sa.Column("skipped_at", UtcDateTime(), nullable=True),
    )
    op.create_index("ix_offers_rater", "offers", ["rater"])
    op.create_table(
        "network_salts",
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("salt", sa.String(64), nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("network_salts")
    op.drop_table("offers")
    op.drop_column("ratings", "network")
    op.drop_index("ix_captions_shared_created_at", "captions")
    op.drop_column("captions", "known_good")
    op.drop_column("captions", "shared")
