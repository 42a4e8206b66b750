"""What was done to the versions of a registered model: who did what, when, why, and on what evidence.

The history is a list of lines to which lines are only added. From it follows where a rollback leads: to the
newest earlier champion that was not itself taken back. A registry from before there was a history has one
all the same: what its versions' tags tell.

Each line is a tag of the registered model, in any MLflow store. It has a name that no other has, and is
written once and never again. So two processes that write at the same time, on two machines, lose none; and a
version that is deleted in MLflow keeps its history.
"""

import getpass
import logging
import os
import socket
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from captionloop.registry.model_version import ModelVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

ACTOR = "CAPTIONLOOP_ACTOR"
"""Who is acting, where that is not whoever is logged in: Airflow's steps name their DAG and its run."""

Action = Literal[
    "register", "pass", "refuse", "promote", "verify", "rollback", "withdraw", "sign", "found",
    "shadow", "canary", "end",
]  # fmt: skip
_MAKES_CHAMPION = {"promote", "found"}
_REVOKES = {"rollback", "withdraw"}
_GATE_ACTIONS = {"pass", "refuse"}


class HistoryEntry(BaseModel):
    """One action on a version.

    Attributes:
        number: its place; of two lines of one number the one that was written first comes first.
        at: when; None where nobody noted it.
        action: `pass` and `refuse` are the gate's; `rollback` and `withdraw` give the champion's place back,
            the latter without a word against the version; `found` is what the registry was found to hold,
            though no line tells how it came to be; `shadow` and `canary` begin a trial beside the champion,
            `end` ends it.
        version: which one it was done to.
        by: who did it.
        why: a sentence.
        champion: who was champion afterwards, where the action changed that.
        before: who had been champion.
        outcome: of `verify`: passed, failed, or not verified; of `end`: why the trial ended.
        evidence: what else it rests on.
        served: of `found`: earlier champions, the oldest first.
        taken_back: of `found`: those that had been rolled back.
        derived: it was not written when it was done, but read off the tags of the versions.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    number: int = 0
    at: datetime | None = None
    action: Action
    version: int
    by: str = ""
    why: str = ""
    champion: int | None = None
    before: int | None = None
    outcome: str = ""
    evidence: dict[str, str | int | float | None] = {}
    served: tuple[int, ...] = ()
    taken_back: tuple[int, ...] = ()
    derived: bool = False


@dataclass(frozen=True)
class Champions:
    """What a history says of champions: who is, who was (the newest last), and which were taken back."""

    current: int | None
    served: tuple[int, ...]
    taken_back: frozenset[int]

    def before(self, champion: int, known: Collection[int]) -> int | None:
        """To whom a rollback of `champion` leads: the newest other one that was not taken back, and that is
        `known` still.
        """
        eligible = [each for each in self.served if each != champion and each not in self.taken_back]
        return next((each for each in reversed(eligible) if each in known), None)


def actor() -> str:
    """Who is acting: what `CAPTIONLOOP_ACTOR` says, else the user and the machine."""
    name = os.environ.get(ACTOR, "").strip()
    if name:
        return name
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"user:{user}@{socket.gethostname()}"


def ordered(lines: Iterable[HistoryEntry]) -> list[HistoryEntry]:
    """The lines in the order in which things were done."""
    first = datetime.min.replace(tzinfo=UTC)
    return sorted(lines, key=lambda line: (line.number, line.at or first))


def champions(lines: Iterable[HistoryEntry]) -> Champions:
    """The champions, present and former, that follow from the entries of a history."""
    current: int | None = None
    served: list[int] = []
    taken_back: set[int] = set()
    for line in ordered(lines):
        if line.action in _MAKES_CHAMPION:
            for version in (*line.served, line.version):
                if version in served:
                    served.remove(version)
                served.append(version)
                taken_back.discard(version)
            taken_back |= set(line.taken_back)
            current = line.version
        elif line.action in _REVOKES:
            taken_back.add(line.version)
            current = line.champion
    return Champions(current, tuple(served), frozenset(taken_back))


def missing_entry(lines: Sequence[HistoryEntry], versions: Sequence[ModelVersion]) -> HistoryEntry | None:
    """The entry that is missing where the champion is not the one of the history, else None.

    It is the first of a registry that had no history; later, that of a champion that somebody made outside of
    captionloop, or of a promotion that was cut off before its line was written.
    """
    champion = next((version for version in versions if version.is_champion), None)
    recorded = champions(lines).current
    if champion is None or recorded == champion.version:
        return None
    if recorded is not None:
        return HistoryEntry(
            action="found",
            version=champion.version,
            champion=champion.version,
            before=recorded,
            why=f"it is champion though version {recorded} was: the alias was set outside of captionloop, or "
            "a promotion was cut off",
        )
    served = _served_before(champion, versions)
    taken_back = sorted(version.version for version in versions if version.rolled_back)
    return HistoryEntry(
        action="found",
        version=champion.version,
        champion=champion.version,
        before=served[-1] if served else None,
        why="champion when this history began; what was before is told by the tags of the versions",
        served=served,
        taken_back=tuple(each for each in taken_back if each != champion.version),
        derived=True,
    )


def completed(lines: Sequence[HistoryEntry], versions: Sequence[ModelVersion]) -> list[HistoryEntry]:
    """The history, with what only the versions' tags tell: of versions from before there was one."""
    registered = {line.version for line in lines if line.action == "register"}
    decided = {line.version for line in lines if line.action in _GATE_ACTIONS}
    trial_ended = {line.version for line in lines if line.action == "end"}
    derived = []
    for version in sorted(versions, key=lambda version: version.version):
        if version.version not in registered:
            derived.append(
                HistoryEntry(action="register", version=version.version, at=version.created, derived=True)
            )
        if version.passed_gate is not None and version.version not in decided:
            derived.append(
                HistoryEntry(
                    action="pass" if version.passed_gate else "refuse",
                    version=version.version,
                    at=version.created,
                    by="gate",
                    why=version.reason,
                    derived=True,
                )
            )
        is_recorded = version.version in trial_ended or any(
            line.action in _REVOKES | {"found"} for line in lines
        )
        if version.rolled_back and not is_recorded:
            at = datetime.fromisoformat(version.rolled_back)
            derived.append(HistoryEntry(action="rollback", version=version.version, at=at, derived=True))
    missing = missing_entry(lines, versions)
    if missing is not None:
        missing = missing.model_copy(update={"number": 1 + max((line.number for line in lines), default=0)})
    return [*ordered(derived), *ordered(lines), *([missing] if missing else [])]


def _served_before(champion: ModelVersion, versions: Sequence[ModelVersion]) -> tuple[int, ...]:
    """Who was champion before, the newest last, as far as tags tell: whom each one replaced, and against whom
    the gate compared.
    """
    replaced = {version.version: version.replaced for version in versions}
    chain: list[int] = []
    each = champion.replaced
    while each is not None and each in replaced and each not in chain and each != champion.version:
        chain.insert(0, each)
        each = replaced[each]
    compared = {version.gate.get("champion", "").removeprefix("version ") for version in versions}
    known = {int(name) for name in compared if name.isdecimal()} | set(replaced.values())
    known |= {version.version for version in versions if version.rolled_back}
    others = sorted(each for each in known if each in replaced and each not in {*chain, champion.version})
    return (*others, *chain)


logger = logging.getLogger(__name__)

PREFIX = "captionloop.history."


def read(client: "MlflowClient", name: str) -> list[HistoryEntry]:
    """The lines of a registered model that exists, in order. What is not ours is left out, with a warning."""
    lines = []
    for key, value in client.get_registered_model(name).tags.items():
        if not key.startswith(PREFIX):
            continue
        try:
            lines.append(HistoryEntry.model_validate_json(value))
        except ValidationError:
            logger.warning("The tag %s of %s is no line of its history: it was changed by hand", key, name)
    return ordered(lines)


def append(client: "MlflowClient", name: str, line: HistoryEntry) -> HistoryEntry:
    """Writes a line after all that are there, with the time and who acts; the line as it was written."""
    number = 1 + max((each.number for each in read(client, name)), default=0)
    update = {"number": number, "at": datetime.now(UTC), "by": line.by or actor()}
    written = line.model_copy(update=update)
    key = f"{PREFIX}{number:08d}.{uuid.uuid4().hex[:12]}"
    client.set_registered_model_tag(name, key, written.model_dump_json(exclude_defaults=True))
    return written
