"""A candidate with its evaluation in; the comparison with the champion, and an entry in the registry, out."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from captionloop.evaluation.calibration import CalibrationReport, as_calibration
from captionloop.evaluation.evaluation_set import ImageTextParameters
from captionloop.photos import PhotoFolder
from captionloop.registry.anchor import find_anchor, stored_captions
from captionloop.registry.gate import GateDecision, GateParameters
from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.model_version import ModelVersion, fingerprint
from captionloop.registry.scored_captions import EvaluationCaptions, save_training_data
from captionloop.scoring.scores import METRICS

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner
    from captionloop.vision.embedding import Familiarity


class RegistrationParameters(BaseModel):
    """All of `params:registration`.

    Attributes:
        model: which of the trained captioners is the candidate.
        timed_photos: captioned by candidate and champion in turn, to compare their speed.
        image_text: a pair of models that tells how well captions go with their photos; None: nobody is asked.
        gate: how the gate decides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "show_attend_tell"
    timed_photos: int = Field(default=20, ge=1)
    image_text: ImageTextParameters | None = None
    gate: GateParameters = GateParameters()


BATCH = 32


class EncodedPhotos(Mapping[str, bytes]):
    """Photos by image id, each read from its folder when it is asked for."""

    def __init__(self, folder: PhotoFolder, uris: Mapping[str, str]) -> None:
        self._folder = folder
        self._uris = uris

    def __getitem__(self, image_id: str) -> bytes:
        return self._folder.read(self._uris[image_id])

    def __iter__(self) -> Iterator[str]:
        return iter(self._uris)

    def __len__(self) -> int:
        return len(self._uris)


class ChampionComparison(BaseModel):
    """The champion that a candidate is compared with: its captions, speed, and the anchor's captions.

    Attributes:
        version: of the champion; None where there is none, and the candidate is to be the first.
        evaluation_set: which photos and references `captions` belong to.
        captions: what the champion says about each photo of the evaluation set.
        champion_seconds: median from photo to caption, in turn with the candidate on the same photos.
        candidate_seconds: the candidate's.
        rolled_back: when the candidate itself had been rolled back, if it ever was.
        anchor: the best version served so far on the evaluation set, where that is not the champion.
        anchor_captions: what it says about each photo.
        anchor_note: for people, where there is no anchor.
        decisions: that were made on the evaluation set before this one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int | None = None
    evaluation_set: str = ""
    captions: dict[str, str] = {}
    champion_seconds: float | None = None
    candidate_seconds: float | None = None
    rolled_back: str | None = None
    anchor: int | None = None
    anchor_captions: dict[str, str] = {}
    anchor_note: str = ""
    decisions: int = 0


def compare_with_champion(
    registry: ModelRegistry,
    candidate: "Captioner",
    photos: Mapping[str, bytes],
    evaluation_set: str,
    timed: int,
) -> ChampionComparison:
    """Finds the champion, and has it caption the evaluation set unless it has done so before.

    Args:
        registry: where the champion is.
        candidate: who challenges it.
        photos: the evaluation set, encoded, by image id; read only as far as they are needed.
        evaluation_set: its hash.
        timed: how many of the photos both caption, in turn, for their speed.

    Raises:
        RegistryError: the champion's artifacts are missing or damaged.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        candidate.save(folder / "candidate")
        known = registry.with_fingerprint(fingerprint(folder / "candidate"))
        rolled_back = known.rolled_back if known else None
        version = comparison_version(registry, known)
        decisions = count_decisions_on(registry, evaluation_set, known)
        if version is None:
            return ChampionComparison(rolled_back=rolled_back, decisions=decisions)
        champion = _loaded(registry, version, folder / "champion")
        champion_seconds, candidate_seconds = seconds_per_photo(
            [champion, candidate], [photos[image_id] for image_id in list(photos)[:timed]]
        )
        stored = stored_captions(registry, version, folder / "evidence", evaluation_set)
        anchor = find_anchor(registry, version, evaluation_set, folder / "anchor")
        return ChampionComparison(
            version=version.version,
            evaluation_set=evaluation_set,
            captions=stored or caption_all(champion, photos),
            champion_seconds=champion_seconds,
            candidate_seconds=candidate_seconds,
            rolled_back=rolled_back,
            anchor=anchor.version,
            anchor_captions=dict(anchor.captions),
            anchor_note=anchor.note,
            decisions=decisions,
        )


def comparison_version(registry: ModelRegistry, candidate: ModelVersion | None) -> ModelVersion | None:
    """The version that the candidate must not be worse than.

    It is the champion; for a candidate that is the champion already (its registration was repeated), the one
    that it replaced, so that the decision comes out as it did before.
    """
    champion = registry.champion()
    if champion is None or candidate is None or champion.version != candidate.version:
        return champion
    return None if champion.replaced is None else registry.version(champion.replaced)


def count_decisions_on(registry: ModelRegistry, evaluation_set: str, candidate: ModelVersion | None) -> int:
    """How many versions were brought to the gate on an evaluation set, but for the candidate itself."""
    own = candidate.version if candidate else None
    return sum(
        version.gate.get("evaluation_set") == evaluation_set
        for version in registry.versions()
        if version.version != own
    )


def caption_all(captioner: "Captioner", photos: Mapping[str, bytes]) -> dict[str, str]:
    """The captions of all photos by a captioner, by image id."""
    image_ids, captions = list(photos), []
    for start in range(0, len(image_ids), BATCH):
        batch = [photos[image_id] for image_id in image_ids[start : start + BATCH]]
        captions += [captioned.best.text for captioned in captioner.caption(batch)]
    return dict(zip(image_ids, captions, strict=True))


def seconds_per_photo(captioners: Sequence["Captioner"], photos: Sequence[bytes]) -> list[float]:
    """Median time from photo to caption of each captioner, taken in turn so that all see the same load."""
    for captioner in captioners:
        captioner.caption(photos[:1])  # makes the encoder's runtime, and warms the caches
    seconds: list[list[float]] = [[] for _ in captioners]
    for photo in photos:
        for captioner, times in zip(captioners, seconds, strict=True):
            start = perf_counter()
            captioner.caption([photo])
            times.append(perf_counter() - start)
    return [median(times) for times in seconds]


def _loaded(registry: ModelRegistry, version: ModelVersion, folder: Path) -> "Captioner":
    from captionloop.captioner.captioner import Captioner

    return Captioner.load(registry.fetch(version.version, folder))


def register_version(
    registry: ModelRegistry,
    candidate: "Captioner",
    captions: EvaluationCaptions,
    decision: GateDecision,
    report: str,
    *,
    training_data: Mapping[str, Any] | None = None,
    promote: bool = True,
) -> ModelVersion:
    """Registers the candidate with its captions and the gate's decision, and promotes it if that says so.

    `training_data`, what it was trained on, is kept beside it: what is served later is compared with that.
    With `promote=False` it stays the challenger, for somebody else to promote.
    Raises `RegistryError` where another version became champion since the gate compared the two.

    Repeated after being killed anywhere, it ends in the same state.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        candidate.save(folder / "bundle")
        captions.save(folder / "evidence")
        if training_data is not None:
            save_training_data(training_data, folder / "evidence")
        version = registry.register(
            folder / "bundle",
            evidence=folder / "evidence",
            metrics=_point_values(candidate.metrics),
            lineage={"model": candidate.name, **candidate.lineage},
        )
    registry.record_decision(version.version, decision, report)
    if decision.promoted and promote:
        registry.promote_gated(version.version, check_files=False)
    return registry.version(version.version)


def _point_values(metrics: dict[str, Any]) -> dict[str, float]:
    """`{metric: value}` from a bundle's `metrics.json`, whose metrics have intervals."""
    return {name: float(metrics[name]["value"]) for name in METRICS if name in metrics}


def with_evaluation(
    captioner: "Captioner",
    evaluation: Mapping[str, Any],
    card: str,
    calibration: CalibrationReport | Mapping[str, Any],
    familiarity: "Familiarity | None" = None,
) -> "Captioner":
    """The same captioner with its metrics, model card, calibration and familiarity, ready to be saved as the
    bundle to register.

    Args:
        captioner: as trained.
        evaluation: the whole of `evaluation.json`; the captioner's own rows are kept.
        card: `<model>.card`.
        calibration: `<model>.calibration`.
        familiarity: what it learnt from (`learn_familiarity`).
    """
    report = CalibrationReport.model_validate(calibration)
    name = captioner.name
    metrics = {
        **captioner.metrics,
        "split": evaluation["split"],
        "photos": evaluation["photos"],
        **evaluation["models"][name],
        "calibration_error": {"before": report.error_before, "after": report.error_after},
    }
    return replace(
        captioner,
        metrics=metrics,
        card=card,
        calibration=as_calibration(report),
        familiarity=familiarity,
    )
