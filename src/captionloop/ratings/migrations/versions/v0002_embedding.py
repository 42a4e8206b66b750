"""What a photo looked like to the model, in 64 bytes: how drift is noticed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; captions from before have none."""
    op.add_column("captions", sa.Column("embedding", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("captions", "embedding")
