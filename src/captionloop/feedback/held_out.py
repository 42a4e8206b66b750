"""Fresh feedback as an evaluation set: photos that never enter training, their corrections as references."""

import pandas as pd

from captionloop.evaluation.split import EvaluationSet
from captionloop.feedback.archive import archive_uri
from captionloop.language.languages import ENGLISH, Language

SPLIT = "feedback"


def held_out_set(corrections: pd.DataFrame, photos: int, language: Language = ENGLISH) -> EvaluationSet:
    """The newest `photos` photos that were corrected (columns of `REFERENCES`), ordered by their ids."""
    number = corrections["ratings"].astype("int64")
    newest = number.groupby(corrections["image_id"]).max().sort_values(ascending=False).index[:photos]
    references = {
        str(image_id): list(texts)
        for image_id, texts in corrections.sort_values("caption_id").groupby("image_id")["text"]
        if image_id in set(newest)
    }
    sha256s = [image_id.rsplit("-", 1)[1] for image_id in references]
    return EvaluationSet(
        split=SPLIT,
        image_ids=tuple(references),
        uris=tuple(map(archive_uri, sha256s)),
        sha256s=tuple(sha256s),
        references=references,
        language=language.code,
    )
