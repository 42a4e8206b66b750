"""A raw corpus in; the canonical tables of valid rows, the quarantine and a report out."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pandas as pd

from captionloop.corpus.expectations import DUPLICATE_REASONS, CorpusIssue, CorpusRules, suites
from captionloop.corpus.gx_runner import ROW, ExpectationRunner, Finding, self_contained
from captionloop.corpus.photo_checks import (
    Duplicates,
    PhotoFacts,
    PhotoState,
    find_duplicates,
    lost_to_duplicates,
    mark_duplicates,
)
from captionloop.corpus.tables import CAPTIONS, IMAGES, QUARANTINE, SPLITS, RawCorpus, table
from captionloop.languages import ENGLISH, Language
from captionloop.paths import printable
from captionloop.photos import found_names, similar_names
from captionloop.tokenizer import length_in_words

_LETTER: Final = re.compile(r"[^\W\d_]")
_MAX_PAIRS: Final = 100


@dataclass(frozen=True)
class Validated:
    """The three tables, the report (JSON), and the pages of the Data Docs by path."""

    images: pd.DataFrame
    captions: pd.DataFrame
    quarantine: pd.DataFrame
    report: dict[str, Any]
    pages: Mapping[str, bytes]


def validate(
    corpus: RawCorpus,
    facts: Sequence[PhotoFacts],
    photo_names: Sequence[str],
    rules: CorpusRules,
    language: Language = ENGLISH,
) -> Validated:
    """Checks a corpus by the suites of `expectations` and sorts its rows.

    Photos come first, then captions, then what takes both: too few captions, the same photo twice. A row has
    one reason, the first that it gives. Nothing that was read is lost: it is released or in quarantine.

    `facts` are those of the photo of each row of `corpus.images`, in their order. `photo_names` are all files
    in the photo folder: they tell a photo that does not exist from one that is in no split. `language` is
    that of the captions.
    """
    with ExpectationRunner() as runner:
        tables, report = sort_rows(runner, corpus, facts, photo_names, rules, language=language)
        pages = runner.pages()
    return Validated(*tables, report, self_contained(pages, report))


def sort_rows(
    runner: ExpectationRunner,
    corpus: RawCorpus,
    facts: Sequence[PhotoFacts],
    photo_names: Sequence[str],
    rules: CorpusRules,
    *,
    language: Language = ENGLISH,
) -> tuple[tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame], dict[str, Any]]:
    """The tables of images, captions and quarantine, and the report, of what `validate` takes."""
    spelt = found_names(corpus.images["uri"], photo_names)
    corpus = RawCorpus(
        corpus.images.assign(uri=pd.Series(spelt, corpus.images.index, "str")), corpus.captions
    )
    suite_of = suites(rules)
    photos = _photo_columns(corpus.images, facts, photo_names)
    images, bad_photos = _sort_out(photos, runner.run(suite_of["photos"], photos))
    texts = _caption_columns(corpus, images, photo_names, language)
    captions, bad_captions = _sort_out(texts, runner.run(suite_of["captions"], texts))
    duplicates = find_duplicates([facts[row] for row in images[ROW]], rules.similarity)
    together = _corpus_columns(images, captions, duplicates)
    kept, bad_images = _sort_out(together, runner.run(suite_of["corpus"], together))
    captions, orphans = _without_images(captions, kept)
    released_images, released_captions = table(kept, IMAGES), table(captions, CAPTIONS)
    if len(released_images):
        runner.run(suite_of["released_images"], released_images)
        runner.run(suite_of["released_captions"], released_captions)
    quarantine = pd.concat(
        [
            _rejected(bad_photos, "image"),
            _rejected(bad_images, "image"),
            _rejected(bad_captions, "caption"),
            _rejected(orphans, "caption"),
        ],
        ignore_index=True,
    )
    report = {
        "read": {"images": len(corpus.images), "captions": len(corpus.captions)},
        "released": _sizes(released_images, released_captions),
        "quarantine": _reasons(quarantine),
        "photos_that_no_image_names": len(set(photo_names) - set(corpus.images["uri"])),
        "same_photo": _same_photo(images, duplicates)
        | {
            "lost": lost_to_duplicates(images, kept, bad_images[bad_images["reason"].isin(DUPLICATE_REASONS)])
        },
        "expectations": [_finding_json(finding) for finding in runner.findings],
    }
    return (released_images, released_captions, table(quarantine, QUARANTINE)), report


def _photo_columns(
    images: pd.DataFrame, facts: Sequence[PhotoFacts], photo_names: Sequence[str]
) -> pd.DataFrame:
    """One row per image as read, with what was found in its photo's place."""
    states = pd.Series([fact.state for fact in facts], index=images.index, dtype=object)
    good = states == PhotoState.GOOD
    meant = similar_names(images.loc[states == PhotoState.MISSING, "uri"], photo_names)
    width = pd.Series([fact.width for fact in facts], index=images.index, dtype="int64")
    height = pd.Series([fact.height for fact in facts], index=images.index, dtype="int64")
    return images.assign(
        **{ROW: range(len(images))},
        sha256=[fact.sha256 for fact in facts],
        width=width,
        height=height,
        # Null where there is nothing to measure: Great Expectations then leaves the row to the rules before.
        shorter_side=width.where(width <= height, height).where(good),
        longer_side=width.where(width >= height, height).where(good),
        occurrence=images.groupby("image_id").cumcount(),
        ambiguous=images.groupby("image_id")["uri"].transform("nunique") > 1,
        missing=states == PhotoState.MISSING,
        too_heavy=states == PhotoState.TOO_HEAVY,
        too_many_pixels=states == PhotoState.TOO_MANY_PIXELS,
        undecodable=states == PhotoState.UNDECODABLE,
        detail=[
            (fact.detail or f"{fact.width} x {fact.height} px")
            + (f" (did you mean {meant[uri]}?)" if uri in meant else "")
            for uri, fact in zip(images["uri"], facts, strict=True)
        ],
    )


def _caption_columns(
    corpus: RawCorpus, good_images: pd.DataFrame, photo_names: Sequence[str], language: Language
) -> pd.DataFrame:
    """One row per caption as read, with what its text is like and what became of its image."""
    captions = corpus.captions
    listed = captions["image_id"].isin(corpus.images["image_id"])
    uris = corpus.images.drop_duplicates("image_id").set_index("image_id")["uri"]
    texts = [_normalised(text) for text in captions["text"]]
    return captions.assign(
        **{ROW: range(len(captions))},
        text=texts,
        uri=captions["image_id"].map(uris).fillna(""),
        photo_exists=listed | captions["image_id"].isin(photo_names),
        image_listed=listed,
        image_good=captions["image_id"].isin(good_images["image_id"]),
        occurrence=captions.groupby("caption_id").cumcount(),
        repeated=captions.get("repeated", False),
        empty=[not text for text in texts],
        is_text=[_is_text(text) for text in captions["text"]],
        words=[_length(text, language) for text in texts],
        characters=[len(text) for text in texts],
        detail=texts,
    )


def _length(text: str, language: Language) -> int:
    """How many words a caption has; about how many, where people put no spaces between them."""
    return len(text.split()) if language.is_spaced else length_in_words(text, language)


def _normalised(text: object) -> str:
    """The text in one line, single spaces, composed Unicode; what is not text, as it would be printed."""
    if text is None or text != text:  # noqa: PLR0124 - NaN
        return ""
    return printable(" ".join(unicodedata.normalize("NFC", str(text)).split()))


def _is_text(text: object) -> bool:
    """Whether it is a string of printable characters with a letter among them."""
    if not isinstance(text, str) or not _LETTER.search(text):
        return False
    return not any(
        unicodedata.category(c) in {"Cc", "Cs", "Co", "Cn"} or c == "\ufffd" for c in " ".join(text.split())
    )


def _corpus_columns(
    images: pd.DataFrame, captions: pd.DataFrame, duplicates: Sequence[Duplicates]
) -> pd.DataFrame:
    counts = images["image_id"].map(captions["image_id"].value_counts()).fillna(0).astype("int64")
    marked = mark_duplicates(images, duplicates)
    duplicate_of = [
        elsewhere or here
        for elsewhere, here in zip(marked["duplicate_elsewhere"], marked["duplicate_here"], strict=True)
    ]
    detail = [
        f"as {duplicate}" if duplicate else f"{count} captions"
        for duplicate, count in zip(duplicate_of, counts, strict=True)
    ]
    return marked.assign(captions=counts, detail=detail)


def _sort_out(rows: pd.DataFrame, findings: Sequence[Finding]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that break no rule, and those that do with the `reason` of the first one they break."""
    reasons: dict[int, str] = {}
    for finding in findings:
        for row in finding.rows:
            reasons.setdefault(row, finding.reason)
    reason = rows[ROW].map(reasons)
    return rows[reason.isna()], rows[reason.notna()].assign(reason=reason[reason.notna()])


def _without_images(captions: pd.DataFrame, images: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    has = captions["image_id"].isin(images["image_id"])
    return captions[has], captions[~has].assign(reason=CorpusIssue.IMAGE_REJECTED)


def _rejected(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Rows of the quarantine table; an image's `text` says more about its reason."""
    rejected = rows.assign(kind=kind, id=rows[f"{kind}_id"], text=rows["detail"])
    return table(rejected, QUARANTINE)


def _sizes(images: pd.DataFrame, captions: pd.DataFrame) -> dict[str, Any]:
    split_of = captions["image_id"].map(images.set_index("image_id")["split"])
    per_image = captions["image_id"].value_counts()
    return {
        "images": {split: int((images["split"] == split).sum()) for split in SPLITS},
        "captions": {split: int((split_of == split).sum()) for split in SPLITS},
        "captions_per_image": {
            "least": int(per_image.min()) if len(per_image) else 0,
            "most": int(per_image.max()) if len(per_image) else 0,
        },
    }


def _reasons(quarantine: pd.DataFrame) -> dict[str, dict[str, int]]:
    counts = {}
    for kind in ("image", "caption"):
        of_kind = quarantine.loc[quarantine["kind"] == kind, "reason"].value_counts()
        counts[kind] = {str(reason): int(count) for reason, count in sorted(of_kind.items())}
    return counts


def _same_photo(images: pd.DataFrame, duplicates: Sequence[Duplicates]) -> dict[str, Any]:
    ids, splits, hashes = (images[column].tolist() for column in ("image_id", "split", "sha256"))
    pairs = [
        {
            "images": [ids[pair.first], ids[pair.second]],
            "splits": [splits[pair.first], splits[pair.second]],
            "same_bytes": hashes[pair.first] == hashes[pair.second],
        }
        | ({"mirrored": True} if pair.mirrored else {})
        for pair in duplicates
    ]
    across = sum(splits[pair.first] != splits[pair.second] for pair in duplicates)
    return {"in_two_splits": across, "in_one_split": len(pairs) - across, "pairs": pairs[:_MAX_PAIRS]}


def _finding_json(finding: Finding) -> dict[str, Any]:
    fields = asdict(finding)
    return fields | {"rows": len(finding.rows)}
