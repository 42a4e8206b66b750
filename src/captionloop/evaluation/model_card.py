"""The model card of a captioner (Mitchell et al. 2019): facts about this model, not what holds for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from captionloop.captioner.model_config import DecodingOptions
from captionloop.evaluation.calibration import Acceptance, CalibrationReport
from captionloop.evaluation.evaluation_set import EvaluationSet
from captionloop.evaluation.latency import Latency
from captionloop.scoring.scores import METRICS, left_out
from captionloop.tokenizer import word_tokens

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Captioner
    from captionloop.vision.encoder import EncoderSpec


@dataclass(frozen=True)
class TrainingData:
    """What a captioner was trained on, in numbers.

    Attributes:
        photos, captions: each counted once, however often it was shown.
        corrections: those of the captions that users wrote in the place of a caption.
        words: how often each word is in the captions.
        feedback_photos: SHA-256 of the photos that came with feedback.
        held_out_photos: SHA-256 of those that came with feedback and were held out from training.
    """

    corpus: str
    photos: int
    captions: int
    corrections: int
    words: Mapping[str, int] = field(default_factory=dict)
    feedback_photos: Sequence[str] = ()
    held_out_photos: Sequence[str] = ()


def model_card(
    captioner: "Captioner",
    evaluation: Mapping[str, Any],
    *,
    calibration: CalibrationReport,
    latency: Latency,
    machine: str,
    data: TrainingData,
    missing: Sequence[tuple[str, int]],
) -> str:
    """The card as Markdown.

    Args:
        captioner: what it is about.
        evaluation: `evaluation.json`.
        calibration: of this captioner.
        latency: of its own decoding, on `machine`.
        machine: in words.
        data: what it learnt from.
        missing: `missing_words`.
    """
    metrics = evaluation["models"][captioner.name]
    sections = [
        f"# {captioner.name}",
        _description(captioner),
        "## Training data",
        _data(data),
        f"## Quality on `{evaluation['split']}` ({evaluation['photos']:,} photos)",
        _quality(metrics, left_out(captioner.tokenizer.language)),
        "## Confidence",
        confidence_section(calibration),
        "## Speed",
        f"On {machine}: one photo from its bytes to its caption in {latency.p50_ms:.0f} ms (median; 95th"
        f" percentile {latency.p95_ms:.0f} ms); {latency.from_photos_per_second:.0f} photos/s in batches.",
        "## Limits",
        _limits(captioner, metrics, missing),
        "## Lineage",
        _lineage(captioner.lineage),
    ]
    return "\n\n".join(sections) + "\n"


def missing_words(
    captions: Mapping[str, str], photos: EvaluationSet, limit: int = 12
) -> list[tuple[str, int]]:
    """The words most often in references, by photo, that no caption has at all."""
    used_words = {
        word for caption in captions.values() for word in word_tokens(caption, photos.reference_language)
    }
    counts: dict[str, int] = {}
    for references in photos.references.values():
        for word in {
            word for reference in references for word in word_tokens(reference, photos.reference_language)
        } - used_words:
            counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]


def _description(captioner: "Captioner") -> str:
    decoding, language = captioner.decoding, captioner.tokenizer.language
    length = "words" if language.is_spaced else "characters"
    return (
        f"Captions photos in {language.name}. {captioner.describe()}"
        f" Searches with {decoding.method} {decoding.beam_width}, at most {decoding.max_length} {length}"
        f"{_ranking(decoding)}."
    )


def _ranking(decoding: DecodingOptions) -> str:
    if decoding.consensus is None:
        return ""
    return (
        ", and says what agrees best, of all that was found, with the captions of the"
        f" {decoding.consensus.neighbours} training photos that look most like the photo"
    )


def _data(data: TrainingData) -> str:
    corrections = f", {data.corrections:,} of them corrections by users" if data.corrections else ""
    return f"{data.photos:,} photos of `{data.corpus}` with {data.captions:,} captions{corrections}."


def _quality(metrics: Mapping[str, Mapping[str, float]], absent: Sequence[str]) -> str:
    rows = [
        f"| {metric} | {100 * found['value']:.1f} | {100 * found['low']:.1f} to {100 * found['high']:.1f} |"
        for metric, found in metrics.items()
        if metric in METRICS
    ]
    note = [f"\nNot computed: {', '.join(absent)}, which is of English only."] if absent else []
    return "\n".join(["| x100 | value | 95 % interval |", "|---|---:|---:|", *rows, *note])


def confidence_section(report: CalibrationReport) -> str:
    """The card's paragraph on confidences: what they mean, and their calibration error."""
    return (
        f"A word counts as right when a person's caption of the photo has it. Of {report.words:,} words about"
        f" {report.photos:,} photos of `{report.split}`, {100 * report.right:.0f} % are right. The expected"
        f" calibration error is {100 * report.error_before:.1f} points for the decoder's own probabilities,"
        f" {100 * report.error_after:.1f} after {report.method} calibration, on photos held out from the fit."
        " The bundle carries the calibration, and the confidences it gives are calibrated."
        + ("" if report.acceptance is None else f"\n\n{_acceptance(report.acceptance)}")
    )


def _acceptance(found: Acceptance) -> str:
    rated = (
        f" {found.ratings:,} captions that people rated have the last word: the curve is off by"
        f" {100 * (found.ratings_after or 0):.1f} points on these, by references alone it would be by"
        f" {100 * (found.ratings_before or 0):.1f}."
        if found.ratings
        else ""
    )
    return (
        f"Of {found.captions:,} captions {100 * found.share:.0f} % are as good as what people say; a"
        " caption's confidence is how often such captions are, and is off by"
        f" {100 * found.error_after:.1f} points on photos held out from the fit.{rated} Of photos that look"
        " unlike what it learnt from its confidences tell nothing, and it says so."
    )


def _limits(
    captioner: "Captioner", metrics: Mapping[str, Mapping[str, float]], missing: Sequence[tuple[str, int]]
) -> str:
    lines = [
        f"- It says {metrics['distinct_words']['value']:.0f} different words about these photos,"
        f" {100 * metrics['vocabulary_used']['value']:.0f} % of its vocabulary;"
        f" {100 * (1 - metrics['unseen']['value']):.0f} % of its captions are training captions, unchanged.",
        _field_of_view(captioner.encoder.spec),
    ]
    if missing:
        words = ", ".join(f"{word} ({count})" for word, count in missing)
        lines.append(f"- People's words that it never says, with the number of photos: {words}.")
    return "\n".join(lines)


def _field_of_view(spec: "EncoderSpec") -> str:
    if spec.preprocessing.sees_everything:
        return f"- The whole photo is squashed to {spec.input_size} px: small things are lost."
    return (
        f"- It sees a square of {spec.input_size} px of the photo ({spec.preprocessing.crop} crop,"
        f" {100 * spec.preprocessing.share:.0f} %): what lies outside is not seen, small things are lost."
    )


def _lineage(lineage: Mapping[str, Any]) -> str:
    if not lineage:
        return "Not recorded."
    facts = [
        f"- {key.replace('_', ' ')}: `{value}`"
        for key, value in sorted(lineage.items())
        if value is not None and not isinstance(value, Mapping)
    ]
    return "\n".join([*facts, "\nThe options of the training are in `lineage.json`."])
