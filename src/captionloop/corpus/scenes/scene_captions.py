"""A scene's facts in; five people's captions of it out, and what a caption names that is not in the scene.

Things are named with number, colour, pattern and size; so are the place, the light, and what is in the sky.
How two things stand to each other is left out: a caption may turn that round in many ways.
"""

import random
import re
from collections.abc import Iterator
from typing import Final

from captionloop.corpus.scenes.layout import Facts, Group
from captionloop.corpus.scenes.phrases import Forms, Phrases
from captionloop.corpus.scenes.world import SceneDomain
from captionloop.tokenizer import word_tokens

NUMBERS: Final = {1: "a", 2: "two", 3: "three", 4: "four"}
SIZES: Final = {"small": ("small", "tiny", "little"), "big": ("big", "large", "huge")}
_PLURALS: Final = {"box": "boxes", "cactus": "cactuses"}
_RARELY: Final = 0.35

#: How a pair is put; `{0}` is the first group, `{1}` the second. The first sentence is the usual one.
_PAIRS: Final[dict[str, tuple[str, ...]]] = {
    "next to": ("{0} next to {1}", "{0} and {1}", "{1} next to {0}", "{0} beside {1}"),
    "above": ("{0} above {1}", "{0} flying over {1}", "{1} under {0}", "{0} in the sky above {1}"),
    "in front of": ("{0} in front of {1}", "{1} behind {0}", "{0} before {1}"),
    "between": ("{0} between {1}", "{0} in the middle of {1}", "{1} with {0} between them"),
    "on top of": ("{0} on top of {1}", "{1} carrying {0}", "{0} balancing on {1}"),
    "around": ("{0} around {1}", "{1} circled by {0}", "{0} surrounding {1}"),
}


def describe(domain: SceneDomain, facts: Facts, rng: random.Random, count: int = 5) -> tuple[str, ...]:
    """`count` different captions of a scene, in lower case and without full stops.

    Of five people three use the usual sentence, and each word is the usual one more often than not: CIDEr
    rewards what most people say, so a caption that sees everything and says it plainly agrees with most of
    the five. The rest is what people do: they leave out an adjective or the light, turn the sentence round,
    mention the sky.
    """
    return _different(_CaptionWriter(domain, facts, rng), rng, count)


def describe_in(
    phrases: Phrases, domain: SceneDomain, facts: Facts, rng: random.Random, count: int = 5
) -> tuple[str, ...]:
    """As `describe`, in the language of the phrases."""
    return _different(_ForeignCaptionWriter(phrases, domain, facts, rng), rng, count)


def _different(writer: "_CaptionWriter", rng: random.Random, count: int) -> tuple[str, ...]:
    captions: dict[str, None] = {}
    person = 0
    while len(captions) < count:
        captions[writer.caption(plainly=person % 5 < 3)] = None
        person += 1
    chosen = list(captions)
    rng.shuffle(chosen)
    return tuple(chosen)


class _CaptionWriter:
    def __init__(self, domain: SceneDomain, facts: Facts, rng: random.Random) -> None:
        self._domain = domain
        self._facts = facts
        self._rng = rng
        self._nouns = {noun.name: noun for noun in domain.nouns}
        self._place = domain.places[facts.place]

    def caption(self, *, plainly: bool) -> str:
        """One caption: in the usual sentence, or in one of the others."""
        phrases = self._pair(plainly) if len(self._facts.groups) == 2 else self._alone(plainly)
        return " ".join(part for part in (*phrases, self._light(plainly)) if part)

    def _alone(self, plainly: bool) -> tuple[str, ...]:
        group = self._facts.groups[0]
        thing = self._thing(group)
        if group.home == "sky":
            over = self._one_of(self._place.over)
            if plainly:
                return thing, "flying over", over
            return self._rng.choice(
                ((thing, "in the sky above", over), (thing, "in the sky"), (thing, "high over", over))
            )
        where = self._one_of(self._place.where)
        if plainly:
            return thing, where
        verb = "are" if group.count > 1 else "is"
        posture = "floating" if "water" in self._place.homes else self._nouns[group.noun].posture
        return self._rng.choice(
            (
                (f"there {verb}", thing, where),
                (thing, posture, where),
                (thing, verb, where),
                ("a picture of", thing),
            )
        )

    def _pair(self, plainly: bool) -> tuple[str, ...]:
        sentences = _PAIRS[self._facts.arrangement]
        sentence = sentences[0] if plainly else self._rng.choice(sentences[1:])
        first, second = (self._thing(group) for group in self._facts.groups)
        where = self._one_of(self._place.where) if plainly or self._chance(0.5) else ""
        return sentence.format(first, second), where

    def _thing(self, group: Group) -> str:
        words = []
        if group.size != "medium" and self._chance(0.85):
            words.append(self._one_of(SIZES[group.size]))
        if group.pattern != "plain" and self._chance(0.7):
            words.append(group.pattern)
        if self._chance(0.93):
            words.append(group.colour)
        word = self._one_of(self._nouns[group.noun].words)
        words.append(plural(word) if group.count > 1 else word)
        number = "an" if group.count == 1 and words[0][0] in "aeiou" else NUMBERS[group.count]
        return " ".join([number, *words])

    def _light(self, plainly: bool) -> str:
        phrases = self._domain.light_phrases.get(self._facts.light)
        if phrases:
            return self._one_of(phrases) if self._chance(0.75) else ""
        seen = [extra for extra in self._facts.extras if extra in self._domain.extra_phrases]
        if seen and self._chance(0.1 if plainly else 0.5):
            return self._domain.extra_phrases[self._rng.choice(seen)]
        return ""

    def _chance(self, of: float) -> bool:
        return self._rng.random() < of

    def _one_of(self, words: tuple[str, ...]) -> str:
        if len(words) > 1 and self._chance(_RARELY):
            return self._rng.choice(words[1:])
        return words[0]


class _ForeignCaptionWriter(_CaptionWriter):
    """Writes the same as the English writer, as often, in the words and sentences of another language."""

    def __init__(self, phrases: Phrases, domain: SceneDomain, facts: Facts, rng: random.Random) -> None:
        super().__init__(domain, facts, rng)
        self._phrases = phrases

    def caption(self, *, plainly: bool) -> str:
        pair = len(self._facts.groups) == 2
        sentence = self._two(plainly) if pair else self._one(plainly)
        line = self._phrases.space.join(part for part in (sentence, self._light(plainly)) if part)
        line = " ".join(line.split())
        for apart, merged in self._phrases.merged:
            line = line.replace(f" {apart}", f" {merged}")
        return line

    def _one(self, plainly: bool) -> str:
        group, phrases = self._facts.groups[0], self._phrases
        sentences = phrases.aloft if group.home == "sky" else phrases.alone
        sentence = sentences[0] if plainly else self._rng.choice(sentences[1:])
        posture = "floating" if "water" in self._place.homes else self._nouns[group.noun].posture
        thing, form = self._counted(group)
        return sentence.format(
            thing,
            where=self._one_of(phrases.where[self._facts.place]),
            over=self._one_of(phrases.over[self._facts.place]),
            posture=_in_form(phrases.postures[posture], form),
            be=_in_form(phrases.be, form),
        )

    def _two(self, plainly: bool) -> str:
        sentences = self._phrases.pairs[self._facts.arrangement]
        sentence = sentences[0] if plainly else self._rng.choice(sentences[1:])
        first, second = (self._counted(group)[0] for group in self._facts.groups)
        where = self._one_of(self._phrases.where[self._facts.place])
        clause = sentence.format(first, second)
        return self._phrases.space.join((clause, where)) if plainly or self._chance(0.5) else clause

    def _counted(self, group: Group) -> tuple[str, int]:
        """A group in words, and the form that agrees with it."""
        phrases = self._phrases
        name = (
            self._rng.choice(phrases.nouns[group.noun][1:])
            if self._rarely(group)
            else phrases.nouns[group.noun][0]
        )
        form = int(name.feminine) + 2 * (group.count > 1)
        size = pattern = colour = ""
        if group.size != "medium" and self._chance(0.85):
            sizes = phrases.sizes[group.size]
            size = _in_form(self._rng.choice(sizes[1:]) if self._chance(_RARELY) else sizes[0], form)
        if group.pattern != "plain" and self._chance(0.7):
            pattern = _in_form(phrases.patterns[group.pattern], form)
        if self._chance(0.93):
            colour = _in_form(phrases.colours[group.colour], form)
        phrase = phrases.thing.format(
            number=_in_form(phrases.numbers[group.count], form),
            measure=name.measure,
            size=size,
            noun=name.inflected(group.count),
            pattern=pattern,
            colour=colour,
        )
        return phrase, form

    def _rarely(self, group: Group) -> bool:
        return len(self._phrases.nouns[group.noun]) > 1 and self._chance(_RARELY)

    def _light(self, plainly: bool) -> str:
        phrases = self._phrases.lights.get(self._facts.light)
        if phrases:
            return self._one_of(phrases) if self._chance(0.75) else ""
        seen = [extra for extra in self._facts.extras if extra in self._phrases.extras]
        if seen and self._chance(0.1 if plainly else 0.5):
            return self._phrases.extras[self._rng.choice(seen)]
        return ""


def _in_form(forms: Forms, form: int) -> str:
    return forms[min(form, len(forms) - 1)]


def plural(word: str) -> str:
    """A thing's word for several of them."""
    return _PLURALS.get(word, f"{word}s")


def domain_words(domain: SceneDomain) -> frozenset[str]:
    """The words that name something in a domain: things, colours, places, lights and how two things stand."""
    phrases = [word for noun in domain.nouns for word in (*noun.words, *map(plural, noun.words))]
    phrases += domain.colours
    for place in domain.places.values():
        phrases += (*place.where, *place.over)
    for several in domain.light_phrases.values():
        phrases += several
    for arrangement in domain.arrangements:
        phrases += _PAIRS.get(arrangement, ())
    function_words = {"a", "the", "at", "on", "in", "of", "with", "and", "by", "to", "{0}", "{1}"}
    return frozenset(word for phrase in phrases for word in phrase.split()) - function_words


_NUMBERS: Final = {word: number for number, word in NUMBERS.items()} | {"an": 1}
_SIZES: Final = {word: size for size, words in SIZES.items() for word in words}
_PATTERNS: Final = ("plain", "striped", "spotted")


def untrue(domain: SceneDomain, facts: Facts, caption: str) -> tuple[str, ...]:
    """Everything that an English caption names and the scene does not show, in the caption's words."""
    rest, found = f" {' '.join(word_tokens(caption))} ", []
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
            description = words[begin:place]
            yield " ".join(words[begin : place + 1]), _Named(domain, nouns[word], description)


def _describes(domain: SceneDomain, word: str) -> bool:
    return word in domain.colours or word in _SIZES or word in _PATTERNS


class _Named:
    """A thing as a caption names it; told a group, whether it is that."""

    def __init__(self, domain: SceneDomain, noun: str, description: list[str]) -> None:
        self._domain, self._noun, self._description = domain, noun, description

    def __call__(self, group: Group) -> bool:
        return group.noun == self._noun and all(self._fits(word, group) for word in self._description)

    def _fits(self, word: str, group: Group) -> bool:
        if word in _NUMBERS:
            return _NUMBERS[word] == group.count
        if word in _SIZES:
            return _SIZES[word] == group.size
        return word == (group.colour if word in self._domain.colours else group.pattern)
