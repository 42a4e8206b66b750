"""What served traffic is compared with: some training photos, and the evaluation set as captioned."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from captionloop.corpus.photos import PhotoFolder
from captionloop.errors import CorpusError, ImageError
from captionloop.evaluation.drift import DriftParameters, Traffic
from captionloop.evaluation.split import EvaluationSet
from captionloop.language.words import words_of
from captionloop.vision.embedding import SIZE, embed

if TYPE_CHECKING:
    from captionloop.captioner.captioner import Caption, Captioner

BATCH = 32


def reference_traffic(
    captioner: "Captioner",
    images: pd.DataFrame,
    evaluated: EvaluationSet,
    photos: PhotoFolder,
    parameters: DriftParameters,
) -> Traffic:
    """Embeddings of training photos; confidences, lengths and references of photos held out from training.

    Confidences are those of the captioner as it is served: on photos it has learnt by heart they would be too
    high to be compared with.
    """
    train = images.loc[(images["split"] == "train") & (images["source"] == "corpus"), "uri"]
    chosen = train.sample(min(parameters.reference_photos, len(train)), random_state=parameters.seed)
    shown = list(zip(evaluated.image_ids, evaluated.uris, strict=True))[: parameters.reference_photos]
    said = [
        captioned.best
        for start in range(0, len(shown), BATCH)
        for captioned in captioner.caption([photos.read(uri) for _, uri in shown[start : start + BATCH]])
    ]
    return Traffic(
        embeddings=_embedded(captioner, photos, [str(uri) for uri in chosen]),
        confidences=np.array([caption.confidence for caption in said], np.float64),
        lengths=_lengths(captioner, said),
        texts=tuple(text for image_id, _ in shown for text in evaluated.references[image_id]),
    )


def feedback_traffic(
    captioner: "Captioner",
    taught: Sequence[str],
    held_out: Sequence[str],
    archive: PhotoFolder,
    parameters: DriftParameters,
) -> Traffic:
    """Embeddings of taught photos of the feedback; confidences and lengths of what is said of others.

    Those others are the photos that were held out. Where they are too few to tell, it is the taught ones: the
    captions are as long, and more confident, so that captions that are less so still stand out.
    """
    known = captioner.caption_arrays(_squares(captioner, taught, archive, parameters))
    tried = captioner.caption_arrays(_squares(captioner, held_out, archive, parameters))
    looks = [one.embedding for one in known if one.embedding is not None]
    said = [one.best for one in (tried if len(tried) >= parameters.limits.fewest else known)]
    return Traffic(
        embeddings=np.stack(looks) if looks else np.zeros((0, SIZE), np.float32),
        confidences=np.array([caption.confidence for caption in said], np.float64),
        lengths=_lengths(captioner, said),
    )


def _lengths(captioner: "Captioner", said: "Sequence[Caption]") -> NDArray[np.float64]:
    language = captioner.tokenizer.language
    return np.array([len(words_of(caption.text, language)) for caption in said], np.float64)


def _squares(
    captioner: "Captioner", uris: Sequence[str], archive: PhotoFolder, parameters: DriftParameters
) -> NDArray[np.uint8]:
    """Prepared photos `[n, S, S, 3]`, some of them where there are many.

    Those whose retention has ended are not in the archive any more, and left out.
    """
    squares: list[NDArray[np.uint8]] = []
    for uri in np.random.default_rng(parameters.seed).permutation(np.array(uris, dtype=object)):
        if len(squares) == parameters.reference_photos:
            break
        try:
            squares.append(captioner.prepare(archive.read(uri)))
        except (CorpusError, ImageError):
            continue
    return np.stack(squares) if squares else np.zeros((0, 1, 1, 3), np.uint8)


def _embedded(captioner: "Captioner", photos: PhotoFolder, uris: Sequence[str]) -> NDArray[np.float32]:
    return np.concatenate(
        [
            _looks(captioner, [captioner.prepare(photos.read(uri)) for uri in uris[start : start + BATCH]])
            for start in range(0, len(uris), BATCH)
        ]
    )


def _looks(captioner: "Captioner", squares: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    import torch

    grids = torch.as_tensor(captioner.runtime.encode(np.stack(squares)))
    return embed(grids.float().mean(1).cpu().numpy())
