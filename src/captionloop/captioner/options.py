"""How captions are searched for: readable without importing torch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ConsensusOptions(BaseModel):
    """How captions that were found are ranked by what people said of similar photos (`neighbours.py`).

    Attributes:
        neighbours: training photos that are asked.
        nearness: a neighbour counts e times less when its cosine is lower by this.
        likelihood: how much the score of the search counts beside the consensus.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    neighbours: int = Field(default=30, ge=1, le=1000)
    nearness: float = Field(default=0.1, gt=0)
    likelihood: float = Field(default=0.05, ge=0)


class DecodingOptions(BaseModel):
    """Part of a bundle's `config.json`; whoever captions may override it.

    Attributes:
        method: `beam` (of width 1: greedy) or `sample`.
        beam_width: hypotheses kept about each image.
        alternatives: captions returned for each image, best first; at most `beam_width` when searching.
        min_length, max_length: in tokens, the end token not counted. (Configurations of a training say
            `max_length` and `no_repeat_ngram` in words, also where text is cut into characters.)
        length_penalty: a hypothesis is worth log P / (tokens + 1) ** length_penalty (Wu et al. 2016, without
            the constant); 0 prefers the likeliest caption, 1 the likeliest word on average.
        no_repeat_ngram: no n-gram of this many tokens occurs twice in a caption; 0 allows all.
        temperature, top_k, top_p: of sampling (Holtzman et al. 2020 for `top_p`); `top_k` 0 and `top_p` 1
            cut nothing.
        seed: of sampling.
        consensus: ranks all `beam_width` captions that a beam search finds; None ranks by likelihood.
        precision: of the decoder's matrix products; `auto` is bfloat16 where the hardware multiplies it fast
            (on a GPU only for more than a handful of images at once), else float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Literal["beam", "sample"] = "beam"
    beam_width: int = Field(default=5, ge=1, le=100)
    alternatives: int = Field(default=3, ge=1, le=100)
    min_length: int = Field(default=1, ge=1)
    max_length: int = Field(default=24, ge=1, le=200)
    length_penalty: float = Field(default=0.7, ge=0)
    no_repeat_ngram: int = Field(default=0, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = 0
    consensus: ConsensusOptions | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _lengths_in_order(self) -> "DecodingOptions":
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
        return self
