"""One version in the registry: its tags, its artifacts, and the checksums of its bundle."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captionloop import files
from captionloop.captioner.bundle import OPTIONAL, verify_bundle
from captionloop.captioner.families import CONFIG, ENCODER, MODEL, TOKENIZER
from captionloop.errors import RegistryError
from captionloop.files import replace_folder
from captionloop.registry import tracking
from captionloop.registry.signing import SIGNATURE, Signing, signature_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

    from captionloop.registry.gate import GateDecision

# These say which captions the model gives; the other files describe it. A bundle whose description was
# written anew (another commit, a speed measured again) is still the same model.
DECIDING = (CONFIG, MODEL, ENCODER, TOKENIZER, *OPTIONAL)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in the folder by its relative path; empty where there is no folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def fingerprint(bundle: Path) -> str:
    """One hash over everything that decides which captions the model gives: weights, words, configuration.

    Raises `BundleError` where the folder is not a bundle, or a damaged one.
    """
    verify_bundle(bundle)
    # Only a bundle that ranks by a consensus has neighbours, and those of before format 4 no familiarity.
    deciding = {name: _sha256(bundle / name) for name in DECIDING if (bundle / name).exists()}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def damaged_files(bundle: Path, expected: Mapping[str, str]) -> list[str]:
    """Names of the files that are missing from the folder, or are not the ones that were registered."""
    found = checksums(bundle)
    return sorted(name for name, digest in expected.items() if found.get(name) != digest)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_SHA256 = re.compile(r"[0-9a-f]{64}")
FINGERPRINT = "captionloop.fingerprint"
CHECKSUMS = "captionloop.checksums"
ARTIFACTS = "captionloop.artifacts"
REPLACED = "captionloop.replaced"
ROLLED_BACK = "captionloop.rolled_back"
TRIAL = "captionloop.trial"
METRIC = "metric."
LINEAGE = "lineage."
GATE = "gate."


@dataclass(frozen=True)
class ModelVersion:
    """What the registry knows of one version."""

    name: str
    version: int
    fingerprint: str
    created: datetime
    source: str
    run_id: str
    aliases: tuple[str, ...] = ()
    checksums: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of every file of the bundle as it was registered."""
    artifacts: str = ""
    """Folder inside the run's artifacts that holds this version's `bundle/`, `evidence/` and `gate/`."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Point values as fractions: `{"CIDEr": 1.52, ...}`."""
    lineage: Mapping[str, str] = field(default_factory=dict)
    gate: Mapping[str, str] = field(default_factory=dict)
    """The last decision about this version: promoted, reason, champion, evaluation_set, interval."""
    replaced: int | None = None
    """The version that was champion before this one, to which a rollback returns."""
    rolled_back: str | None = None
    """When this version was rolled back, or None."""
    trial: str = ""
    """The plan by which it is, or was, tried beside the champion (`trials.py`), as JSON."""

    @property
    def is_champion(self) -> bool:
        """Whether this version is the one that is served."""
        return "champion" in self.aliases

    @property
    def passed_gate(self) -> bool | None:
        """The gate's decision, or None where this version was never brought to it."""
        return {"true": True, "false": False}.get(self.gate.get("promoted", ""))

    @property
    def reason(self) -> str:
        """The gate's reason as a plain sentence, empty where there was no decision."""
        return self.gate.get("reason", "")

    @property
    def learnt_until(self) -> str | None:
        """Up to which moment (ISO 8601) this version has learnt from people's ratings, or None: from none."""
        return self.lineage.get("feedback_until") or None

    @classmethod
    def from_mlflow(cls, found: "MlflowVersion") -> "ModelVersion":
        """What MLflow's tags say, typed."""
        tags: dict[str, str] = dict(found.tags)
        replaced = tags.get(REPLACED)
        return cls(
            name=found.name,
            version=int(found.version),
            fingerprint=_fingerprint(tags),
            created=datetime.fromtimestamp(found.creation_timestamp / 1000, tz=UTC),
            source=found.source or "",
            run_id=found.run_id or "",
            aliases=tuple(sorted(found.aliases)),
            checksums=json.loads(tags.get(CHECKSUMS, "{}")),
            artifacts=tags.get(ARTIFACTS, ""),
            metrics={name: float(value) for name, value in _with_prefix(tags, METRIC).items()},
            lineage=_with_prefix(tags, LINEAGE),
            gate=_with_prefix(tags, GATE),
            replaced=int(replaced) if replaced else None,
            rolled_back=tags.get(ROLLED_BACK),
            trial=tags.get(TRIAL, ""),
        )


_NOT_FOUND_CODES = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow says of a registered model that is not there, and of an alias that is not."""


def with_alias(client: "MlflowClient", name: str, alias: str) -> ModelVersion | None:
    """The version that an alias points to, or None: one request and one version, however many there are.

    Every model server asks this every few seconds.
    """
    from mlflow.exceptions import MlflowException

    try:
        return ModelVersion.from_mlflow(client.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        if error.error_code not in _NOT_FOUND_CODES:
            raise
    return None


def newest(client: "MlflowClient", name: str) -> ModelVersion | None:
    """The version of the highest number, without its aliases; None where there is none."""
    found = client.search_model_versions(f"name='{name}'", max_results=1, order_by=["version_number DESC"])
    return ModelVersion.from_mlflow(found[0]) if found else None


def description_tags(metrics: Mapping[str, float], lineage: Mapping[str, Any]) -> dict[str, str]:
    """Metrics and lineage as tags, which `ModelVersion.from_mlflow` reads back.

    Of the lineage only what is one word or number: the whole of it is in the bundle's `lineage.json`.
    """
    return {
        **{METRIC + key: repr(float(value)) for key, value in metrics.items()},
        **{LINEAGE + key: str(value) for key, value in lineage.items() if isinstance(value, str | int)},
    }


def decision_tags(decision: "GateDecision") -> dict[str, str]:
    """The gate's decision as tags, short enough for a list of versions."""
    tags = {
        "promoted": str(decision.promoted).lower(),
        "reason": decision.reason,
        "champion": decision.champion or "",
        "evaluation_set": decision.evaluation_set,
        "photos": str(decision.photos),
    }
    if decision.difference is not None:
        interval = decision.difference
        tags["difference"] = f"{interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
    return {GATE + key: value for key, value in tags.items()}


def _fingerprint(tags: Mapping[str, str]) -> str:
    """The fingerprint, empty where it is none: it becomes part of a folder's name, and whoever writes tags
    must not choose the folder.
    """
    value = tags.get(FINGERPRINT, "")
    return value if _SHA256.fullmatch(value) else ""


def _with_prefix(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): value for key, value in sorted(tags.items()) if key.startswith(prefix)}


BUNDLE = "bundle"
EVIDENCE = "evidence"
GATE_FOLDER = "gate"


def download_bundle(client: "MlflowClient", version: ModelVersion, folder: Path, signing: Signing) -> None:
    """Puts the version's bundle at `folder`, whole and checked file by file, or raises `RegistryError`.

    Where signatures are asked for, its own comes to lie beside it; what is not signed never lies there.
    """
    with _downloaded(client, version, BUNDLE, beside=folder) as partial:
        damaged = damaged_files(partial, version.checksums)
        if damaged:
            raise RegistryError(
                f"The artifacts of {version.name} version {version.version} are missing or damaged "
                f"({', '.join(damaged)} in {version.source}): use another version, or register this one again"
            )
        check_signature(client, version, partial, signing)
        replace_folder(partial, folder)
        if signing.trust_store is not None:
            signature_of(partial).replace(signature_of(folder))


def check_signature(client: "MlflowClient", version: ModelVersion, folder: Path, signing: Signing) -> None:
    """Where signatures are asked for, fetches that of the version's bundle at `folder` and puts it beside.

    Raises `SignatureError` unless it is a trusted key's, of this very bundle.
    """
    if signing.trust_store is None:
        return
    beside = signature_of(folder)
    called = f"{version.name} version {version.version}"
    with files.beside(beside) as place:
        fetched = place / SIGNATURE
        with tracking.readable_errors(f"fetch the signature of {called}"):
            known = [each.path for each in client.list_artifacts(version.run_id, version.artifacts)]
            if f"{version.artifacts}/{SIGNATURE}" in known:
                path = f"{version.artifacts}/{SIGNATURE}"
                fetched = Path(client.download_artifacts(version.run_id, path, str(place)))
        signing.check(folder, fetched, called)
        fetched.replace(beside)


def download_evidence(client: "MlflowClient", version: ModelVersion, folder: Path) -> bool:
    """Puts at `folder` what was kept beside the version's bundle; False where there is nothing."""
    # Asked first, because what a download of nothing is depends on the store: an error, or an empty folder.
    with tracking.readable_errors(f"look for the {EVIDENCE} of {version.name} version {version.version}"):
        if not client.list_artifacts(version.run_id, f"{version.artifacts}/{EVIDENCE}"):
            return False
    with _downloaded(client, version, EVIDENCE, beside=folder) as partial:
        replace_folder(partial, folder)
        return True


@contextmanager
def _downloaded(client: "MlflowClient", version: ModelVersion, part: str, beside: Path) -> Iterator[Path]:
    """A part of a version's artifacts in a temporary folder on the same file system as `beside`."""
    with files.beside(beside) as folder:
        with tracking.readable_errors(f"fetch the {part} of {version.name} version {version.version}"):
            place = client.download_artifacts(version.run_id, f"{version.artifacts}/{part}", str(folder))
        yield Path(place)
