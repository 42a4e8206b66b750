"""How the sample scenes are described in languages other than English, as tables and sentences with gaps.

Everything is keyed by what it is called in `domain.py`. Of several ways to say something the usual one comes
first. Words that agree with a noun are given in the forms masculine, feminine, masculine plural, feminine
plural; one that has fewer forms keeps its last.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from captionloop.errors import ConfigurationError
from captionloop.languages import ENGLISH, Language

Forms = tuple[str, ...]


@dataclass(frozen=True)
class Name:
    """A noun: its plural, whether it is feminine, and the word that counts it (Chinese)."""

    singular: str
    plural: str = ""
    feminine: bool = False
    measure: str = ""

    def inflected(self, count: int) -> str:
        """The noun in singular or plural for `count` things."""
        return self.plural if count > 1 and self.plural else self.singular


@dataclass(frozen=True)
class Phrases:
    """The words and sentences of a language.

    Attributes:
        thing: how `{number}`, `{measure}`, `{size}`, `{noun}`, `{pattern}` and `{colour}` follow each other.
        alone, aloft: sentences about one group on the ground, and in the sky; `{0}` is the group.
        pairs: sentences about two groups, `{0}` and `{1}`, by how they stand.
        merged: letters that grow together, in this order: ("de un", "d'un").
    """

    nouns: Mapping[str, tuple[Name, ...]]
    numbers: Mapping[int, Forms]
    sizes: Mapping[str, tuple[Forms, ...]]
    patterns: Mapping[str, Forms]
    colours: Mapping[str, Forms]
    postures: Mapping[str, Forms]
    thing: str
    alone: tuple[str, ...]
    aloft: tuple[str, ...]
    be: Forms
    where: Mapping[str, tuple[str, ...]]
    over: Mapping[str, tuple[str, ...]]
    pairs: Mapping[str, tuple[str, ...]]
    lights: Mapping[str, tuple[str, ...]]
    extras: Mapping[str, str]
    space: str = " "
    merged: tuple[tuple[str, str], ...] = ()


def _masculine(singular: str, plural: str = "") -> Name:
    return Name(singular, plural or f"{singular}s")


def _feminine(singular: str, plural: str = "") -> Name:
    return Name(singular, plural or f"{singular}s", feminine=True)


def _agreeing(word: str) -> Forms:
    return word, f"{word}e", f"{word}s", f"{word}es"


def _counted(word: str, measure: str) -> Name:
    return Name(word, measure=measure)


_FRENCH: Final = Phrases(
    nouns={
        "ball": (_masculine("ballon"),),
        "box": (_feminine("boîte"), _masculine("cube")),
        "cup": (_feminine("tasse"), _masculine("mug")),
        "flower": (_feminine("fleur"),),
        "mushroom": (_masculine("champignon"),),
        "duck": (_masculine("canard"),),
        "umbrella": (_masculine("parapluie"),),
        "car": (_feminine("voiture"),),
        "tree": (_masculine("arbre"),),
        "house": (_feminine("maison"), _masculine("chalet"), _feminine("maisonnette")),
        "boat": (_masculine("bateau", "bateaux"), _masculine("voilier")),
        "balloon": (_feminine("montgolfière"),),
        "kite": (_masculine("cerf-volant", "cerfs-volants"),),
        "cat": (_masculine("chat"), _masculine("chaton")),
        "rocket": (_feminine("fusée"),),
        "cactus": (_masculine("cactus", "cactus"),),
        "lamp": (_feminine("lampe"),),
        "clock": (_feminine("horloge"),),
        "robot": (_masculine("robot"),),
        "pumpkin": (_feminine("citrouille"),),
        "guitar": (_feminine("guitare"),),
    },
    numbers={1: ("un", "une"), 2: ("deux",), 3: ("trois",), 4: ("quatre",)},
    sizes={
        "small": (_agreeing("petit"), ("minuscule", "minuscule", "minuscules"), _agreeing("petit")),
        "big": (
            _agreeing("grand"),
            ("gros", "grosse", "gros", "grosses"),
            ("énorme", "énorme", "énormes"),
        ),
    },
    patterns={"striped": ("à rayures",), "spotted": ("à pois",)},
    colours={
        "red": ("rouge", "rouge", "rouges"),
        "blue": ("bleu", "bleue", "bleus", "bleues"),
        "green": _agreeing("vert"),
        "yellow": ("jaune", "jaune", "jaunes"),
        "orange": ("orange",),
        "purple": ("violet", "violette", "violets", "violettes"),
        "white": ("blanc", "blanche", "blancs", "blanches"),
        "black": _agreeing("noir"),
        "pink": ("rose", "rose", "roses"),
        "brown": ("marron",),
        "turquoise": ("turquoise",),
        "gray": ("gris", "grise", "gris", "grises"),
    },
    postures={
        "standing": ("debout",),
        "lying": ("posé", "posée", "posés", "posées"),
        "sitting": ("assis", "assise", "assis", "assises"),
        "parked": ("garé", "garée", "garés", "garées"),
        "floating": ("qui flotte", "qui flotte", "qui flottent"),
    },
    thing="{number} {size} {noun} {colour} {pattern}",
    alone=(
        "{0} {where}",
        "il y a {0} {where}",
        "{0} {posture} {where}",
        "{0} {be} {where}",
        "l'image de {0}",
    ),
    aloft=(
        "{0} au-dessus de {over}",
        "{0} dans le ciel au-dessus de {over}",
        "{0} dans le ciel",
        "{0} haut dans l'air",
    ),
    be=("est", "est", "sont"),
    where={
        "meadow": ("dans l'herbe", "dans un pré", "dans un champ vert"),
        "beach": ("sur la plage", "sur le sable", "au bord de la mer"),
        "snow": ("dans la neige", "sur le sol enneigé"),
        "street": ("dans la rue", "sur la route"),
        "table": ("sur une table en bois", "sur un bureau", "à l'intérieur"),
        "lake": ("sur l'eau", "sur le lac"),
        "desert": ("dans le désert", "sur une dune"),
        "moon": ("sur la lune", "dans l'espace"),
        "carpet": ("sur un tapis", "sur la carpette"),
    },
    over={
        "meadow": ("l'herbe", "un pré", "un champ vert"),
        "beach": ("la plage", "le sable", "la côte"),
        "snow": ("la neige", "un champ enneigé"),
        "street": ("la rue", "la route"),
        "table": ("une table en bois",),
        "lake": ("l'eau", "le lac"),
        "desert": ("le désert",),
        "moon": ("la lune",),
        "carpet": ("un tapis",),
    },
    pairs={
        "next to": ("{0} à côté de {1}", "{0} et {1}", "{1} à côté de {0}", "{0} près de {1}"),
        "above": (
            "{0} au-dessus de {1}",
            "{0} qui vole au-dessus de {1}",
            "{1} sous {0}",
            "{0} dans le ciel sur {1}",
        ),
        "in front of": ("{0} devant {1}", "{1} derrière {0}", "{0} juste devant {1}"),
        "between": ("{0} entre {1}", "{0} au milieu de {1}", "{1} de part et d'autre de {0}"),
        "on top of": ("{0} sur {1}", "{1} qui porte {0}", "{0} en équilibre sur {1}"),
        "around": ("{0} autour de {1}", "{1} au milieu de {0}", "{0} qui entourent {1}"),
    },
    lights={
        "sunset": ("au coucher du soleil", "le soir", "quand le soleil se couche"),
        "night": ("la nuit", "dans l'obscurité", "sous les étoiles"),
        "fog": ("dans le brouillard", "par un matin brumeux"),
    },
    extras={
        "sun": "par une journée d'été",
        "clouds": "sous les nuages",
        "birds": "avec des oiseaux dans le ciel",
        "mountains": "avec des montagnes à l'horizon",
    },
    merged=(("de un", "d'un"), ("de le ", "du ")),
)

_CHINESE: Final = Phrases(
    nouns={
        "ball": (_counted("球", "个"),),
        "box": (_counted("箱子", "个"), _counted("方块", "个")),
        "cup": (_counted("杯子", "个"), _counted("马克杯", "个")),
        "flower": (_counted("花", "朵"),),
        "mushroom": (_counted("蘑菇", "朵"),),
        "duck": (_counted("鸭子", "只"),),
        "umbrella": (_counted("雨伞", "把"),),
        "car": (_counted("汽车", "辆"),),
        "tree": (_counted("树", "棵"),),
        "house": (_counted("房子", "座"), _counted("小屋", "座"), _counted("住宅", "座")),
        "boat": (_counted("船", "艘"), _counted("帆船", "艘")),
        "balloon": (_counted("热气球", "个"),),
        "kite": (_counted("风筝", "只"),),
        "cat": (_counted("猫", "只"), _counted("猫咪", "只")),
        "rocket": (_counted("火箭", "枚"),),
        "cactus": (_counted("仙人掌", "棵"),),
        "lamp": (_counted("台灯", "盏"),),
        "clock": (_counted("时钟", "个"),),
        "robot": (_counted("机器人", "个"),),
        "pumpkin": (_counted("南瓜", "个"),),
        "guitar": (_counted("吉他", "把"),),
    },
    numbers={1: ("一",), 2: ("两",), 3: ("三",), 4: ("四",)},
    sizes={"small": (("小",), ("很小的",), ("小小的",)), "big": (("大",), ("很大的",), ("巨大的",))},
    patterns={"striped": ("条纹",), "spotted": ("斑点",)},
    colours={
        "red": ("红色的",),
        "blue": ("蓝色的",),
        "green": ("绿色的",),
        "yellow": ("黄色的",),
        "orange": ("橙色的",),
        "purple": ("紫色的",),
        "white": ("白色的",),
        "black": ("黑色的",),
        "pink": ("粉色的",),
        "brown": ("棕色的",),
        "turquoise": ("青绿色的",),
        "gray": ("灰色的",),
    },
    postures={
        "standing": ("立",),
        "lying": ("放",),
        "sitting": ("坐",),
        "parked": ("停",),
        "floating": ("漂",),
    },
    thing="{number}{measure}{colour}{pattern}{size}{noun}",
    alone=("{0}{where}", "{where}有{0}", "{0}{posture}{where}", "{0}就{where}", "一张有{0}的图片"),
    aloft=("{0}飞在{over}上空", "{0}在{over}上方的天空中", "{0}在天空中", "{0}高高地飞过{over}"),
    be=("在",),
    where={
        "meadow": ("在草地上", "在草坪上", "在绿色的田野里"),
        "beach": ("在海滩上", "在沙子上", "在海边"),
        "snow": ("在雪地里", "在积雪的地面上"),
        "street": ("在街道上", "在马路上"),
        "table": ("在木桌上", "在书桌上", "在室内"),
        "lake": ("在水面上", "在湖上"),
        "desert": ("在沙漠里", "在沙丘上"),
        "moon": ("在月球上", "在太空中"),
        "carpet": ("在地毯上", "在毯子上"),
    },
    over={
        "meadow": ("草地", "草坪", "田野"),
        "beach": ("海滩", "沙子", "海岸"),
        "snow": ("雪地", "积雪的田野"),
        "street": ("街道", "马路"),
        "table": ("木桌",),
        "lake": ("水面", "湖"),
        "desert": ("沙漠",),
        "moon": ("月球",),
        "carpet": ("地毯",),
    },
    pairs={
        "next to": ("{0}在{1}旁边", "{0}和{1}", "{1}在{0}旁边", "{0}挨着{1}"),
        "above": ("{0}在{1}上方", "{0}飞过{1}", "{1}在{0}下面", "{0}在天空中,下面是{1}"),
        "in front of": ("{0}在{1}前面", "{1}在{0}后面", "{0}挡在{1}前面"),
        "between": ("{0}在{1}中间", "{0}夹在{1}之间", "{1}中间有{0}"),
        "on top of": ("{0}在{1}上面", "{1}驮着{0}", "{0}立在{1}上面"),
        "around": ("{0}围着{1}", "{1}被{0}包围", "{0}环绕着{1}"),
    },
    lights={
        "sunset": ("日落时", "傍晚", "太阳下山时"),
        "night": ("夜晚", "黑暗中", "星空下"),
        "fog": ("在雾中", "在雾蒙蒙的早晨"),
    },
    extras={"sun": "天气晴朗", "clouds": "天上有云", "birds": "天上有鸟", "mountains": "后面有山"},
    space="",
)

PHRASES: Final = {"fr": _FRENCH, "zh": _CHINESE}
"""By the code of the language; English has sentences of its own (`scene_captions.py`)."""


def phrases_of(language: Language) -> Phrases | None:
    """The phrases of a language; None for English.

    Raises:
        ConfigurationError: nobody wrote any.
    """
    if language == ENGLISH:
        return None
    if language.code not in PHRASES:
        codes = ", ".join([ENGLISH.code, *PHRASES])
        raise ConfigurationError(
            f"the sample scenes are not described in {language}, only in {codes}: set `language` to one"
            " of these, or bring a corpus of your own (docs/data.md)"
        )
    return PHRASES[language.code]
