"""What a photo was named as it was sent: without its metadata it is kept under another name."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; photos of captions from before were kept as they were sent."""
    op.add_column("captions", sa.Column("sent_sha256", sa.String(64), nullable=True))
    op.create_index("ix_captions_sent_sha256", "captions", ["sent_sha256"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_captions_sent_sha256", "captions")
    op.drop_column("captions", "sent_sha256")
