"""Served captions to rows of the ratings database: conversion, and one insert for many of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection

from captionloop.ratings.group_commit import statements_for
from captionloop.ratings.idempotency_store import Claim, complete_claim
from captionloop.ratings.rating_tables import ServedCaption
from captionloop.vision.embedding import to_bytes


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """Column values of a caption and of its photo, and the claim of its `Idempotency-Key`, if it has one."""

    photo: dict[str, Any]
    caption: dict[str, Any]
    claim: Claim | None


def caption_row(served: ServedCaption, claim: Claim | None = None) -> CaptionRow:
    """The column values of a served caption and of its photo."""
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
    return CaptionRow(photo, caption, claim)


def insert_captions(connection: Connection, rows: Sequence[CaptionRow]) -> list[None]:
    """Inserts captions and their photos, deletes their pending and erasure rows, and completes their claims.

    Raises:
        ClaimLostError: somebody else has taken the place of one of their requests.
    """
    statements = statements_for(connection.dialect.name)
    if connection.execute(statements.insert_photo, [row.photo for row in rows]).rowcount != 0:
        # Of photos that were all there nothing is erased: where one goes, this is noted with it.
        photos = [{"photo": row.photo["sha256"], "moment": row.caption["created_at"]} for row in rows]
        connection.execute(statements.delete_erasure, photos)
        connection.execute(statements.cancel_removal, photos)
    connection.execute(statements.insert_caption, [row.caption for row in rows])
    connection.execute(statements.delete_pending, [{"of_caption": row.caption["caption_id"]} for row in rows])
    for row in rows:
        if row.claim is not None:
            complete_claim(connection, row.claim, row.caption["caption_id"])
    return [None] * len(rows)
