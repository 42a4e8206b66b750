"""Photos, captions, ratings, erasures and API keys."""

import sqlalchemy as sa
from alembic import op

from captionloop.ratings.rating_tables import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "photos",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("media_type", sa.String(40), nullable=False),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "captions",
        sa.Column("caption_id", sa.String(32), primary_key=True),
        sa.Column("photo_sha256", sa.String(64), sa.ForeignKey("photos.sha256"), nullable=False),
        sa.Column("owner", sa.String(80), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("words", sa.JSON(), nullable=False),
        sa.Column("alternatives", sa.JSON(), nullable=False),
        sa.Column("model_name", sa.String(80), nullable=False),
        sa.Column("model_version", sa.String(80), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
    )
    for column in ("photo_sha256", "owner", "model_version", "created_at"):
        op.create_index(f"ix_captions_{column}", "captions", [column])
    op.create_table(
        "ratings",
        sa.Column(
            "rating_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column(
            "caption_id",
            sa.String(32),
            sa.ForeignKey("captions.caption_id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("rater", sa.String(80), nullable=False),
        sa.Column("stars", sa.Integer(), nullable=False),
        sa.Column("correction", sa.Text()),
        sa.Column("comment", sa.Text()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.UniqueConstraint("caption_id", "rater", name="uq_ratings_caption_id_rater"),
        sa.CheckConstraint("stars BETWEEN 1 AND 5", name="ck_ratings_stars"),
    )
    for column in ("rater", "updated_at"):
        op.create_index(f"ix_ratings_{column}", "ratings", [column])
    op.create_table(
        "erasures",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("erased_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(80), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("revoked_at", UtcDateTime()),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("api_keys", "erasures", "ratings", "captions", "photos"):
        op.drop_table(table)
