"""What a caption names that is not in its scene: nobody has to judge that, for the scene's facts are known.

Things are named with number, colour, pattern and size; so are the place, the light, and what is in the sky.
How two things stand to each other is left out: a caption may turn that round in many ways.
"""

import re
from collections.abc import Iterator
from typing import Final

from captionloop.corpus.scenes.captions import NUMBERS, SIZES, plural
from captionloop.corpus.scenes.composition import Facts, Group
from captionloop.corpus.scenes.domain import SceneDomain
from captionloop.language.words import words_of

_NUMBERS: Final = {word: number for number, word in NUMBERS.items()} | {"an": 1}
_SIZES: Final = {word: size for size, words in SIZES.items() for word in words}
_PATTERNS: Final = ("plain", "striped", "spotted")


def untrue(domain: SceneDomain, facts: Facts, caption: str) -> tuple[str, ...]:
    """Everything that an English caption names and the scene does not show, in the caption's words."""
    rest, found = f" {' '.join(words_of(caption))} ", []
    for phrase, so in sorted(_phrases(domain, facts), key=lambda item: -len(item[0])):
        if re.search(rf"\b{phrase}\b", rest):
            rest = re.sub(rf"\b{phrase}\b", "|", rest)
            found += [] if so else [phrase]
    things = list(_things(domain, rest.split()))
    return (*found, *(text for text, named in things if not any(named(group) for group in facts.groups)))


def _phrases(domain: SceneDomain, facts: Facts) -> Iterator[tuple[str, bool]]:
    """What can be said of places, lights and the sky, and whether it is so here."""
    for name, place in domain.places.items():
        for phrase in (*place.where, *place.over):
            yield phrase, name == facts.place
    for light, phrases in domain.light_phrases.items():
        for phrase in phrases:
            yield phrase, light == facts.light
    for extra, phrase in domain.extra_phrases.items():
        yield phrase, extra in facts.extras


def _things(domain: SceneDomain, words: list[str]) -> "Iterator[tuple[str, _Named]]":
    nouns = {form: noun.name for noun in domain.nouns for word in noun.words for form in (word, plural(word))}
    for place, word in enumerate(words):
        if word in nouns:
            begin = place
            while begin and _describes(domain, words[begin - 1]):
                begin -= 1
            begin -= int(begin > 0 and words[begin - 1] in _NUMBERS)
            said = words[begin:place]
            yield " ".join(words[begin : place + 1]), _Named(domain, nouns[word], said)


def _describes(domain: SceneDomain, word: str) -> bool:
    return word in domain.colours or word in _SIZES or word in _PATTERNS


class _Named:
    """A thing as a caption names it; told a group, whether it is that."""

    def __init__(self, domain: SceneDomain, noun: str, said: list[str]) -> None:
        self._domain, self._noun, self._said = domain, noun, said

    def __call__(self, group: Group) -> bool:
        return group.noun == self._noun and all(self._fits(word, group) for word in self._said)

    def _fits(self, word: str, group: Group) -> bool:
        if word in _NUMBERS:
            return _NUMBERS[word] == group.count
        if word in _SIZES:
            return _SIZES[word] == group.size
        return word == (group.colour if word in self._domain.colours else group.pattern)
