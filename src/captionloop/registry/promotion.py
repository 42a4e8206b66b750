"""Promotion, rollback and trials: each changes the registry under a lock, after checking again within it.

What takes long, fetching files and checking them, comes before the lock is taken. Within, the champion is
read, the alias is set, and the line of the history is written. Killed anywhere, the next one finishes: it
notes who was found to be champion. A trial ends with the champion it is beside.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from captionloop.errors import RegistryError
from captionloop.registry import history, model_version, tracking
from captionloop.registry.history import HistoryEntry, champions, missing_entry
from captionloop.registry.lock import ChangeLock
from captionloop.registry.model_version import ModelVersion
from captionloop.registry.trials import Plan, Role, Trial, current

if TYPE_CHECKING:
    from captionloop.registry.model_registry import ModelRegistry


def promote(
    registry: "ModelRegistry", version: int | str, *, check_files: bool = False, why: str = ""
) -> ModelVersion:
    """Makes a version the champion, whatever the gate said of it. Raises `RegistryError`."""
    chosen = registry.version(version)
    if check_files or registry.signing.trust_store is not None:
        registry.check_files(chosen.version)
    with _locked(registry) as locked:
        return locked.make_champion(locked.unchanged(chosen), why)


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
        with _locked(registry) as locked:
            chosen = locked.unchanged(chosen)
            if locked.champion is None or locked.champion.version != chosen.version:
                refuse_ungated(chosen, locked.champion)
            return locked.make_champion(chosen, chosen.reason)
    except UngatedError as error:
        with suppress(RegistryError):  # what is to be told is why it was refused
            registry.note(HistoryEntry(action="refuse", version=chosen.version, why=str(error)))
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
    with _locked(registry) as locked:
        old, new = locked.champion, locked.previous()
        if old is None:
            raise RegistryError(f"Nothing to roll back: {registry.name} has no champion yet")
        if only_from is not None and old.version != only_from:
            raise RegistryError(
                f"Version {only_from} of {registry.name} is not the champion, version {old.version} is: "
                "nothing was rolled back"
            )
        if new is None:
            raise RegistryError(
                f"Nothing to roll back to: {registry.name} version {old.version} is the first champion, or "
                "all before it were rolled back; choose one by hand with captionloop models promote"
            )
        if previous is None or new.version != previous.version:
            raise RegistryError(
                f"The champion of {registry.name} was changed meanwhile: look at captionloop models history, "
                "and roll back again if it shall still be"
            )
        locked.restore(old, new, blame, why)
        return registry.version(new.version)


def begin_trial(
    registry: "ModelRegistry",
    version: int | str,
    role: Role,
    share: float,
    *,
    most: int,
    days: float,
    why: str = "",
) -> Trial:
    """Lets a version be tried beside the champion; the same once more changes nothing.

    Raises `RegistryError` where there is no champion or this is it, where another version is being tried, or
    where its files are damaged or not signed as asked.
    """
    chosen = registry.version(version)
    registry.check_files(chosen.version)
    with _locked(registry) as locked:
        champion = locked.champion.version if locked.champion else 0
        began = datetime.now(UTC).replace(microsecond=0)
        plan = Plan(role=role, share=share, champion=champion, began=began, most=most, days=days)
        return locked.begin(locked.unchanged(chosen), plan, why)


def end_trial(
    registry: "ModelRegistry",
    role: Role,
    outcome: str,
    *,
    why: str = "",
    only: int | None = None,
    blame: bool = False,
) -> Trial | None:
    """Ends the trial of that role and gives it; None where there is none, or not of version `only`.

    With `blame` the version counts as rolled back: the gate's word alone does not bring it into service.
    """
    with _locked(registry) as locked:
        trial = current(locked.versions)
        if trial is None or trial.plan.role != role or only not in {None, trial.version.version}:
            return None
        locked.end(trial, outcome, why, blame=blame)
        return trial


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
class _LockedRegistry:
    """The registry while nobody else changes its champion."""

    registry: "ModelRegistry"
    lock: ChangeLock
    versions: list[ModelVersion]
    entries: list[HistoryEntry]

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

    def make_champion(self, chosen: ModelVersion, why: str) -> ModelVersion:
        registry, before = self.registry, self.champion
        if before is not None and before.version == chosen.version:
            self._clear_rolled_back(chosen)
            return registry.version(chosen.version)
        self.lock.check()
        self._end_any(f"version {chosen.version} was promoted")
        if before is not None:
            with tracking.readable_errors(f"promote {registry.name} version {chosen.version}"):
                registry._tag(chosen.version, model_version.REPLACED, str(before.version))
            registry._set_alias("previous", before.version)
        registry._set_alias("champion", chosen.version)
        self._clear_rolled_back(chosen)
        self.append(
            HistoryEntry(
                action="promote",
                version=chosen.version,
                champion=chosen.version,
                before=before.version if before else None,
                why=why,
            )
        )
        return registry.version(chosen.version)

    def restore(self, old: ModelVersion, new: ModelVersion, blame: bool, why: str) -> None:
        registry = self.registry
        self.lock.check()
        self._end_any(f"version {old.version} was rolled back")
        if blame:
            self._mark_rolled_back(old)
        registry._set_alias("champion", new.version)
        self.append(
            HistoryEntry(
                action="rollback" if blame else "withdraw",
                version=old.version,
                champion=new.version,
                before=old.version,
                why=why,
            )
        )
        before = self._before(new.version)
        if before is not None:
            registry._set_alias("previous", before.version)
            return
        with tracking.readable_errors(f"clear the alias previous of {registry.name}"):
            registry._client.delete_registered_model_alias(registry.name, "previous")

    def begin(self, chosen: ModelVersion, plan: Plan, why: str) -> Trial:
        registry, role, trial = self.registry, plan.role, current(self.versions)
        called = f"{registry.name} version {chosen.version}"
        if self.champion is None:
            raise RegistryError(f"There is no champion to try {called} beside: promote one first")
        if self.champion.version == chosen.version:
            raise RegistryError(f"{called} is the champion: it cannot be tried beside itself")
        same = trial is not None and trial.version.version == chosen.version
        if trial is not None and same and plan.same_as(trial.plan):
            return trial
        if trial is not None and not same and not trial.is_void:
            raise RegistryError(
                f"Version {trial.version.version} of {registry.name} is the {trial.plan.role} at present: "
                f"end that first, with captionloop models {trial.plan.role} --stop"
            )
        self.lock.check()
        if trial is not None:
            self.end(trial, "stopped", "by another plan" if same else "the champion is another one")
        with tracking.readable_errors(f"make version {chosen.version} of {registry.name} the {role}"):
            registry._tag(chosen.version, model_version.TRIAL, plan.model_dump_json())
        registry._set_alias(role, chosen.version)
        evidence = {"share": plan.share, "beside": plan.champion, "most": plan.most, "days": plan.days}
        self.append(HistoryEntry(action=role, version=chosen.version, why=why, evidence=evidence))
        return Trial(registry.version(chosen.version), plan, is_void=False)

    def end(self, trial: Trial, outcome: str, why: str, *, blame: bool = False) -> None:
        registry, version = self.registry, trial.version
        self.lock.check()
        if blame:
            self._mark_rolled_back(version)
        with tracking.readable_errors(f"end the {trial.plan.role} of {registry.name}"):
            registry._client.delete_registered_model_alias(registry.name, trial.plan.role)
        self.append(
            HistoryEntry(
                action="end",
                version=version.version,
                outcome=outcome,
                why=why,
                evidence={"role": trial.plan.role},
            )
        )

    def _end_any(self, why: str) -> None:
        trial = current(self.versions)
        if trial is not None:
            self.end(trial, "stopped", why)

    def _mark_rolled_back(self, version: ModelVersion) -> None:
        with tracking.readable_errors(f"note that {version.name} version {version.version} was rolled back"):
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self.registry._tag(version.version, model_version.ROLLED_BACK, now)

    def _clear_rolled_back(self, chosen: ModelVersion) -> None:
        """Removes the mark of a rollback from a promoted version."""
        if not chosen.rolled_back:
            return
        with tracking.readable_errors(f"promote {chosen.name} version {chosen.version}"):
            self.registry._client.delete_model_version_tag(
                chosen.name, str(chosen.version), model_version.ROLLED_BACK
            )

    def append(self, line: HistoryEntry) -> None:
        self.entries.append(self.registry.note(line))

    def _before(self, champion: int) -> ModelVersion | None:
        known = {version.version: version for version in self.versions}
        before = champions(self.entries).before(champion, known)
        return None if before is None else known[before]


@contextmanager
def _locked(registry: "ModelRegistry") -> Iterator[_LockedRegistry]:
    """The registry as it is under the lock; who is champion is in its history by then."""
    client = registry._client
    with ChangeLock(client, registry.name).held() as lock:
        versions = registry.versions()
        with tracking.readable_errors(f"read the history of {registry.name}"):
            entries = history.read(client, registry.name) if versions else []
        locked = _LockedRegistry(registry, lock, versions, entries)
        entry = missing_entry(entries, versions)
        if entry is not None:
            locked.append(entry)
        yield locked
