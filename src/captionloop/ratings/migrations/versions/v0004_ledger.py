"""The ledger: photos about to be written, and what was erased and must be gone from elsewhere as well."""

import sqlalchemy as sa
from alembic import op

from captionloop.ratings.rating_tables import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; what was erased before is looked for everywhere once more."""
    op.create_table(
        "pending_photos",
        sa.Column("caption_id", sa.String(32), primary_key=True),
        sa.Column("photo_sha256", sa.String(64), nullable=False),
        sa.Column("begun_at", UtcDateTime(), nullable=False),
    )
    for column in ("photo_sha256", "begun_at"):
        op.create_index(f"ix_pending_photos_{column}", "pending_photos", [column])
    op.create_table(
        "tombstones",
        sa.Column(
            "tombstone_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("reason", sa.String(20), nullable=False),
        sa.Column("caption_id", sa.String(32)),
        sa.Column("person", sa.String(80)),
        sa.Column("photo_sha256", sa.String(64)),
        sa.Column("sent_sha256", sa.String(64)),
        sa.Column("erased_at", UtcDateTime(), nullable=False),
        sa.Column("archive_done_at", UtcDateTime()),
        sa.Column("features_done_at", UtcDateTime()),
        sa.Column("runs_done_at", UtcDateTime()),
        sa.Column("leased_by", sa.String(32)),
        sa.Column("leased_until", UtcDateTime()),
    )
    for column in (
        "caption_id", "person", "photo_sha256", "sent_sha256", "erased_at", "archive_done_at",
        "features_done_at", "runs_done_at",
    ):  # fmt: skip
        op.create_index(f"ix_tombstones_{column}", "tombstones", [column])
    op.execute(
        "INSERT INTO tombstones (reason, photo_sha256, erased_at) "
        "SELECT 'before 0004', sha256, erased_at FROM erasures "
        "WHERE NOT EXISTS (SELECT 1 FROM photos WHERE photos.sha256 = erasures.sha256)"
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("tombstones")
    op.drop_table("pending_photos")
