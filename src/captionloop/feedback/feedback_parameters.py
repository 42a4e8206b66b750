"""What can be set about feedback: `conf/*/parameters_feedback.yml`."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from captionloop.corpus.photo_checks import PhotoLimits

Share = Annotated[float, Field(ge=0, le=1)]
_Group = ConfigDict(frozen=True, extra="forbid")


class Caps(BaseModel):
    """How much one rater may say; what goes beyond it is put into quarantine.

    Attributes:
        person_per_day, key_per_day: ratings of one person (a cookie) and of one API key in a day (UTC).
        burst: this many ratings of one person within `burst_seconds` were not given by a person looking at
            photos. Keys are left out: behind a key there may be many people.
        largest_share: of all corrections' weight that one rater may have.
        network_share: the same of one network (a block of public addresses) on one day. network_free: a
            network whose corrections weigh no more than this is not cut: a few people are no attack. Of
            the held-out corrections it may have the same share, and of that number the held-out part.
    """

    model_config = _Group

    person_per_day: int = Field(60, ge=1)
    key_per_day: int = Field(300, ge=1)
    burst: int = Field(12, ge=2)
    burst_seconds: float = Field(20.0, gt=0)
    largest_share: float = Field(0.25, gt=0, le=1)
    network_share: float = Field(0.1, gt=0, le=1)
    network_free: float = Field(20.0, ge=0)


class Wording(BaseModel):
    """What a correction must look like, besides holding no word of the list of abuse."""

    model_config = _Group

    min_words: int = Field(3, ge=1)
    max_words: int = Field(40, ge=1)
    longest_word: int = Field(24, ge=5, description="characters")
    most_repeated: int = Field(3, ge=1, description="how often one word may follow itself or fill a text")


class Copies(BaseModel):
    """When corrections are copies: one text, nearly, for many photos, or one template, by many raters.

    Attributes:
        similarity: Jaccard similarity of the word pairs of two texts from which they count as nearly the
            same.
        photos, share: more photos than either (the share is of all corrected photos) with nearly the same
            text are too many.
        template_similarity: Jaccard similarity of the words of two texts from which they may have one
            template.
        template_raters: a template is what at least so many raters use ...
        template_share, template_usual: ... for more photos than `photos`, this share of all, and so many
            times the share of the corpus's photos whose captions are as much alike without any harm.
    """

    model_config = _Group

    similarity: Share = 0.75
    photos: int = Field(8, ge=1)
    share: Share = 0.04
    template_similarity: Share = 0.5
    template_raters: int = Field(5, ge=2)
    template_share: Share = 0.08
    template_usual: float = Field(3.0, ge=1)


class Contradiction(BaseModel):
    """When a rating contradicts itself; see `contradiction.py`.

    Attributes:
        stars: from so many, the caption is praised.
        similarity: a correction that is no more like the caption than this has nothing of it.
    """

    model_config = _Group

    stars: int = Field(4, ge=1, le=5)
    similarity: Share = 0.02


class Reliability(BaseModel):
    """How raters are judged; see `reliability.py`.

    Attributes:
        agreed, differed: what is assumed of a rater whom nobody knows: so many agreements and disagreements.
        gold: how many of other people's votes a known photo is worth. strike: disagreements for a row that
            was put into quarantine as abuse, as a copy, or as a burst.
        full: accuracy from which a rater counts fully; one of 0.5, which is chance, counts nothing.
        trusted: least weight with which a rater is listened to at all.
    """

    model_config = _Group

    agreed: float = Field(3.0, gt=0)
    differed: float = Field(1.0, gt=0)
    gold: float = Field(2.0, ge=0)
    strike: float = Field(3.0, ge=0)
    full: float = Field(0.85, gt=0.5, lt=1)
    trusted: Share = 0.35


class Weights(BaseModel):
    """How much what people said counts in training, where a caption of the corpus counts 1.

    Attributes:
        correction: times the weight of the rater. approved: a caption that people found good.
        approvals: trusted raters who must have found it good. certain: least probability that it is good.
        rejected: below this probability of being good, a caption is evidence of what not to say.
    """

    model_config = _Group

    correction: float = Field(1.0, gt=0)
    approved: float = Field(0.3, ge=0)
    approvals: int = Field(2, ge=1)
    certain: Share = 0.9
    rejected: Share = 0.2


class FeedbackParameters(BaseModel):
    """All of `params:feedback`.

    Attributes:
        least_ratings: new ratings for which retraining is worth while, at least one.
        since: count ratings as new from this moment (ISO 8601); None: since those that the champion
            has learnt from.
        held_out: share of the rated photos that never enter training, to test candidates on.
        held_out_photos: how many of them, the newest, a candidate is tested on.
        known_good, known_bad: a caption of a photo of the corpus is a gold item where its CIDEr is at least
            the one share, or at most the other, of what people's own captions of that photo reach.
        gold_items: so many of those that the service offers must a person have rated rightly, good and bad
            ones among them, before anything they say counts. Keys count without: an administrator gave them.
            0: everybody counts.
        defences: False believes everybody, to show what the defences are for. Never set it in earnest.
    """

    model_config = _Group

    least_ratings: int = Field(50, ge=1)
    since: str | None = None
    held_out: float = Field(0.1, ge=0, lt=1)
    held_out_photos: int = Field(300, ge=1)
    known_good: float = Field(0.6, gt=0)
    known_bad: float = Field(0.2, gt=0)
    gold_items: int = Field(2, ge=0)
    photo: PhotoLimits = PhotoLimits()
    min_side: int = Field(16, ge=1, description="px")
    rater_limits: Caps = Caps()
    correction_text: Wording = Wording()
    repeated_corrections: Copies = Copies()
    contradiction: Contradiction = Contradiction()
    reliability: Reliability = Reliability()
    weights: Weights = Weights()
    defences: bool = True
