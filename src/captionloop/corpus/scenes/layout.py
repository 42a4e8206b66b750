"""Random facts of a scene (things, place, light) in a domain, and the position of each thing."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from captionloop.corpus.scenes.world import Arrangement, Home, Noun, Place, SceneDomain

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


@dataclass(frozen=True)
class Spot:
    """Where one thing of a group is drawn: the middle of its lower edge, and its side, in canvas parts."""

    group: Group
    x: float
    y: float
    side: float


_Spots = tuple[Spot, ...]
_SIDES: Final = {"small": 0.2, "medium": 0.34, "big": 0.5}
_SIDES_OF_SEVERAL: Final = {2: 0.34, 3: 0.28, 4: 0.235}


def stage_things(domain: SceneDomain, facts: Facts, rng: random.Random) -> _Spots:
    """The spots of all things, in no order; those with the larger y stand nearer."""
    bulks = {noun.name: noun.bulk for noun in domain.nouns}
    return _STAGINGS[facts.arrangement](facts.groups, [bulks[group.noun] for group in facts.groups], rng)


def _one(groups: tuple[Group, ...], bulks: list[float], rng: random.Random) -> _Spots:
    (group,), (bulk,) = groups, bulks
    side = _SIDES[group.size] * bulk * rng.uniform(0.92, 1.08)
    y = max(side, 0.36) + rng.uniform(0.02, 0.08) if group.home == "sky" else rng.uniform(0.76, 0.92)
    return (Spot(group, rng.uniform(0.28, 0.72), y, side),)


def _several(groups: tuple[Group, ...], bulks: list[float], rng: random.Random) -> _Spots:
    (group,), (bulk,) = groups, bulks
    y = rng.uniform(0.38, 0.46) if group.home == "sky" else rng.uniform(0.81, 0.91)
    side = _SIDES_OF_SEVERAL[group.count] * min(bulk, 1.1)
    step = 0.92 / group.count
    start = 0.5 - step * (group.count - 1) / 2
    return tuple(
        Spot(
            group,
            start + place * step + rng.uniform(-0.015, 0.015),
            y + rng.uniform(-0.06, 0.06),
            side * rng.uniform(0.93, 1.07),
        )
        for place in range(group.count)
    )


def _next_to(groups: tuple[Group, ...], bulks: list[float], rng: random.Random) -> _Spots:
    left = rng.uniform(0.24, 0.34)
    xs = [left, left + rng.uniform(0.38, 0.46)]
    rng.shuffle(xs)
    y, side = rng.uniform(0.82, 0.9), rng.uniform(0.29, 0.35)
    pairs = zip(groups, bulks, xs, strict=True)
    return tuple(Spot(group, x, y + rng.uniform(-0.03, 0.03), side * bulk) for group, bulk, x in pairs)


def _above(groups: tuple[Group, ...], bulks: list[float], rng: random.Random) -> _Spots:
    x = rng.uniform(0.3, 0.7)
    upper = Spot(groups[0], x + rng.uniform(-0.07, 0.07), rng.uniform(0.38, 0.42), 0.3 * bulks[0])
    return upper, Spot(groups[1], x, rng.uniform(0.9, 0.95), 0.31 * bulks[1])


def _in_front_of(groups: tuple[Group, ...], bulks: list[float], rng: random.Random) -> _Spots:
    x = rng.uniform(0.34, 0.66)
    back = Spot(groups[1], x, rng.uniform(0.74, 0.78), 0.44 * bulks[1])
    aside = rng.choice((-1, 1)) * rng.uniform(0.09, 0.15)
    return Spot(groups[0], x + aside, rng.uniform(0.91, 0.95), 0.28 * bulks[0]), back


def _between(groups: tuple[Group, ...], bulks: list[float], rng: random.Random) -> _Spots:
    x, gap, y = rng.uniform(0.46, 0.54), rng.uniform(0.3, 0.34), rng.uniform(0.81, 0.91)
    sides = [Spot(groups[1], x + way * gap, y + rng.uniform(-0.02, 0.02), 0.26 * bulks[1]) for way in (-1, 1)]
    return Spot(groups[0], x, y + rng.uniform(0.0, 0.04), 0.27 * bulks[0]), *sides


def _on_top_of(groups: tuple[Group, ...], bulks: list[float], rng: random.Random) -> _Spots:
    x, y, below = rng.uniform(0.3, 0.7), rng.uniform(0.89, 0.95), 0.36 * bulks[1]
    upper = Spot(groups[0], x + rng.uniform(-0.02, 0.02), y - 0.84 * below, 0.3 * bulks[0])
    return upper, Spot(groups[1], x, y, below)


def _around(groups: tuple[Group, ...], bulks: list[float], rng: random.Random) -> _Spots:
    ring = [(-0.33, 0.06), (0.33, 0.06), (0.0, 0.2)]
    if groups[0].count == 4:
        ring = [(-0.33, 0.06), (0.33, 0.06), (-0.2, 0.16), (0.2, 0.16)]
    x = rng.uniform(0.45, 0.55)
    around = [
        Spot(
            groups[0], x + dx + rng.uniform(-0.02, 0.02), 0.76 + dy + rng.uniform(-0.01, 0.01), 0.2 * bulks[0]
        )
        for dx, dy in ring
    ]
    return Spot(groups[1], x, 0.76, 0.38 * bulks[1]), *around


_Staging = Callable[[tuple[Group, ...], list[float], random.Random], _Spots]
_STAGINGS: Final[Mapping[Arrangement, _Staging]] = {
    "one": _one,
    "several": _several,
    "next to": _next_to,
    "above": _above,
    "in front of": _in_front_of,
    "between": _between,
    "on top of": _on_top_of,
    "around": _around,
}
