"""Who is champion, changed by one at a time: what is compared is compared once more under the lock.

What takes long, fetching files and checking them, comes before the lock is taken. Within, the champion is
read, the alias is set, and the line of the history is written. Killed anywhere, the next one finishes: it
notes who was found to be champion.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from captionloop.errors import RegistryError
from captionloop.registry import history, model_version, tracking
from captionloop.registry.history import Line, champions, found
from captionloop.registry.lock import ChangeLock
from captionloop.registry.model_version import ModelVersion

if TYPE_CHECKING:
    from captionloop.registry.model_registry import ModelRegistry


def promote(
    registry: "ModelRegistry", version: int | str, *, check_files: bool = False, why: str = ""
) -> ModelVersion:
    """Makes a version the champion, whatever the gate said of it. Raises `RegistryError`."""
    chosen = registry.version(version)
    if check_files or registry.signing.trust_store is not None:
        registry.check_files(chosen.version)
    with _changing(registry) as scene:
        return scene.crown(scene.unchanged(chosen), why)


def promote_gated(registry: "ModelRegistry", version: int | str, *, check_files: bool = True) -> ModelVersion:
    """Makes a version the champion only if the gate passed it against the champion of this moment.

    Raises `RegistryError`, and changes nothing, otherwise; that it was refused is in the history.
    """
    chosen, champion = registry.version(version), registry.champion()
    if champion is not None and champion.version == chosen.version:
        return chosen
    try:
        refuse_ungated(chosen, champion)
        if check_files or registry.signing.trust_store is not None:
            registry.check_files(chosen.version)
        with _changing(registry) as scene:
            chosen = scene.unchanged(chosen)
            if scene.champion is None or scene.champion.version != chosen.version:
                refuse_ungated(chosen, scene.champion)
            return scene.crown(chosen, chosen.reason)
    except UngatedError as error:
        with suppress(RegistryError):  # what is to be told is why it was refused
            registry.note(Line(action="refuse", version=chosen.version, why=str(error)))
        raise


def rollback(
    registry: "ModelRegistry",
    *,
    check_files: bool = False,
    only_from: int | None = None,
    blame: bool = True,
    why: str = "",
) -> ModelVersion:
    """Gives the champion's place back. Raises `RegistryError` where that cannot be done."""
    previous = registry.previous()
    if previous is not None and (check_files or registry.signing.trust_store is not None):
        registry.check_files(previous.version)
    with _changing(registry) as scene:
        left, back = scene.champion, scene.previous()
        if left is None:
            raise RegistryError(f"Nothing to roll back: {registry.name} has no champion yet")
        if only_from is not None and left.version != only_from:
            raise RegistryError(
                f"Version {only_from} of {registry.name} is not the champion, version {left.version} is: "
                "nothing was rolled back"
            )
        if back is None:
            raise RegistryError(
                f"Nothing to roll back to: {registry.name} version {left.version} is the first champion, or "
                "all before it were rolled back; choose one by hand with captionloop models promote"
            )
        if previous is None or back.version != previous.version:
            raise RegistryError(
                f"The champion of {registry.name} was changed meanwhile: look at captionloop models history, "
                "and roll back again if it shall still be"
            )
        scene.give_back(left, back, blame, why)
        return registry.version(back.version)


class UngatedError(RegistryError):
    """The gate's decision does not allow this promotion."""


def refuse_ungated(version: ModelVersion, champion: ModelVersion | None) -> None:
    """Raises `UngatedError` unless the gate's decision allows this version to replace this champion."""
    called = f"{version.name} version {version.version}"
    if version.passed_gate is None:
        raise UngatedError(f"{called} was not brought to the gate: it is not promoted")
    if not version.passed_gate:
        raise UngatedError(f"{called} is not promoted, the gate refused it: {version.reason}")
    if version.rolled_back:
        raise UngatedError(
            f"{called} was rolled back on {version.rolled_back}: promote it by hand if it shall come back"
        )
    compared, now = version.gate.get("champion", ""), f"version {champion.version}" if champion else ""
    if compared != now:
        raise UngatedError(
            f"{called} is not promoted: the gate compared it with {compared or 'no champion'}, but the "
            f"champion is now {now or 'gone'}; bring it to the gate again"
        )


@dataclass
class _Scene:
    """The registry while nobody else changes its champion."""

    registry: "ModelRegistry"
    lock: ChangeLock
    versions: list[ModelVersion]
    lines: list[Line]

    @property
    def champion(self) -> ModelVersion | None:
        return next((version for version in self.versions if version.is_champion), None)

    def previous(self) -> ModelVersion | None:
        champion = self.champion
        return None if champion is None else self._before(champion.version)

    def unchanged(self, chosen: ModelVersion) -> ModelVersion:
        """The version as it is now. Raises `RegistryError` where its files are others than were looked at."""
        now = next((each for each in self.versions if each.version == chosen.version), None)
        if now is None or (now.source, now.checksums) != (chosen.source, chosen.checksums):
            raise RegistryError(
                f"{chosen.name} version {chosen.version} was changed while its files were read: try again"
            )
        return now

    def crown(self, chosen: ModelVersion, why: str) -> ModelVersion:
        registry, before = self.registry, self.champion
        if before is not None and before.version == chosen.version:
            self._forgive(chosen)
            return registry.version(chosen.version)
        self.lock.check()
        if before is not None:
            with tracking.for_people(f"promote {registry.name} version {chosen.version}"):
                registry._tag(chosen.version, model_version.REPLACED, str(before.version))
            registry._point("previous", before.version)
        registry._point("champion", chosen.version)
        self._forgive(chosen)
        self.write(
            Line(
                action="promote",
                version=chosen.version,
                champion=chosen.version,
                before=before.version if before else None,
                why=why,
            )
        )
        return registry.version(chosen.version)

    def give_back(self, left: ModelVersion, back: ModelVersion, blame: bool, why: str) -> None:
        registry = self.registry
        self.lock.check()
        if blame:
            with tracking.for_people(f"roll {registry.name} back to version {back.version}"):
                now = datetime.now(UTC).isoformat(timespec="seconds")
                registry._tag(left.version, model_version.ROLLED_BACK, now)
        registry._point("champion", back.version)
        self.write(
            Line(
                action="rollback" if blame else "withdraw",
                version=left.version,
                champion=back.version,
                before=left.version,
                why=why,
            )
        )
        further = self._before(back.version)
        if further is not None:
            registry._point("previous", further.version)
            return
        with tracking.for_people(f"clear the alias previous of {registry.name}"):
            registry._client.delete_registered_model_alias(registry.name, "previous")

    def _forgive(self, chosen: ModelVersion) -> None:
        """Whoever is promoted counts as rolled back no more."""
        if not chosen.rolled_back:
            return
        with tracking.for_people(f"promote {chosen.name} version {chosen.version}"):
            self.registry._client.delete_model_version_tag(
                chosen.name, str(chosen.version), model_version.ROLLED_BACK
            )

    def write(self, line: Line) -> None:
        self.lines.append(self.registry.note(line))

    def _before(self, champion: int) -> ModelVersion | None:
        known = {version.version: version for version in self.versions}
        before = champions(self.lines).before(champion, known)
        return None if before is None else known[before]


@contextmanager
def _changing(registry: "ModelRegistry") -> Iterator[_Scene]:
    """The registry as it is under the lock; who is champion is in its history by then."""
    client = registry._client
    with ChangeLock(client, registry.name).held() as lock:
        versions = registry.versions()
        with tracking.for_people(f"read the history of {registry.name}"):
            lines = history.read(client, registry.name) if versions else []
        scene = _Scene(registry, lock, versions, lines)
        missing = found(lines, versions)
        if missing is not None:
            scene.write(missing)
        yield scene
