"""From captions that are about to be served to their rows in the ratings database, many in one go."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection

from captionloop.ratings.group_commit import statements_for
from captionloop.ratings.records import ServedCaption
from captionloop.ratings.repeats import Claim, fulfil
from captionloop.vision.embedding import to_bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """A caption as columns of its photo and its own, and the claim under which it was made."""

    photo: dict[str, Any]
    caption: dict[str, Any]
    claim: Claim | None


def recorded(served: ServedCaption, claim: Claim | None = None) -> Recorded:
    """What of a served caption is written."""
    facts = served.photo
    photo = {
        "sha256": facts.sha256,
        "media_type": facts.media_type,
        "byte_count": facts.byte_count,
        "width": facts.width,
        "height": facts.height,
        "created_at": served.created_at,
    }
    caption = {
        "caption_id": served.caption_id,
        "photo_sha256": facts.sha256,
        "sent_sha256": served.sent_sha256,
        "owner": served.owner,
        "text": served.text,
        "confidence": served.confidence,
        "words": served.words,
        "alternatives": served.alternatives,
        "model_name": served.model_name,
        "model_version": served.model_version,
        "created_at": served.created_at,
        "familiarity": served.familiarity,
        "familiar": served.familiar,
        "shared": served.shared,
        "known_good": served.known_good,
        "embedding": None if served.embedding is None else to_bytes(np.asarray(served.embedding)),
    }
    return Recorded(photo, caption, claim)


def record(connection: Connection, rows: Sequence[Recorded]) -> list[None]:
    """Writes captions and their photos, which are pending and erased no more, under their claims.

    Raises:
        ClaimLostError: somebody else has taken the place of one of their requests.
    """
    statements = statements_for(connection.dialect.name)
    if connection.execute(statements.keep_photo, [row.photo for row in rows]).rowcount != 0:
        # Of photos that were all there nothing is erased: where one goes, this is noted with it.
        photos = [{"photo": row.photo["sha256"], "moment": row.caption["created_at"]} for row in rows]
        connection.execute(statements.forget_erasure, photos)
        connection.execute(statements.spare_photo, photos)
    connection.execute(statements.keep_caption, [row.caption for row in rows])
    connection.execute(
        statements.pending_no_more, [{"of_caption": row.caption["caption_id"]} for row in rows]
    )
    for row in rows:
        if row.claim is not None:
            fulfil(connection, row.claim, row.caption["caption_id"])
    return [None] * len(rows)
