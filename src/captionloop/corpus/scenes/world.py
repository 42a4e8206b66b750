"""A scene domain: the things, colours, places and words that a generated corpus is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from captionloop.corpus.scenes import backgrounds
from captionloop.corpus.scenes.backgrounds import Paint
from captionloop.corpus.scenes.pen import Colour

Home = Literal["ground", "water", "sky"]
Arrangement = Literal["one", "several", "next to", "above", "in front of", "between", "on top of", "around"]


@dataclass(frozen=True)
class Noun:
    """A kind of thing, its words from the usual to the rare.

    `bulk` scales its drawing, `homes` is where it can be, `posture` how it stands there.
    """

    words: tuple[str, ...]
    homes: tuple[Home, ...] = ("ground",)
    bulk: float = 1.0
    patterned: bool = False
    weight: float = 1.0
    posture: str = "standing"

    @property
    def name(self) -> str:
        """The word that also names its sketch."""
        return self.words[0]


@dataclass(frozen=True)
class Place:
    """A background. `where` are its phrases, `over` what things fly over; the usual ones come first."""

    paint: Paint
    where: tuple[str, ...]
    over: tuple[str, ...]
    lights: tuple[str, ...]
    extras: tuple[str, ...]
    homes: tuple[Home, ...] = ("ground", "sky")
    leaves_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class SceneDomain:
    """Everything that `draw_scenes` needs to know of a world, and the words of its captions."""

    name: str
    nouns: tuple[Noun, ...]
    colours: Mapping[str, Colour]
    places: Mapping[str, Place]
    arrangements: Mapping[Arrangement, float]
    light_phrases: Mapping[str, tuple[str, ...]]
    extra_phrases: Mapping[str, str] = field(default_factory=dict)


_OUTDOORS: Final = ("sun", "clouds", "birds", "mountains")

SAMPLE: Final = SceneDomain(
    name="sample",
    nouns=(
        Noun(("ball",), ("ground", "water"), 0.85, patterned=True, posture="lying"),
        Noun(("box", "cube"), bulk=0.9),
        Noun(("cup", "mug"), bulk=0.85, patterned=True),
        Noun(("flower",), bulk=1.0),
        Noun(("mushroom",), bulk=0.9, patterned=True),
        Noun(("duck",), ("ground", "water"), 0.95, posture="sitting"),
        Noun(("umbrella",), bulk=1.15, patterned=True),
        Noun(("car",), bulk=1.15, posture="parked"),
        Noun(("tree",), bulk=1.3),
        Noun(("house", "cottage", "home"), bulk=1.25),
        Noun(("boat", "sailboat"), ("water",), 1.2, weight=3.0, posture="floating"),
        Noun(("balloon",), ("sky",), 1.1, patterned=True, weight=1.5),
        Noun(("kite",), ("sky",), 1.1, weight=1.5),
    ),
    colours={
        "red": (222, 52, 48),
        "blue": (48, 92, 214),
        "green": (46, 158, 70),
        "yellow": (248, 210, 52),
        "orange": (244, 138, 36),
        "purple": (140, 72, 180),
        "white": (244, 244, 242),
        "black": (54, 52, 58),
    },
    places={
        "meadow": Place(
            backgrounds.paint_meadow,
            ("on the grass", "in a meadow", "in a green field"),
            ("the grass", "a meadow", "a green field"),
            ("day", "day", "sunset", "night"),
            _OUTDOORS,
            leaves_out=frozenset({"cup"}),
        ),
        "beach": Place(
            backgrounds.paint_beach,
            ("on the beach", "on the sand", "by the sea"),
            ("the beach", "the sand", "the shore"),
            ("day", "day", "sunset", "night"),
            ("sun", "clouds", "birds"),
            leaves_out=frozenset({"tree", "house", "mushroom", "flower"}),
        ),
        "snow": Place(
            backgrounds.paint_snow,
            ("in the snow", "on snowy ground"),
            ("the snow", "a snowy field"),
            ("day", "day", "sunset", "night"),
            ("clouds", "birds", "mountains"),
            leaves_out=frozenset({"flower", "mushroom"}),
        ),
        "street": Place(
            backgrounds.paint_street,
            ("on the street", "on the road"),
            ("the street", "the road"),
            ("day", "day", "sunset", "night"),
            ("sun", "clouds", "birds"),
            leaves_out=frozenset({"flower", "mushroom", "cup"}),
        ),
        "table": Place(
            backgrounds.paint_table,
            ("on a wooden table", "on a desk", "indoors"),
            ("a wooden table",),
            ("day",),
            (),
            ("ground",),
            leaves_out=frozenset({"car", "tree", "house", "umbrella"}),
        ),
        "lake": Place(
            backgrounds.paint_lake,
            ("on the water", "on the lake"),
            ("the water", "the lake"),
            ("day", "day", "sunset", "night"),
            _OUTDOORS,
            ("water", "sky"),
        ),
    },
    arrangements={"one": 25, "several": 22, "next to": 22, "above": 14, "in front of": 9, "between": 8},
    light_phrases={
        "sunset": ("at sunset", "in the evening", "as the sun goes down"),
        "night": ("at night", "in the dark", "under the stars"),
    },
    extra_phrases={
        "sun": "on a sunny day",
        "clouds": "under the clouds",
        "birds": "with birds in the sky",
        "mountains": "with mountains behind",
    },
)

#: A world that shares no noun, colour, place, light or arrangement of two things with `SAMPLE`.
SHIFTED: Final = SceneDomain(
    name="shifted",
    nouns=(
        Noun(("cat", "kitten"), posture="sitting"),
        Noun(("rocket",), bulk=1.25, patterned=True),
        Noun(("cactus",), bulk=1.1),
        Noun(("lamp",), bulk=1.1),
        Noun(("clock",), bulk=0.9),
        Noun(("robot",), bulk=1.1),
        Noun(("pumpkin",), bulk=0.9),
        Noun(("guitar",), bulk=1.2),
    ),
    colours={
        "pink": (244, 138, 180),
        "brown": (138, 88, 54),
        "turquoise": (50, 190, 186),
        "gray": (138, 140, 148),
    },
    places={
        "desert": Place(
            backgrounds.paint_desert,
            ("in the desert", "on a dune"),
            ("the desert",),
            ("day", "fog"),
            (),
            ("ground",),
        ),
        "moon": Place(
            backgrounds.paint_moon,
            ("on the moon", "in space"),
            ("the moon",),
            ("starlight",),
            (),
            ("ground",),
        ),
        "carpet": Place(
            backgrounds.paint_carpet, ("on a carpet", "on the rug"), ("a carpet",), ("day",), (), ("ground",)
        ),
    },
    arrangements={"one": 30, "several": 25, "on top of": 25, "around": 20},
    light_phrases={"fog": ("in the fog", "on a misty morning")},
)

DOMAINS: Final = {domain.name: domain for domain in (SAMPLE, SHIFTED)}
