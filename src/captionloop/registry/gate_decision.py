"""How the gate decides (margin, guardrails, floors, budget of a set), and what it decided on what."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

Share = Annotated[float, Field(ge=0, le=1)]


class Guardrails(BaseModel):
    """How far a candidate may stray from the champion in what CIDEr does not see."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    largest_drop: Share = 0.10
    """Of every other metric, as a share of the champion's value."""
    slowest: PositiveFloat = 1.5
    """Median seconds per photo, as a multiple of the champion's."""
    shortest: PositiveFloat = 0.75
    """Mean words per caption, as a multiple of the champion's."""
    longest: PositiveFloat = 1.35
    fewest_words: PositiveFloat = 0.7
    """Distinct words over all captions, as a multiple of the champion's."""
    hallucinations: PositiveFloat = 0.10
    """Things per caption that are named and not there: refused is a rise whose whole 95 % interval lies above
    this. 0.10 is one thing more in ten captions."""
    group_drop: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Of CIDEr on one kind of photos, as a share of the champion's: refused where it is surely more."""
    group_photos: Annotated[int, Field(ge=30)] = 50
    """Kinds of fewer photos are not looked at."""
    image_text_drop: Share = 0.05
    """Of how well captions go with their photos (CLIPScore), as a share of the champion's: refused where the
    whole 95 % interval says that more is lost. It is asked where `registration.image_text` names a model."""


class Floors(BaseModel):
    """What a first version must reach, when there is no champion to compare it with."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cider: PositiveFloat = 0.10
    """A random training caption of Flickr8k scores 0.03."""
    words: PositiveInt = 20
    """Distinct words over all captions."""
    captions: Share = 0.05
    """Distinct captions as a share of the photos: one caption for everything is not captioning."""
    shortest: PositiveFloat = 3.0
    """Mean words per caption."""
    longest: PositiveFloat = 30.0


class GateParameters(BaseModel):
    """How the gate decides."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    margin: PositiveFloat = 0.03
    """CIDEr that may be lost unnoticed: 0.03 is 3 points. See docs/gate.md before changing it."""
    resamples: Annotated[int, Field(ge=200)] = 2000
    anchor_confidence: Annotated[float, Field(ge=0.9, lt=1)] = 0.99
    """Of the interval against the anchor, the best version served so far, where that is not the champion: it
    is asked again in every round, so it should err less than once."""
    decisions: PositiveInt = 50
    """Decisions that one evaluation set is good for: how often the gate errs was measured up to so many."""
    fresh_photos: PositiveInt = 30
    """From so many photos of fresh feedback on, these decide too; fewer are only reported."""
    seed: int = 0
    guardrails: Guardrails = Guardrails()
    floors: Floors = Floors()


class Difference(BaseModel):
    """Candidate minus champion, with the 95 % interval of the paired bootstrap."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float


class Check(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    bound: Literal["at least", "at most"]
    limit: float
    passed: bool
    champion: float | None = None

    @classmethod
    def at_least(cls, name: str, value: float, limit: float, champion: float | None = None) -> "Check":
        """Passed from `limit` upwards."""
        return cls(
            name=name, value=value, bound="at least", limit=limit, passed=value >= limit, champion=champion
        )

    @classmethod
    def at_most(cls, name: str, value: float, limit: float, champion: float | None = None) -> "Check":
        """Passed up to `limit`."""
        return cls(
            name=name, value=value, bound="at most", limit=limit, passed=value <= limit, champion=champion
        )

    def __str__(self) -> str:
        return f"{self.name} is {self.value:.4g}, {self.bound} {self.limit:.4g} is wanted"


class Fresh(BaseModel):
    """The comparison on fresh feedback, which neither model was trained on.

    `decides` is False where there were too few photos to let them decide.
    """

    model_config = ConfigDict(frozen=True)

    evaluation_set: str
    photos: int
    decides: bool
    candidate: float
    champion: float
    difference: Difference


class Anchor(BaseModel):
    """The comparison with the best version that was served so far, where that is not the champion."""

    model_config = ConfigDict(frozen=True)

    version: int
    confidence: float
    difference: Difference


class SetUse(BaseModel):
    """How many decisions were made on an evaluation set, this one included, of those that it is good for."""

    model_config = ConfigDict(frozen=True)

    decisions: int
    budget: int


class Hallucinations(BaseModel):
    """Things per caption that are named and not there, told from the scenes' `facts` or from `references`."""

    model_config = ConfigDict(frozen=True)

    measure: Literal["facts", "references"]
    candidate: float
    champion: float
    difference: Difference
    limit: float


class GroupDifference(BaseModel):
    """CIDEr on the photos of one kind. `difference` is candidate minus champion with its 95 % interval.

    `worst` is how much of the champion's CIDEr is surely lost, all kinds considered together (below 0: none).
    """

    model_config = ConfigDict(frozen=True)

    by: str
    name: str
    photos: int
    candidate: float
    champion: float
    difference: Difference
    worst: float


class GateDecision(BaseModel):
    """Whether the candidate is promoted, why, and everything that was looked at."""

    model_config = ConfigDict(frozen=True)

    promoted: bool
    reason: str
    candidate: str
    champion: str | None
    evaluation_set: str
    photos: int
    margin: float
    seed: int
    difference: Difference | None
    checks: tuple[Check, ...]
    fresh: Fresh | None = None
    anchor: Anchor | None = None
    set_use: SetUse | None = None
    hallucinations: Hallucinations | None = None
    groups: tuple[GroupDifference, ...] = ()
    notes: tuple[str, ...] = ()
    """What people should know beside: what could not be asked, and what will soon be due."""
    left_out: tuple[str, ...] = ()
    """Metrics that were not looked at, as they do not know the language of the captions."""

    def with_check(self, check: Check, reason: str, **found: Any) -> Self:
        """The decision with one more check and what it `found`; refused for `reason` where it fails, unless
        it is refused already.
        """
        update: dict[str, Any] = {**found, "checks": (*self.checks, check)}
        if self.promoted and not check.passed:
            update |= {"promoted": False, "reason": reason}
        return self.model_copy(update=update)
