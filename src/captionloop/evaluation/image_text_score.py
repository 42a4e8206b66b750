"""Reference-free image-text scores: photos and captions in, a score for each pair out.

CLIPScore (Hessel et al. 2021, "CLIPScore: A Reference-free Evaluation Metric for Image Captioning", eq. 1):
2.5 * max(cos(photo, caption), 0), by any image-text pair of transformers (CLIP, SigLIP, ...). It sees what
n-gram metrics cannot, a right caption in other words, and has weaknesses of its own (numbers, word order,
people's names for things): a column beside CIDEr and a guardrail, never what decides.

The cosine is our own and not torchmetrics' `CLIPScore`: that one loads a model without a pinned revision and
from any file format, and gives the mean alone, where intervals and the gate need every photo's value.
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from captionloop.errors import ConfigurationError, in_a_line
from captionloop.evaluation.evaluation_set import ImageTextParameters
from captionloop.progress import progress

WEIGHT: Final = 2.5
Values = NDArray[np.float64]


class ImageTextScorer:
    """Scores photos and captions with a pretrained pair of image and text encoders.

    Raises:
        ConfigurationError: transformers is not installed, the model is not there, or is no such pair.
    """

    def __init__(self, parameters: ImageTextParameters) -> None:
        if importlib.util.find_spec("transformers") is None:
            raise ConfigurationError(
                f"a score by '{parameters.model}' needs transformers, which is not installed;"
                " install captionloop[transformers]"
            )
        self._parameters = parameters
        self._model, self._processor = _loaded(parameters.model)

    def scores(
        self,
        image_ids: Sequence[str],
        read: Callable[[str], bytes],
        systems: Mapping[str, Mapping[str, str]],
    ) -> dict[str, Values]:
        """For each system the score of its caption of each photo, in the order of `image_ids`.

        `read` gives a photo's bytes by its image id; each photo is looked at once for all systems.
        """
        texts = {name: [captions[image_id] for image_id in image_ids] for name, captions in systems.items()}
        found: dict[str, list[Values]] = {name: [] for name in systems}
        with progress("Comparing captions with their photos", len(image_ids), "photos") as advance:
            for start, ids in self._batches(image_ids):
                photos = self._photos([read(image_id) for image_id in ids])
                for name, system_captions in texts.items():
                    captions = self._captions(system_captions[start : start + len(ids)])
                    found[name].append(WEIGHT * (photos * captions).sum(1).clip(0))
                advance(len(ids))
        return {name: np.concatenate([np.empty(0), *values]) for name, values in found.items()}

    def of_photos(
        self,
        uris: Mapping[str, str],
        read: Callable[[str], bytes],
        systems: Mapping[str, Mapping[str, str]],
    ) -> dict[str, dict[str, float]]:
        """As `scores`, of photos by image id that are read by their `uris`: `{system: {image id: score}}`."""
        found = self.scores(list(uris), lambda image_id: read(uris[image_id]), systems)
        return {name: dict(zip(uris, values.tolist(), strict=True)) for name, values in found.items()}

    def _batches(self, image_ids: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
        size = self._parameters.batch_size
        for start in range(0, len(image_ids), size):
            yield start, image_ids[start : start + size]

    def _photos(self, encoded: Sequence[bytes]) -> Values:
        from captionloop.images import decode_photo

        images = [decode_photo(data) for data in encoded]
        inputs = self._processor.image_processor(images=images, return_tensors="pt")
        return self._directions(self._model.get_image_features, pixel_values=inputs["pixel_values"])

    def _captions(self, texts: Sequence[str]) -> Values:
        # SigLIP was trained on texts that are filled up to their full length; CLIP looks at none of it.
        longest = self._model.config.text_config.max_position_embeddings
        inputs = self._processor.tokenizer(
            [self._parameters.prompt.format(text) for text in texts],
            padding="max_length",
            max_length=longest,
            truncation=True,
            return_tensors="pt",
        )
        return self._directions(self._model.get_text_features, **inputs)

    @staticmethod
    def _directions(features_of: Callable[..., Any], **inputs: Any) -> Values:
        """Features `[n, D]` of length one."""
        import torch

        with torch.inference_mode():
            output = features_of(**inputs)
        features = output if isinstance(output, torch.Tensor) else output.pooler_output
        values = features.double().numpy()
        directions: Values = values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-12)
        return directions


def _loaded(source: str) -> tuple[Any, Any]:
    """The model and its processor."""
    from transformers import AutoModel, AutoProcessor

    place, _, revision = source.partition("@")
    options: dict[str, Any] = {"trust_remote_code": False}
    if Path(source).is_dir():
        place = source
    elif revision:
        options["revision"] = revision
    else:
        raise ConfigurationError(
            f"image_text.model '{source}' is no folder here, and one of the hub is named with its revision:"
            f" give {source}@<commit>"
        )
    try:
        model: Any = AutoModel.from_pretrained(place, use_safetensors=True, **options)
        processor: Any = AutoProcessor.from_pretrained(place, **options)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ConfigurationError(
            f"image_text.model '{source}' cannot be loaded ({in_a_line(error)}); give a folder with config,"
            " tokenizer and model.safetensors"
        ) from error
    encoders = (hasattr(model, "get_image_features"), hasattr(model, "get_text_features"))
    if not all(encoders) or not hasattr(processor, "image_processor"):
        raise ConfigurationError(
            f"image_text.model '{source}' is no pair of models for images and texts; give one like CLIP"
        )
    return model.eval(), processor
