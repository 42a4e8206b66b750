"""Looking at the photos that were rated: are they in the archive, and can they be learnt from?"""

import pandas as pd

from captionloop.corpus.inspection import PhotoState, inspect_photo
from captionloop.corpus.photos import PhotoFolder
from captionloop.feedback.archive import archive_uri
from captionloop.feedback.parameters import FeedbackParameters


def inspect_rated_photos(
    ratings: pd.DataFrame, archive: PhotoFolder, parameters: FeedbackParameters
) -> pd.DataFrame:
    """One row for each photo of `ratings`: `sha256`, `width`, `height` (px), `good`, `missing`, `detail`.

    A photo is good where its bytes are those of its name, and can be decoded, and it is neither too large
    nor too small.
    """
    rows = []
    for sha256 in sorted(set(ratings["image_id"])):
        facts = inspect_photo(archive, archive_uri(sha256), parameters.photo)
        sound = facts.state == PhotoState.GOOD and facts.sha256 == sha256
        large = min(facts.width, facts.height) >= parameters.min_side
        detail = facts.detail or ("" if facts.sha256 == sha256 else "its bytes do not match its name")
        rows.append(
            {
                "sha256": sha256,
                "width": facts.width,
                "height": facts.height,
                "good": sound and large,
                "missing": facts.state == PhotoState.MISSING,
                "detail": detail or ("" if large else "too small"),
            }
        )
    columns = {
        "sha256": "str",
        "width": "int64",
        "height": "int64",
        "good": "bool",
        "missing": "bool",
        "detail": "str",
    }
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)
