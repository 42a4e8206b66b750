"""The text side of a pre-trained model behind the interface of decoders.

Its probabilities are the model's own. Trained is a low-rank adaptation (LoRA), or all of the text side; the
rest is the base's, shared in memory, and in no checkpoint and no bundle.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from captionloop.captioner.decoders.base import Decoder, PackedCaptions, Step, TeacherForcingOutput
from captionloop.captioner.model_config import LoraOptions, PretrainedConfig
from captionloop.captioner.pretrained.base_model import BaseModel
from captionloop.captioner.pretrained.subword_tokenizer import OFFSET, SubwordTokenizer
from captionloop.captioner.pretrained.text_sides import TextSide, text_side
from captionloop.errors import ConfigurationError
from captionloop.tokenizer import CaptionTokenizer

BOS, EOS = CaptionTokenizer.BOS, CaptionTokenizer.EOS
_DEAD: Final = -1e4
"""The logit of what is no token of the model: next to nothing, and a number all the same."""


@dataclass(frozen=True)
class PretrainedState:
    """The tokens so far, as a cache of keys and values that grows in place, so that each state is read once.
    `memory` `[N, S, D]` and `owner` (int64 `[N]`, the image of a row) are of rows; the first `regions`
    places of what is looked at are the photo's.
    """

    memory: Tensor
    owner: Tensor
    regions: int
    cache: Any = None
    position: int = 0

    def select(self, rows: Tensor, images: Tensor | None = None) -> Self:
        """The state of hypotheses `rows` (int64 `[N']`), in that order."""
        del images  # the rows say which are left
        owner = self.owner[rows]
        # Rows of one image look at the same: mostly they change places among themselves alone.
        same = owner.shape == self.owner.shape and torch.equal(owner, self.owner)
        if self.cache is not None:
            self_attention = getattr(self.cache, "self_attention_cache", self.cache)
            self_attention.reorder_cache(rows)
            if not same and self_attention is not self.cache:
                self.cache.cross_attention_cache.reorder_cache(rows)
        return self if same else replace(self, owner=owner, memory=self.memory[rows])


class PretrainedDecoder(Decoder):
    """A captioning model of another family behind `begin` and `step`."""

    attends = True
    family = "pretrained"
    prepackable = False  # its layers are asked for more than their products
    config: PretrainedConfig
    _ends: Tensor
    _forbidden: Tensor
    _blank: Tensor
    _opening: Tensor

    def __init__(self, config: PretrainedConfig, base: BaseModel, channels: int) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        self.text: TextSide = text_side(base, config.prompt)
        self.base = base
        self.feature_dropout = nn.Dropout(config.feature_dropout)
        size = int(base.model.config.get_text_config(decoder=True).vocab_size)
        self.tokenizer = SubwordTokenizer(base.tokenizer, size)
        self.vocabulary_size = size + OFFSET
        ends = [token + OFFSET for token in self.text.ends]
        self.register_buffer("_ends", torch.tensor(self.text.ends), persistent=False)
        self.register_buffer(
            "_forbidden", torch.tensor(self.tokenizer.forbidden_tokens + ends), persistent=False
        )
        self.register_buffer(
            "_blank", torch.tensor(self.tokenizer.blank, dtype=torch.int64), persistent=False
        )
        self.register_buffer("_opening", torch.tensor(self.text.opening), persistent=False)
        if config.lora is None:
            self.text.requires_grad_(requires_grad=True)
            self._own_weights()
        else:
            _adapt(self.text, config.lora, config.dropout)
        learnt = [name for name, weight in self.named_parameters() if weight.requires_grad]
        self._of_base = frozenset(self.state_dict()).difference(learnt)
        hooks: Any = self  # torch has no types for these two
        hooks.register_state_dict_post_hook(_without_base)
        hooks.register_load_state_dict_post_hook(_base_is_there)

    def begin(self, features: Tensor) -> PretrainedState:
        """The state before the first word."""
        owner = torch.arange(len(features), device=features.device)
        return PretrainedState(self.text.memory(self._dropped_out(features)), owner, features.shape[1])

    def step(self, tokens: Tensor, state: PretrainedState) -> Step:
        """One token further; the first step reads all that captions are begun with."""
        first = state.position == 0
        # Rows that have ended go on: what they say is read by nobody.
        fed = self._opening.expand(len(tokens), -1) if first else (tokens - OFFSET).clamp(min=0)[:, None]
        found = self.text(fed, state.memory, state.cache, state.position, attend=True)
        log_probs = self._ours(found.logits[:, -1].float()).log_softmax(-1)
        log_probs[:, self._forbidden] = -torch.inf
        if first:
            log_probs[:, self._blank] = -torch.inf
        after = replace(state, cache=found.cache, position=state.position + fed.shape[1])
        attention = None if found.attention is None else found.attention[:, : state.regions]
        return Step(log_probs, after, attention)

    def forward(self, features: Tensor, captions: PackedCaptions) -> TeacherForcingOutput:
        """Teacher forcing."""
        memory = self.text.memory(self._dropped_out(features))[captions.image]
        words = captions.padded(captions.inputs, BOS)[:, 1:]  # the first is BOS, which the opening stands for
        words = (words - OFFSET).clamp(min=0)  # behind a caption's end, where nothing is read
        fed = torch.cat([self._opening.expand(len(words), -1), words], 1)
        logits = self.text(fed, memory, None, 0, attend=False).logits[:, -captions.steps :]
        return TeacherForcingOutput(self._ours(captions.packed(logits)), None)

    def extend_vocabulary(self, vocabulary_size: int) -> None:
        """Nothing is unknown to it."""

    def train(self, mode: bool = True) -> Self:
        """What does not learn stays as it is, without dropout."""
        super().train(mode)
        if mode and self.config.lora is not None:
            for name, module in self.text.named_modules():
                if "lora_" not in name:
                    module.training = False
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy of what learns; the base's weights are shared."""
        for weight in (*self.parameters(), *self.buffers()):
            if not weight.requires_grad:
                memo[id(weight)] = weight
        clone = type(self).__new__(type(self))
        memo[id(self)] = clone
        clone.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return clone

    def _dropped_out(self, features: Tensor) -> Tensor:
        if self.config.feature_dropout and self.training:
            kept: Tensor = self.feature_dropout(features.new_ones(features.shape[0], 1, features.shape[2]))
            return features * kept
        return features

    def _ours(self, logits: Tensor) -> Tensor:
        """Scores by the model's ids `[..., V]` as scores by ours `[..., V + 4]`; all that ends counts for the
        end.
        """
        ends = logits[..., self._ends].logsumexp(-1, keepdim=True)
        dead = torch.full_like(ends, _DEAD)
        rest = logits.index_fill(-1, self._ends, _DEAD)
        return torch.cat([dead, dead, ends, dead, rest], -1)

    def _own_weights(self) -> None:
        """Replaces the base's weights, which are shared, by copies that may be trained."""
        copies: dict[int, nn.Parameter] = {}
        for module in self.text.modules():
            for name, weight in list(module.named_parameters(recurse=False)):
                copies.setdefault(id(weight), nn.Parameter(weight.detach().clone()))
                setattr(module, name, copies[id(weight)])


def _adapt(text: TextSide, options: LoraOptions, dropout: float) -> None:
    """Puts low-rank matrices beside the linear layers that are named; these alone learn."""
    from peft import LoraConfig, inject_adapter_in_model

    # GPT-2 has a linear layer of its own, which peft knows too.
    linear = {name.rpartition(".")[2]: one for name, one in text.named_modules() if _is_linear(one)}
    chosen = sorted(linear.keys() & set(options.targets))
    if not chosen:
        raise ConfigurationError(
            f"lora.targets: none of {', '.join(options.targets)} is a layer of this model, which has"
            f" {', '.join(sorted(linear))}"
        )
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,  # type: ignore[arg-type]
        lora_dropout=dropout,
        target_modules=chosen,
        bias="none",
        fan_in_fan_out=not isinstance(linear[chosen[0]], nn.Linear),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        inject_adapter_in_model(config, text)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _without_base(module: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    """A state_dict holds what learns, and nothing of the base."""
    for name in module._of_base:  # type: ignore[union-attr]
        del state[prefix + name]


def _base_is_there(module: nn.Module, keys: Any) -> None:
    """What a state_dict does not hold of the base is not missing."""
    of_base = tuple(module._of_base)  # type: ignore[arg-type]
    keys.missing_keys[:] = [name for name in keys.missing_keys if not name.endswith(of_base)]
