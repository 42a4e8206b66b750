"""One version of the captioner in the registry, and the tags in which MLflow keeps what we know of it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

    from captionloop.registry.gate import GateDecision

_SHA256 = re.compile(r"[0-9a-f]{64}")
FINGERPRINT = "captionloop.fingerprint"
CHECKSUMS = "captionloop.checksums"
ARTIFACTS = "captionloop.artifacts"
REPLACED = "captionloop.replaced"
ROLLED_BACK = "captionloop.rolled_back"
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
        )


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
    told = tags.get(FINGERPRINT, "")
    return told if _SHA256.fullmatch(told) else ""


def _with_prefix(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): value for key, value in sorted(tags.items()) if key.startswith(prefix)}
