"""Ratings as tables, and captions as they were served, each made in a line."""

import hashlib
from datetime import UTC, datetime, timedelta

import pandas as pd

from captionloop.ratings.rating_tables import PhotoFacts, ServedCaption
from captionloop.ratings.reader import ratings_table

BEGIN = datetime(2026, 11, 1, 12, tzinfo=UTC)


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def ratings(*rows: dict) -> pd.DataFrame:
    """Each row: rater, stars, and perhaps caption, photo, correction, text, minutes, sent, gold, network."""
    made = []
    for number, row in enumerate(rows, start=1):
        moment = BEGIN + timedelta(minutes=row.get("minutes", number))
        caption = row.get("caption", f"c{number}")
        made.append(
            (
                row.get("id", number),
                caption,
                row["rater"],
                row.get("stars", 3),
                row.get("correction"),
                moment,
                moment,
                row.get("text", "a red ball on the grass"),
                "1",
                sha(row.get("photo", caption)),
                sha(row["sent"]) if "sent" in row else None,
                row.get("gold", False),
                row.get("network"),
            )
        )
    return ratings_table(made)


def served(caption_id: str, *, photo: bytes = b"photo", owner: str = "key:a", **changes) -> ServedCaption:
    values = {
        "caption_id": caption_id, "owner": owner, "text": "a dog", "confidence": 0.5,
        "photo": PhotoFacts(hashlib.sha256(photo).hexdigest(), "image/jpeg", len(photo), 4, 3),
        "words": [{"text": "a", "confidence": 0.5, "attention": [[1.0]]}], "alternatives": [],
        "model_name": "captioner", "model_version": "1",
    }  # fmt: skip
    return ServedCaption(**(values | changes))
