"""Architectures of the `transformers` package cut in two: pixels to features, features and tokens to scores.

The cut lies where the photo's part ends, so that what stands before it is computed once for each photo and
cached. A *memory* is what the words look at: the vision tower's output as it is, or made of it once for each
photo. Each class says where its architecture keeps things; searching and training are written elsewhere, once
for all of them.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from captionloop.captioner.pretrained.base_model import BaseModel
from captionloop.errors import BundleError

_CHAT: Final = ("smolvlm", "idefics3", "llava", "paligemma", "internvl")
"""Chat models whose images are squares in a row of tokens. Others lay them out by rules of their own."""
_PHOTO_MODULES: Final = (
    "image_encoder", "vision_model", "vision_tower", "visual", "connector", "multi_modal_projector",
)  # fmt: skip
_TEXT_MODULES: Final = ("language_model", "text_model")
_TILED: Final = ("smolvlm", "idefics3")
_CHAT_PROMPT: Final = "Describe the photo in one sentence."
_FLORENCE_PROMPT: Final = "What does the image describe?"


class Scores(NamedTuple):
    """Logits `[N, T, V]` of the next tokens, the cache, and attention `[N, S]` of the last token or None."""

    logits: Tensor
    cache: Any
    attention: Tensor | None


class TextSide(nn.Module, ABC):
    """A language model: tokens `[N, T]` and memories `[N, S, C]` in, scores of the next tokens out.

    Attributes:
        opening: the tokens that every caption is begun with; `ends`: those that end one.
    """

    opening: tuple[int, ...]
    ends: tuple[int, ...]

    def memory(self, features: Tensor) -> Tensor:
        """What the words attend to: features `[B, R, C]` to `[B, S, D]`, once for each photo."""
        return features

    @abstractmethod
    def forward(self, tokens: Tensor, memory: Tensor, cache: Any, position: int, *, attend: bool) -> Scores:
        """Go on after `position` tokens that the cache holds; at 0 there is none."""


class _CrossAttention(TextSide):
    """Decoders that attend to the memory in layers of their own."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor, memory: Tensor, cache: Any, position: int, *, attend: bool) -> Scores:
        """See `TextSide`."""
        del position
        found = self.decoder(
            input_ids=tokens, encoder_hidden_states=memory, cache=cache, use_cache=True,
            output_attentions=attend, return_dict=True,
        )  # fmt: skip
        return Scores(
            self.scores(found), found.cache, _last_attention(found.cross_attentions) if attend else None
        )

    def scores(self, found: Any) -> Tensor:
        """The logits in what the decoder gave."""
        logits: Tensor = found.logits
        return logits


class EncoderDecoderText(_CrossAttention):
    """Of a `VisionEncoderDecoderModel`: any vision tower with any decoder that has cross-attention."""

    def __init__(self, base: BaseModel, prompt: str | None) -> None:
        super().__init__(base.model.decoder)
        _refuse_prompt(base, prompt)
        self.project = getattr(base.model, "enc_to_dec_proj", None)
        start = _configured(base, "decoder_start_token_id")
        start = start if start is not None else _configured(base, "bos_token_id")
        self.opening, self.ends = _opening_tokens(base, [start]), _ends(base)

    def memory(self, features: Tensor) -> Tensor:
        """As wide as the decoder is."""
        return features if self.project is None else self.project(features)


class BlipText(_CrossAttention):
    """Of BLIP (Li et al. 2022); a prompt is the caption's beginning, which it goes on from."""

    def __init__(self, base: BaseModel, prompt: str | None) -> None:
        super().__init__(base.model.text_decoder)
        config = base.model.config.text_config
        prompt_ids = base.tokenizer.encode(prompt, add_special_tokens=False) if prompt else []
        self.opening = _opening_tokens(base, [config.bos_token_id, *prompt_ids])
        self.ends = (int(config.sep_token_id),)


class FlorenceText(_CrossAttention):
    """Of Florence-2 (Xiao et al. 2023): photo and prompt are encoded together, words attend to both."""

    prompt_tokens: Tensor

    def __init__(self, base: BaseModel, prompt: str | None) -> None:
        language = base.model.model.language_model
        super().__init__(language.decoder)
        self.encoder, self.head = language.encoder, base.model.lm_head
        prompt_tokens = base.tokenizer(prompt or _FLORENCE_PROMPT)["input_ids"]
        self.register_buffer("prompt_tokens", torch.tensor(prompt_tokens), persistent=False)
        forced = _configured(base, "forced_bos_token_id")
        start = base.model.config.text_config.decoder_start_token_id
        self.opening = _opening_tokens(base, [start, *([] if forced is None else [forced])])
        self.ends = _ends(base)

    def memory(self, features: Tensor) -> Tensor:
        """Photo and prompt, encoded."""
        words = self.encoder.get_input_embeddings()(self.prompt_tokens)
        both = torch.cat([features, words.expand(len(features), -1, -1)], 1)
        encoded: Tensor = self.encoder(inputs_embeds=both).last_hidden_state
        return encoded

    def scores(self, found: Any) -> Tensor:
        """By the language model's head."""
        logits: Tensor = self.head(found.last_hidden_state)
        return logits


class _PrecomputedFeatures(nn.Module):
    """Takes the place of a vision tower and returns its precomputed features."""

    def forward(self, pixel_values: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=pixel_values.squeeze(1))


class GitText(TextSide):
    """Of GIT (Wang et al. 2022): one Transformer, the photo's tokens before the words'."""

    def __init__(self, base: BaseModel, prompt: str | None) -> None:
        super().__init__()
        inner = _with_children(base.model.git, image_encoder=_PrecomputedFeatures())
        self.model = _with_children(base.model, git=inner)
        prompt_ids = base.tokenizer.encode(prompt, add_special_tokens=False) if prompt else []
        self.opening = _opening_tokens(base, [base.tokenizer.cls_token_id, *prompt_ids])
        sep, ends = base.tokenizer.sep_token_id, _ends(base)
        self.ends = tuple(dict.fromkeys((*ends, *(() if sep is None else (sep,)))))

    def forward(self, tokens: Tensor, memory: Tensor, cache: Any, position: int, *, attend: bool) -> Scores:
        """See `TextSide`."""
        places = torch.arange(position, position + tokens.shape[1], device=tokens.device)[None]
        found = self.model(
            input_ids=tokens, position_ids=places, pixel_values=None if position else memory[:, None],
            cache=cache, use_cache=True, output_attentions=attend,
        )  # fmt: skip
        photo_places = torch.arange(memory.shape[1], device=tokens.device)
        attention = _last_attention(found.attentions, photo_places) if attend else None
        return Scores(found.logits[:, -tokens.shape[1] :], found.cache, attention)


class ChatText(TextSide):
    """Of a chat model: prompted in its own template, which holds the positions of the photo's tokens."""

    photo_places: Tensor

    def __init__(self, base: BaseModel, prompt: str | None) -> None:
        super().__init__()
        inner = base.model.model
        replaced = {
            name: nn.Identity()
            for name in _PHOTO_MODULES
            if isinstance(getattr(inner, name, None), nn.Module)
        }
        self.model = _with_children(base.model, model=_with_children(inner, **replaced))
        self.opening = _opening_tokens(base, _chat_tokens(base, prompt or _CHAT_PROMPT))
        self.ends = _ends(base)
        photo = torch.tensor(self.opening) == _image_token(base)
        self.register_buffer("photo_places", photo.nonzero()[:, 0], persistent=False)

    def forward(self, tokens: Tensor, memory: Tensor, cache: Any, position: int, *, attend: bool) -> Scores:
        """See `TextSide`."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        photo = None if position else {"image": BaseModelOutputWithPooling(pooler_output=memory)}
        if memory.shape[1] != len(self.photo_places):
            raise BundleError(
                f"the chat template has {len(self.photo_places)} tokens for a photo, the vision tower gives"
                f" {memory.shape[1]}: its processor makes several tiles of a photo, which is not read here"
            )
        found = self.model(
            input_ids=tokens, mm_encoder_outputs=photo, cache=cache, use_cache=True, output_attentions=attend
        )
        return Scores(
            found.logits,
            found.cache,
            _last_attention(found.attentions, self.photo_places) if attend else None,
        )


class VisionSide(nn.Module):
    """Pixels `[B, 3, S, S]`, normalised as ImageNet's, to what the text side begins with `[B, R, C]`."""

    scale: Tensor
    shift: Tensor

    def __init__(self, base: BaseModel, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        super().__init__()
        own, other = (
            (torch.tensor(a), torch.tensor(b)) for a, b in ((base.mean, base.deviation), (mean, deviation))
        )
        self.register_buffer("scale", (other[1] / own[1]).view(1, 3, 1, 1))
        self.register_buffer("shift", ((other[0] - own[0]) / own[1]).view(1, 3, 1, 1))
        kind = base.model.config.model_type
        model = base.model
        if kind == "vision-encoder-decoder":
            self.trunk: nn.Module = model.encoder
        elif kind == "blip":
            self.trunk = model.vision_model
        elif kind == "git":
            self.trunk = model.git.image_encoder
        else:
            self.trunk = _Projected(model.model, tiled=kind in _TILED)

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        found = self.trunk(pixel_values=images * self.scale + self.shift)
        features: Tensor = found if isinstance(found, Tensor) else found[0]
        return features


class _Projected(nn.Module):
    """A vision tower with what makes its output fit the language model."""

    def __init__(self, inner: Any, *, tiled: bool) -> None:
        super().__init__()
        replaced = {
            name: nn.Identity() for name in _TEXT_MODULES if isinstance(getattr(inner, name, None), nn.Module)
        }
        self.inner, self.tiled = _with_children(inner, **replaced), tiled

    def forward(self, pixel_values: Tensor) -> Tensor:
        if self.tiled:  # their own way takes several tiles, and leaves out those that are black
            vision = self.inner.vision_model
            patches = vision.embeddings.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
            placed = patches + vision.embeddings.position_embedding.weight
            seen = vision.post_layernorm(vision.encoder(inputs_embeds=placed).last_hidden_state)
            features: Tensor = self.inner.connector(seen)
            return features
        found = self.inner.get_image_features(pixel_values=pixel_values).pooler_output
        return torch.stack(list(found)) if isinstance(found, list | tuple) else found


_TEXT_SIDES: Final[Mapping[str, type[TextSide]]] = {
    "vision-encoder-decoder": EncoderDecoderText,
    "blip": BlipText,
    "git": GitText,
    "florence2": FlorenceText,
    **dict.fromkeys(_CHAT, ChatText),
}


def model_class(config: Any) -> Any:
    """The class of the `transformers` package that opens a model of this configuration.

    Raises:
        BundleError: it is of an architecture that does not caption here.
    """
    import transformers

    named = {
        "vision-encoder-decoder": "VisionEncoderDecoderModel",
        "blip": "BlipForConditionalGeneration",
        "git": "GitForCausalLM",
        "florence2": "Florence2ForConditionalGeneration",
    }
    if config.model_type not in _TEXT_SIDES:
        raise BundleError(
            f"a model of type '{config.model_type}' does not caption here: give one of"
            f" {', '.join(_TEXT_SIDES)}"
        )
    return getattr(transformers, named.get(config.model_type, "AutoModelForImageTextToText"))


def text_side(base: BaseModel, prompt: str | None) -> TextSide:
    """The text side of a model: modules of its own, which share the base's weights."""
    built = _TEXT_SIDES[base.model.config.model_type](base, prompt)
    shared: dict[int, Any] = {id(weight): weight for weight in (*built.parameters(), *built.buffers())}
    return copy.deepcopy(built, shared)


def _with_children(module: Any, **children: nn.Module) -> Any:
    """The same module with other children; what it was made of stays as it is."""
    clone = copy.copy(module)
    clone._modules = {**module._modules, **children}
    return clone


def _last_attention(layers: tuple[Tensor, ...], photo_places: Tensor | None = None) -> Tensor:
    """The attention of the last token `[N, S]`: mean over layers and heads, at the photo's positions."""
    each = torch.stack([layer[:, :, -1].float().mean(1) for layer in layers]).mean(0)
    return each if photo_places is None else each[:, photo_places]


def _configured(base: BaseModel, name: str) -> Any:
    """A value of the generation's configuration, or else of the model's, or of its text's; None without."""
    text = base.model.config.get_text_config()
    for config in (base.model.generation_config, base.model.config, text):
        value = getattr(config, name, None)
        if value is not None:
            return value
    return None


def _opening_tokens(base: BaseModel, tokens: list[Any]) -> tuple[int, ...]:
    if any(token is None for token in tokens):
        raise BundleError(
            f"{base.reference.source}: which token a caption begins with is not told: set"
            " decoder_start_token_id in generation_config.json"
        )
    return tuple(int(token) for token in tokens)


def _ends(base: BaseModel) -> tuple[int, ...]:
    end = _configured(base, "eos_token_id")
    end = end if end is not None else base.tokenizer.eos_token_id
    if end is None:
        raise BundleError(
            f"{base.reference.source}: which token ends a caption is not told: set eos_token_id in"
            " generation_config.json"
        )
    return tuple(int(token) for token in (end if isinstance(end, list | tuple) else [end]))


def _refuse_prompt(base: BaseModel, prompt: str | None) -> None:
    if prompt:
        raise BundleError(f"{base.reference.source} takes no prompt: leave pretrained.prompt out")


def _image_token(base: BaseModel) -> int:
    config = base.model.config
    token = getattr(config, "image_token_id", None)
    return int(token if token is not None else config.image_token_index)


def _chat_tokens(base: BaseModel, prompt: str) -> list[int]:
    """The template with the prompt in it, as tokens, one for each place of the photo."""
    import transformers
    from PIL import Image

    opened: Any = transformers.AutoProcessor
    processor = opened.from_pretrained(base.folder, local_files_only=True, trust_remote_code=False)
    if hasattr(processor.image_processor, "do_image_splitting"):
        processor.image_processor.do_image_splitting = False
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    photo = Image.new("RGB", (base.input_size, base.input_size))
    tokens: list[int] = processor(text=text, images=[photo], return_tensors="pt")["input_ids"][0].tolist()
    return tokens
