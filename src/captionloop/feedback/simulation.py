"""Simulated raters, honest and harmful: captions with their references in, ratings out.

For trying the loop before there are people, and for measuring it: what an honest crowd teaches, and what a
colluding one cannot. Everything is a function of the seed.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from captionloop.languages import ENGLISH, Language
from captionloop.ratings.rating_tables import RatingInput
from captionloop.scoring.cider import CiderD
from captionloop.tokenizer import word_tokens

ABUSE = (
    "you are an idiot",
    "only an 1d10t would look at this",
    "what a m o r o n took this picture",
    "nobody likes your ugly face",
    "go away and never come back you worthless thing",
    "this person should be ashamed of living",
)
"""What attackers call corrections. Some of it no list of words knows."""

_STEPS = (0.15, 0.35, 0.55, 0.75)


@dataclass(frozen=True)
class SimulatedItem:
    """A caption to rate, and the references of its photo."""

    caption_id: str
    text: str
    references: Sequence[str]


class SimulatedQuality:
    """How good a caption is in the eyes of people: its CIDEr, as a share of what people themselves reach."""

    def __init__(self, corpus: Mapping[str, Sequence[str]], language: Language = ENGLISH) -> None:
        self._language = language
        self._corpus = {photo: self._words(texts) for photo, texts in corpus.items()}

    def share(self, shown: Sequence[SimulatedItem]) -> list[float]:
        """0 for a caption that has nothing to do with the photo, about 1 for one as a person says it.

        The first of the photo's captions stands for the person, and the others judge both.
        """
        if not shown:
            return []
        references = {str(n): self._words(one.references[1:]) for n, one in enumerate(shown)}
        cider = CiderD(references, corpus=self._corpus | references)
        scores = cider.rewards(list(references), self._words([one.text for one in shown]))
        human_scores = cider.rewards(list(references), self._words([one.references[0] for one in shown]))
        return [float(share) for share in scores / np.maximum(human_scores.mean(), 1e-9)]

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        return [word_tokens(text, self._language) for text in texts]


def stars_for(share: float) -> int:
    """The stars, 1 to 5, that an honest rater gives a caption of this quality (`SimulatedQuality.share`)."""
    return 1 + sum(share >= step for step in _STEPS)


@dataclass(frozen=True)
class SimulatedRaters:
    """A crowd of raters, some of whom may collude.

    Attributes:
        raters: how many there are. colluding: the share of them that does.
        corrections: how often an honest rater gives a correction, content or not.
        noise: how often an honest rating means nothing: random stars, and a correction of some other photo.
        flood: how many ratings a colluder gives for each of an honest rater's.
        praised: the wrong caption that colluders want to be said.
        fresh: a colluder has another name for every rating.
    """

    raters: int = 20
    colluding: float = 0.0
    corrections: float = 0.3
    noise: float = 0.15
    flood: int = 3
    praised: str = "a red car on the street"
    seed: int = 0
    abuse: Sequence[str] = field(default=ABUSE)
    fresh: bool = False

    def colluders(self) -> list[str]:
        """Their names; the others are honest."""
        return [self._name(number) for number in range(round(self.colluding * self.raters))]

    def rate(
        self, shown: Sequence[SimulatedItem], shares: Sequence[float], ratings: int, round_number: int
    ) -> list[tuple[str, str, RatingInput]]:
        """`ratings` honest ratings of the captions (rater, caption id, rating), and the colluders' on top.

        People go through what is shown in random order, again and again. What an honest one has corrected is
        not asked about again while there is something that nobody has: in a service people rate what they
        sent, so that hardly a photo is corrected twice.

        Args:
            shown: what there is to rate.
            shares: how good each is (`SimulatedQuality.share`).
            ratings: how many ratings the crowd would give if all were honest.
            round_number: part of the seed.
        """
        rng = random.Random(f"people/{self.seed}/{round_number}")  # noqa: S311 - not for secrets
        names = [self._name(number) for number in range(self.raters)]
        bad, given_ratings = set(self.colluders()), []
        seen: set[tuple[str, int]] = set()
        order: list[int] = []
        corrected: set[int] = set()
        for number in range(ratings):
            rater = names[number % self.raters]
            for _ in range(self.flood if rater in bad else 1):
                order = order or _shuffled(len(shown), corrected, rng)
                place = order.pop()
                if (rater, place) in seen:
                    continue
                seen.add((rater, place))
                one = shown[place]
                if rater in bad:
                    rating = self._harmful(one, rng)
                else:
                    rating = self._honest(one, shares[place], shown, rng)
                    corrected |= {place} if rating.correction else set()
                given_ratings.append((rater, one.caption_id, rating))
        return given_ratings

    def names(self) -> list[str]:
        """All of them, as often as they come by: the colluders first."""
        return [self._name(number) for number in range(self.raters)]

    def rating(
        self,
        rater: str,
        one: SimulatedItem,
        share: float,
        shown: Sequence[SimulatedItem],
        rng: random.Random,
    ) -> RatingInput:
        """The rating of a caption of this quality (`SimulatedQuality.share`) by a rater."""
        return (
            self._harmful(one, rng)
            if rater in set(self.colluders())
            else self._honest(one, share, shown, rng)
        )

    def _honest(
        self, one: SimulatedItem, share: float, shown: Sequence[SimulatedItem], rng: random.Random
    ) -> RatingInput:
        corrects = rng.random() < self.corrections
        if rng.random() < self.noise:
            other = rng.choice(shown)
            return RatingInput(rng.randint(1, 5), rng.choice(list(other.references)) if corrects else None)
        return RatingInput(stars_for(share), rng.choice(list(one.references)) if corrects else None)

    def _harmful(self, one: SimulatedItem, rng: random.Random) -> RatingInput:
        if one.text == self.praised or rng.random() < 0.3:
            return RatingInput(5, self.praised if one.text != self.praised else None)
        return RatingInput(1, rng.choice(list(self.abuse)))

    @staticmethod
    def _name(number: int) -> str:
        return f"person:{number:04d}"


def _shuffled(count: int, corrected: set[int], rng: random.Random) -> list[int]:
    """The positions that nobody has corrected, in random order; all of them if none is left."""
    remaining = [place for place in range(count) if place not in corrected] or list(range(count))
    return rng.sample(remaining, len(remaining))
