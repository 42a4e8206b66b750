"""The languages that captions can be in, and what is different about each.

How text becomes words is one rule for all of them (`tokenizer.py`); here stands what a rule of Unicode alone
cannot know: where people put no spaces, which words lose a vowel before an apostrophe, how the letter i is
lowered, and which stemmer knows the forms of a word.
"""

import difflib
from dataclasses import dataclass
from typing import Final

from captionloop.errors import ConfigurationError

_WITH_ARTICLES: Final = frozenset(
    {"af", "ca", "cy", "da", "de", "el", "en", "eo", "es", "fr", "ga", "gl", "hu", "it", "nb", "nl", "nn"}
    | {"no", "pt", "ro", "sq", "sv", "yi"}
)
_COMPOUNDING: Final = frozenset(
    {"af", "da", "de", "et", "fi", "hu", "is", "kn", "ml", "nb", "nl", "nn", "no", "sv", "ta", "te"}
)


@dataclass(frozen=True)
class Language:
    """A language by its ISO 639 code.

    Attributes:
        code: ISO 639-1, or 639-2 where there is none.
        name: in English.
        stemmer: what `snowballstemmer` calls its algorithm; None where it has none.
        tokens_per_word: 1 where words stand between spaces. Elsewhere text is cut into characters, and this
            is about how many of them make a word: limits that are said in words hold for as many times more.
        elided: words that end in an apostrophe before a vowel (`l'`, `dell'`), without it.
        truncated: words that end in an apostrophe whatever follows (`po'`), without it.
        clitics: words that begin with an apostrophe (`'s`, `'t`), without it.
        dotless_i: I is lowered to ı, and İ to i.
        compatible: whether Unicode's compatibility forms may be folded (NFKC); where that would take a vowel
            sign apart (Thai, Lao), only NFC is applied.
        sides: words that a mirrored picture turns into their opposite.
    """

    code: str
    name: str
    stemmer: str | None = None
    tokens_per_word: float = 1.0
    elided: tuple[str, ...] = ()
    truncated: tuple[str, ...] = ()
    clitics: tuple[str, ...] = ()
    dotless_i: bool = False
    compatible: bool = True
    sides: frozenset[str] = frozenset()

    @property
    def has_articles(self) -> bool:
        """Whether articles are words of their own, so that sentences have more of them."""
        return self.code in _WITH_ARTICLES

    @property
    def compounds(self) -> bool:
        """Whether long words are made by joining some."""
        return self.code in _COMPOUNDING

    @property
    def is_spaced(self) -> bool:
        """Whether people put spaces between words."""
        return self.tokens_per_word == 1.0

    def __str__(self) -> str:
        return f"{self.name} ({self.code})"


def _of(code: str, name: str, stemmer: str | None = None, sides: str = "") -> Language:
    return Language(code, name, stemmer, sides=frozenset(sides.split()))


ENGLISH: Final = _of("en", "English", "english", "left right leftmost rightmost")

_FRENCH: Final = (
    "l",
    "d",
    "j",
    "m",
    "t",
    "s",
    "n",
    "c",
    "qu",
    "jusqu",
    "lorsqu",
    "puisqu",
    "quoiqu",
    "aujourd",
)
_ITALIAN: Final = (
    *("l", "d", "c", "s", "m", "t", "v", "n", "un", "gl", "dell", "all", "nell", "sull", "dall", "coll"),
    *(
        "quell",
        "quest",
        "bell",
        "sant",
        "tutt",
        "mezz",
        "senz",
        "anch",
        "com",
        "dov",
        "cos",
        "quant",
        "grand",
    ),
)
_GREEK: Final = ("μ", "σ", "τ", "θ", "ν", "απ", "γι", "κατ", "μετ", "παρ", "υπ", "επ", "αλλ", "ουτ")
_CATALAN: Final = ("l", "d", "m", "t", "s", "n")

_ALL: Final = (
    ENGLISH,
    _of("af", "Afrikaans", sides="links regs"),
    _of("ar", "Arabic", "arabic", "يسار يمين اليسار اليمين يسارا يمينا"),
    Language("az", "Azerbaijani", dotless_i=True, sides=frozenset({"sol", "sağ", "solda", "sağda"})),
    _of("be", "Belarusian", sides="злева справа"),
    _of("bg", "Bulgarian", sides="ляво дясно вляво вдясно"),
    _of("bn", "Bengali", sides="বাম ডান বামে ডানে"),
    Language("ca", "Catalan", "catalan", elided=_CATALAN, sides=frozenset({"esquerra", "dreta"})),
    _of("cs", "Czech", "czech", "vlevo vpravo levé pravé"),
    _of("cy", "Welsh", sides="chwith dde"),
    _of("da", "Danish", "danish", "venstre højre"),
    _of("de", "German", "german", "links rechts linke linken linker rechte rechten rechter"),
    Language("el", "Greek", "greek", truncated=_GREEK, sides=frozenset({"αριστερά", "δεξιά"})),
    _of("eo", "Esperanto", "esperanto", "maldekstre dekstre"),
    _of("es", "Spanish", "spanish", "izquierda derecha izquierdo derecho"),
    _of("et", "Estonian", "estonian", "vasakul paremal"),
    _of("eu", "Basque", "basque", "ezkerrean eskuinean"),
    _of("fa", "Persian", "persian", "چپ راست"),
    _of("fi", "Finnish", "finnish", "vasemmalla oikealla"),
    Language("fr", "French", "french", elided=_FRENCH, sides=frozenset({"gauche", "droite"})),
    _of("ga", "Irish", "irish", "clé dheis"),
    _of("gl", "Galician", sides="esquerda dereita"),
    _of("gu", "Gujarati", sides="ડાબી જમણી ડાબે જમણે"),
    _of("he", "Hebrew", sides="שמאל ימין שמאלה ימינה"),
    _of("hi", "Hindi", "hindi", "बाएँ दाएँ बाएं दाएं बायीं दायीं"),
    _of("hr", "Croatian", sides="lijevo desno"),
    _of("hu", "Hungarian", "hungarian", "bal jobb balra jobbra"),
    _of("hy", "Armenian", "armenian", "ձախ աջ"),
    _of("id", "Indonesian", "indonesian", "kiri kanan"),
    _of("is", "Icelandic", sides="vinstri hægri"),
    Language(
        "it",
        "Italian",
        "italian",
        elided=_ITALIAN,
        truncated=("po", "mo", "be", "di", "da", "fa", "va", "sta"),
        sides=frozenset({"sinistra", "destra"}),
    ),
    Language("ja", "Japanese", tokens_per_word=2.0, sides=frozenset({"左", "右"})),
    _of("ka", "Georgian", sides="მარცხნივ მარჯვნივ"),
    _of("kk", "Kazakh"),
    Language("km", "Khmer", tokens_per_word=3.0),
    _of("kn", "Kannada"),
    _of("ko", "Korean", sides="왼쪽 오른쪽 왼쪽에 오른쪽에"),
    Language("lo", "Lao", tokens_per_word=4.0, compatible=False),
    _of("lt", "Lithuanian", "lithuanian", "kairėje dešinėje"),
    _of("lv", "Latvian", sides="kreisi labi"),
    _of("mk", "Macedonian", sides="лево десно"),
    _of("ml", "Malayalam"),
    _of("mn", "Mongolian"),
    _of("mr", "Marathi", sides="डावीकडे उजवीकडे"),
    _of("ms", "Malay", sides="kiri kanan"),
    Language("my", "Burmese", tokens_per_word=3.0),
    _of("nb", "Norwegian Bokmål", "norwegian", "venstre høyre"),
    _of("ne", "Nepali", "nepali"),
    Language(
        "nl",
        "Dutch",
        "dutch",
        clitics=("s", "t", "n", "k", "m"),
        sides=frozenset({"links", "rechts", "linker", "rechter"}),
    ),
    _of("nn", "Norwegian Nynorsk", "norwegian", "venstre høgre"),
    _of("no", "Norwegian", "norwegian", "venstre høyre"),
    _of("pa", "Punjabi"),
    _of("pl", "Polish", "polish", "lewo prawo lewej prawej"),
    _of("pt", "Portuguese", "portuguese", "esquerda direita esquerdo direito"),
    _of("ro", "Romanian", "romanian", "stânga dreapta"),
    _of("ru", "Russian", "russian", "слева справа налево направо"),
    _of("si", "Sinhala"),
    _of("sk", "Slovak", sides="vľavo vpravo"),
    _of("sl", "Slovenian", sides="levo desno"),
    _of("sq", "Albanian"),
    _of("sr", "Serbian", "serbian", "лево десно levo desno"),
    _of("sv", "Swedish", "swedish", "vänster höger"),
    _of("sw", "Swahili", sides="kushoto kulia"),
    _of("ta", "Tamil", "tamil"),
    _of("te", "Telugu"),
    Language("th", "Thai", tokens_per_word=4.0, compatible=False),
    _of("tl", "Tagalog", sides="kaliwa kanan"),
    Language("tr", "Turkish", "turkish", dotless_i=True, sides=frozenset({"sol", "sağ", "solda", "sağda"})),
    _of("uk", "Ukrainian", sides="зліва справа ліворуч праворуч"),
    _of("ur", "Urdu", sides="بائیں دائیں"),
    _of("uz", "Uzbek"),
    _of("vi", "Vietnamese", sides="trái phải"),
    _of("yi", "Yiddish", "yiddish"),
    Language("zh", "Chinese", tokens_per_word=1.6, sides=frozenset({"左", "右"})),
)

LANGUAGES: Final = {language.code: language for language in _ALL}


def language_of(code: str) -> Language:
    """The language that a code names; what follows a hyphen (`zh-Hans`, `pt_BR`) does not matter.

    Raises:
        ConfigurationError: nobody here knows it; with the nearest that is known.
    """
    text = str(code).strip()
    found = LANGUAGES.get(text.replace("_", "-").partition("-")[0].lower())
    if found is not None:
        return found
    raise ConfigurationError(
        f"language: {text!r} is not the code of a language that is known here{_nearest(text)}; set"
        f" `language` in conf/base/globals.yml to one of {', '.join(LANGUAGES)}"
    )


def _nearest(text: str) -> str:
    """Ends the sentence with the language that was probably meant: by its name, then by its code."""
    names = {language.name.lower(): language for language in _ALL}
    close = difflib.get_close_matches(text.lower(), names, n=1, cutoff=0.6)
    if not close:
        codes = difflib.get_close_matches(text.lower(), LANGUAGES, n=1, cutoff=0.5)
        return f" (the nearest is {LANGUAGES[codes[0]].code}, {LANGUAGES[codes[0]].name})" if codes else ""
    meant = names[close[0]]
    return f" (the nearest is {meant.code}, {meant.name})"
