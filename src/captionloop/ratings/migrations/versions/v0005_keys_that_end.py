"""API keys that end and tell when they were used, and requests that may be sent again."""

import sqlalchemy as sa
from alembic import op

from captionloop.ratings.rating_tables import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; keys from before do not end."""
    op.add_column("api_keys", sa.Column("expires_at", UtcDateTime(), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", UtcDateTime(), nullable=True))
    op.create_table(
        "repeatable_requests",
        sa.Column("name_sha256", sa.String(64), primary_key=True),
        sa.Column("content_sha256", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(32), nullable=False),
        sa.Column("held_until", UtcDateTime(), nullable=False),
        sa.Column("caption_id", sa.String(32), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
    )
    op.create_index("ix_repeatable_requests_created_at", "repeatable_requests", ["created_at"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("repeatable_requests")
    op.drop_column("api_keys", "last_used_at")
    op.drop_column("api_keys", "expires_at")
