"""Deciding what one scene shows."""

import random
from dataclasses import dataclass
from typing import Final, Literal

from captionloop.corpus.scenes.domain import Arrangement, Home, Noun, Place, SceneDomain

Size = Literal["small", "medium", "big"]
Pattern = Literal["plain", "striped", "spotted"]


@dataclass(frozen=True)
class Group:
    """Some things alike: `count` of the kind `noun`, of one colour, pattern and size."""

    noun: str
    count: int
    colour: str
    pattern: Pattern
    size: Size
    home: Home


@dataclass(frozen=True)
class Facts:
    """What is true of a scene, whatever its captions say.

    `groups[0]` stands in the relation `arrangement` to `groups[1]`, where there is a second.
    """

    place: str
    light: str
    arrangement: Arrangement
    groups: tuple[Group, ...]
    extras: tuple[str, ...]


_BULKY: Final = 1.2


def compose(domain: SceneDomain, rng: random.Random) -> Facts:
    """Chooses place, light, arrangement, things and their colours."""
    arrangement, place_name, low, sky = _possible(domain, rng)
    place = domain.places[place_name]
    colours = rng.sample(list(domain.colours), 2)
    light = rng.choice(place.lights)
    extras = tuple(extra for extra in place.extras if rng.random() < 0.3 and _goes_with(extra, light))
    return Facts(place_name, light, arrangement, _groups(arrangement, low, sky, colours, rng), extras)


def _goes_with(extra: str, light: str) -> bool:
    return light == "day" or extra not in {"sun", "birds"}


def _possible(domain: SceneDomain, rng: random.Random) -> tuple[Arrangement, str, list[Noun], list[Noun]]:
    """An arrangement, a place where it can be shown, and the nouns for its lower part and for its sky."""
    while True:
        (arrangement,) = rng.choices(list(domain.arrangements), list(domain.arrangements.values()))
        name = rng.choice(list(domain.places))
        place = domain.places[name]
        low = [noun for noun in domain.nouns if _stands(noun, place)]
        sky = [noun for noun in domain.nouns if "sky" in noun.homes] if "sky" in place.homes else []
        if arrangement == "above" and not sky:
            continue
        if arrangement == "in front of" and not any(noun.bulk > _BULKY for noun in low):
            continue
        return arrangement, name, low, sky


def _stands(noun: Noun, place: Place) -> bool:
    return (
        bool({"ground", "water"} & set(noun.homes) & set(place.homes)) and noun.name not in place.leaves_out
    )


def _pick(nouns: list[Noun], rng: random.Random, *, but: str = "") -> Noun:
    fitting = [noun for noun in nouns if noun.name != but]
    return rng.choices(fitting, [noun.weight for noun in fitting])[0]


def _groups(
    arrangement: Arrangement, low: list[Noun], sky: list[Noun], colours: list[str], rng: random.Random
) -> tuple[Group, ...]:
    """The first group, which the scene is about, and the second, where the arrangement relates two."""
    if arrangement in {"one", "several"}:
        noun = _pick(sky if sky and rng.random() < 0.2 else low, rng)
        if arrangement == "one":
            return (_group(noun, colours[0], rng, size=rng.choice(("small", "medium", "big"))),)
        return (_group(noun, colours[0], rng, count=rng.choice((2, 3, 3, 4))),)
    first, second = _two_nouns(arrangement, low, sky, rng)
    counts = {"between": (1, 2), "around": (rng.choice((3, 4)), 1)}.get(arrangement, (1, 1))
    return (
        _group(first, colours[0], rng, count=counts[0]),
        _group(second, colours[1], rng, count=counts[1]),
    )


def _two_nouns(
    arrangement: Arrangement, low: list[Noun], sky: list[Noun], rng: random.Random
) -> tuple[Noun, Noun]:
    if arrangement == "above":
        return _pick(sky, rng), _pick(low, rng)
    if arrangement == "in front of":
        back = _pick([noun for noun in low if noun.bulk > _BULKY], rng)
        return _pick([noun for noun in low if noun.bulk <= _BULKY], rng), back
    first = _pick(low, rng)
    second = _pick(low, rng, but=first.name)
    # Of two things side by side a speaker names the less bulky one first.
    if arrangement == "next to" and (second.bulk, second.name) < (first.bulk, first.name):
        return second, first
    return first, second


def _group(noun: Noun, colour: str, rng: random.Random, *, count: int = 1, size: Size = "medium") -> Group:
    pattern: Pattern = "plain"
    if noun.patterned and rng.random() < 0.4:
        pattern = rng.choice(("striped", "spotted"))
    home: Home = "sky" if "sky" in noun.homes else "ground"
    return Group(noun.name, count, colour, pattern, size, home)
