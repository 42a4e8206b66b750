"""Requests that may be sent again: what came of each is remembered for a day, under its `Idempotency-Key`.

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
from captionloop.ratings.records import RepeatableRequest, now

REMEMBERED = timedelta(hours=24)
PRUNED_PER_STEP = 1000


class ClaimLostError(CaptionloopError):
    """A request took so long that another one with its key was let in its place."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make what a key asks for. `holder` tells it from that of whoever takes over."""

    name_sha256: str
    holder: str


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier request with the same key: its caption, or None while it is under way; and whether it asked
    for the same.
    """

    caption_id: str | None
    is_same: bool


class Repeats:
    """The requests of the last day that had a key.

    Args:
        writer: of the ratings database.
        seconds: after which a request that is not answered counts as given up (its gateway is gone).
    """

    def __init__(self, writer: GroupWriter, seconds: float) -> None:
        self._writer = writer
        self._lease = timedelta(seconds=seconds)

    def begin(self, caller: str, key: str, content: bytes) -> "Future[Claim | Earlier]":
        """The claim to answer a request, or what is known of an earlier one with this caller and key.

        `content` is what was asked: another under the same key is not the same request.
        """
        name = _hash(caller.encode(), key.encode())
        asked = _hash(name.encode(), content)
        holder = secrets.token_hex(16)

        def operation(connection: Connection) -> Claim | Earlier:
            moment = now()
            of_name = RepeatableRequest.name_sha256 == name
            connection.execute(
                delete(RepeatableRequest).where(of_name, RepeatableRequest.created_at < moment - REMEMBERED)
            )
            held = {"content_sha256": asked, "holder": holder, "held_until": moment + self._lease}
            connection.execute(
                insert_into(connection.dialect.name, RepeatableRequest)
                .values(name_sha256=name, caption_id=None, created_at=moment, **held)
                .on_conflict_do_nothing(index_elements=["name_sha256"])
            )
            given_up = of_name & RepeatableRequest.caption_id.is_(None)
            given_up &= RepeatableRequest.held_until < moment
            connection.execute(update(RepeatableRequest).where(given_up).values(**held))
            wanted = select(
                RepeatableRequest.holder, RepeatableRequest.caption_id, RepeatableRequest.content_sha256
            )
            found = connection.execute(wanted.where(of_name)).first()
            if found is None:  # released in this very moment
                return Earlier(None, is_same=True)
            if found.holder == holder:
                return Claim(name, holder)
            return Earlier(found.caption_id, is_same=found.content_sha256 == asked)

        return self._writer.submit(operation, locks=("4 repeat", name))

    def release(self, claim: Claim, *, although_made: bool = False) -> None:
        """Give a claim back, without waiting: a repetition is answered anew then.

        What was made under it stays its answer, but `although_made`: where it was erased, for nobody waited.
        """
        given_back = delete(RepeatableRequest).where(*_of(claim))
        if not although_made:
            given_back = given_back.where(RepeatableRequest.caption_id.is_(None))
        self._writer.submit(
            lambda connection: connection.execute(given_back), locks=("4 repeat", claim.name_sha256)
        )

    def prune(self) -> "Future[int]":
        """Forget up to `PRUNED_PER_STEP` requests that are past their day; how many there were."""

        def operation(connection: Connection) -> int:
            past = select(RepeatableRequest.name_sha256).where(
                RepeatableRequest.created_at < now() - REMEMBERED
            )
            return connection.execute(
                delete(RepeatableRequest).where(
                    RepeatableRequest.name_sha256.in_(past.limit(PRUNED_PER_STEP))
                )
            ).rowcount

        return self._writer.submit(operation)


def fulfil(connection: Connection, claim: Claim, caption_id: str) -> None:
    """Notes what was made under a claim, in the transaction that makes it.

    Raises:
        ClaimLostError: another request has taken its place: nothing may be made under it any more.
    """
    done = connection.execute(update(RepeatableRequest).where(*_of(claim)).values(caption_id=caption_id))
    if done.rowcount != 1:
        raise ClaimLostError("this request took too long, and another one with its key took its place")


def _of(claim: Claim) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return RepeatableRequest.name_sha256 == claim.name_sha256, RepeatableRequest.holder == claim.holder


def _hash(*parts: bytes) -> str:
    """Of several parts, so that no two ways to cut them are the same."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
