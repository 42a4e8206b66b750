"""Whether a photo looked like what the model had learnt from."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; captions from before have none."""
    op.add_column("captions", sa.Column("familiarity", sa.Float(), nullable=True))
    op.add_column("captions", sa.Column("familiar", sa.Boolean(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("captions", "familiar")
    op.drop_column("captions", "familiarity")
