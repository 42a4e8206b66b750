"""Idempotency: the caption of each request with an `Idempotency-Key` is stored under the key for a day.

Kept in the database, so that all gateways agree: whoever writes the row first makes the caption, in one
transaction with the caption itself. A row names caller and key by a hash alone and the photo by a hash that
hangs on both, and so says nothing of a person or a photo that was erased.
"""

import hashlib
import secrets
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, delete, select, update

from captionloop.errors import CaptionloopError
from captionloop.ratings.database import insert_into
from captionloop.ratings.group_commit import GroupWriter
from captionloop.ratings.rating_tables import RepeatableRequest, now

RETENTION = timedelta(hours=24)
PRUNED_PER_STEP = 1000


class ClaimLostError(CaptionloopError):
    """A request took so long that another one with its key was let in its place."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to answer the request of a key. `holder` identifies the process that has it."""

    name_sha256: str
    holder: str


@dataclass(frozen=True, slots=True)
class EarlierRequest:
    """An earlier request with the same key: its caption, or None while it is under way; and whether it asked
    for the same.
    """

    caption_id: str | None
    is_same: bool


class IdempotencyStore:
    """The requests of the last day that had a key.

    Args:
        writer: of the ratings database.
        seconds: after which a request that is not answered counts as given up (its gateway is gone).
    """

    def __init__(self, writer: GroupWriter, seconds: float) -> None:
        self._writer = writer
        self._lease = timedelta(seconds=seconds)

    def begin(self, caller: str, key: str, content: bytes) -> "Future[Claim | EarlierRequest]":
        """The claim to answer a request, or what is known of an earlier one with this caller and key.

        `content` is what was asked: another under the same key is not the same request.
        """
        name = _hash(caller.encode(), key.encode())
        content_sha256 = _hash(name.encode(), content)
        holder = secrets.token_hex(16)

        def operation(connection: Connection) -> Claim | EarlierRequest:
            moment = now()
            of_name = RepeatableRequest.name_sha256 == name
            connection.execute(
                delete(RepeatableRequest).where(of_name, RepeatableRequest.created_at < moment - RETENTION)
            )
            held = {"content_sha256": content_sha256, "holder": holder, "held_until": moment + self._lease}
            connection.execute(
                insert_into(connection.dialect.name, RepeatableRequest)
                .values(name_sha256=name, caption_id=None, created_at=moment, **held)
                .on_conflict_do_nothing(index_elements=["name_sha256"])
            )
            abandoned = of_name & RepeatableRequest.caption_id.is_(None)
            abandoned &= RepeatableRequest.held_until < moment
            connection.execute(update(RepeatableRequest).where(abandoned).values(**held))
            query = select(
                RepeatableRequest.holder, RepeatableRequest.caption_id, RepeatableRequest.content_sha256
            )
            row = connection.execute(query.where(of_name)).first()
            if row is None:  # released in this very moment
                return EarlierRequest(None, is_same=True)
            if row.holder == holder:
                return Claim(name, holder)
            return EarlierRequest(row.caption_id, is_same=row.content_sha256 == content_sha256)

        return self._writer.submit(operation, locks=("4 repeat", name))

    def release(self, claim: Claim, *, even_if_done: bool = False) -> None:
        """Give a claim back, without waiting: a repetition is answered anew then.

        What was made under it stays its answer, but `even_if_done`: where it was erased, for nobody waited.
        """
        statement = delete(RepeatableRequest).where(*_of(claim))
        if not even_if_done:
            statement = statement.where(RepeatableRequest.caption_id.is_(None))
        self._writer.submit(
            lambda connection: connection.execute(statement), locks=("4 repeat", claim.name_sha256)
        )

    def prune(self) -> "Future[int]":
        """Forget up to `PRUNED_PER_STEP` requests that are past their day; how many there were."""

        def operation(connection: Connection) -> int:
            expired = select(RepeatableRequest.name_sha256).where(
                RepeatableRequest.created_at < now() - RETENTION
            )
            return connection.execute(
                delete(RepeatableRequest).where(
                    RepeatableRequest.name_sha256.in_(expired.limit(PRUNED_PER_STEP))
                )
            ).rowcount

        return self._writer.submit(operation)


def complete_claim(connection: Connection, claim: Claim, caption_id: str) -> None:
    """Stores the caption id of a claim, in the transaction that stores the caption.

    Raises:
        ClaimLostError: another request has taken its place: nothing may be made under it any more.
    """
    done = connection.execute(update(RepeatableRequest).where(*_of(claim)).values(caption_id=caption_id))
    if done.rowcount != 1:
        raise ClaimLostError("this request took too long, and another one with its key took its place")


def _of(claim: Claim) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return RepeatableRequest.name_sha256 == claim.name_sha256, RepeatableRequest.holder == claim.holder


def _hash(*parts: bytes) -> str:
    """SHA-256 of several parts with their lengths, so that their boundaries count."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
