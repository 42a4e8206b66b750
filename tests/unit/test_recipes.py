"""CONTRIBUTING.md's recipes: each is carried out on a copy of the library, and what it adds is used.

A recipe is at most three places. Each place is a new file, or lines put before or after a line of a file.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/captionloop"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Edit:
    """`new` takes the place of `old`, which stands once in the file; a file that is not there is `new`."""

    file: str
    new: str
    old: str = ""


@dataclass(frozen=True)
class Recipe:
    """What is added, by which edits, and a program that uses it."""

    edits: tuple[Edit, ...]
    program: str


DECODER = Recipe(
    (
        Edit(
            "captioner/model_config.py",
            '''class BrightestConfig(ShowAndTellConfig):
    """Show and Tell that hears the largest feature of each channel."""

    kind: Literal["brightest"] = "brightest"


SingleConfig = Annotated[
    BrightestConfig | ShowAndTellConfig | ''',
            "SingleConfig = Annotated[\n    ShowAndTellConfig | ",
        ),
        Edit(
            "captioner/decoders/brightest.py",
            """from captionloop.captioner.decoders.show_and_tell import ShowAndTell


class Brightest(ShowAndTell):
    def _image_as_word(self, features):
        return self.image(self.feature_dropout(features.amax(1)))
""",
        ),
        Edit(
            "captioner/decoders/__init__.py",
            """    if isinstance(config, BrightestConfig):
        return Brightest(config, vocabulary_size, channels)
    if isinstance(config, ShowAndTellConfig):
""",
            "    if isinstance(config, ShowAndTellConfig):\n",
        ),
        Edit(
            "captioner/decoders/__init__.py",
            """from captionloop.captioner.decoders.brightest import Brightest
from captionloop.captioner.decoders.ensemble import Ensemble
from captionloop.captioner.model_config import BrightestConfig
""",
            "from captionloop.captioner.decoders.ensemble import Ensemble\n",
        ),
    ),
    """
import torch
from pydantic import TypeAdapter
from captionloop.captioner.beam_search import beam_search
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.model_config import DecoderConfig, DecodingOptions
config = TypeAdapter(DecoderConfig).validate_python({"kind": "brightest", "embedding": 8, "hidden": 8})
decoder = build_decoder(config, vocabulary_size=12, channels=6).eval()
assert type(decoder).__name__ == "Brightest"
found = beam_search(decoder, torch.rand(2, 4, 6), DecodingOptions(beam_width=2, max_length=5))
assert len(found) == 2 and all(found)
""",
)

ENCODER = Recipe(
    (
        Edit(
            "vision/architectures.py",
            'OWN: Final = ("resnet8", "resnet10", "resnet14")',
            'OWN: Final = ("resnet8", "resnet10")',
        ),
        Edit(
            "vision/backbone.py",
            '    "resnet14": lambda: ResNet(BasicBlock, [2, 2, 1, 1]),\n    "resnet10": ',
            '    "resnet10": ',
        ),
    ),
    """
from captionloop.vision.encoder import Encoder, EncoderSpec
encoder = Encoder.build(EncoderSpec(architecture="resnet14", input_size=64, layer="layer3"))
assert (encoder.regions, encoder.channels) == (16, 256)
""",
)

METRIC = Recipe(
    (
        Edit(
            "scoring/scores.py",
            'METRICS = ("Words", "BLEU-1", "BLEU-2", ',
            'METRICS = ("BLEU-1", "BLEU-2", ',
        ),
        Edit("scoring/scores.py", "Family(METRICS[1:5], ", "Family(METRICS[:4], "),
        Edit(
            "scoring/scores.py",
            'FAMILIES = {\n    "Words": _mean_family("Words"),\n',
            "FAMILIES = {\n",
        ),
        Edit(
            "scoring/scores.py",
            """        families[name] = {
            "Words": _with_images(np.array([len(hypothesis.split()) for hypothesis, _ in pairs])),
""",
            "        families[name] = {\n",
        ),
    ),
    """
from captionloop.languages import language_of
from captionloop.scoring.scores import score
german = language_of("de")
scores = score(
    {"a": "ein Hund", "b": "ein kleiner Hund am See"}, {"a": ["ein Hund"], "b": ["ein Hund"]}, german
)
assert scores.values["Words"] == 3.5 and scores.values["BLEU-1"] < 1
assert type(scores).from_frame(scores.to_frame()).values == scores.values
""",
)

CHECK = Recipe(
    (
        Edit(
            "corpus/expectations.py",
            "    longest_to_shortest: float = Field(4.0, ge=1)\n    max_side: int = Field(",
            "    max_side: int = Field(",
        ),
        Edit(
            "corpus/expectations.py",
            '    PHOTO_TOO_WIDE: Final = "the photo is a panorama"\n    PHOTO_TOO_LONG: Final',
            "    PHOTO_TOO_LONG: Final",
        ),
        Edit(
            "corpus/expectations.py",
            """        _within("sides", None, rules.longest_to_shortest, CorpusIssue.PHOTO_TOO_WIDE),
        _within("longer_side", """,
            '        _within("longer_side", ',
        ),
        Edit(
            "corpus/validation.py",
            """        sides=(width.combine(height, max) / width.combine(height, min)).where(good),
        longer_side=""",
            "        longer_side=",
        ),
    ),
    """
from tempfile import TemporaryDirectory
from corpus.conftest import corpus_of, photo, validated
from captionloop.photos import PhotoFolder
with TemporaryDirectory() as folder:
    photos = PhotoFolder(folder)
    photos.write("wide.jpg", photo(1, (400, 40)))
    photos.write("good.jpg", photo(2))
    rows = [("wide.jpg", "train"), ("good.jpg", "train")]
    result = validated(corpus_of(rows, [(name, "a red ball") for name, _ in rows]), photos)
    assert list(result.images["uri"]) == ["good.jpg"]
    assert "the photo is a panorama" in set(result.quarantine["reason"])
""",
)

ENDPOINT = Recipe(
    (
        Edit(
            "serving/schemas.py",
            '''class LengthBody(_Body):
    """How long a caption may be, in words."""

    words: int


class ModelBody(_Body):
''',
            "class ModelBody(_Body):\n",
        ),
        Edit(
            "serving/gateway/service_routes.py",
            '''@counted.get("/v1/length", response_model=LengthBody, responses=problems(401, 429, 503))
async def read_length(services: ServicesDep) -> LengthBody:
    """How long a caption may be."""
    return LengthBody(words=services.model.require().decoding.get("max_length", 20))


@counted.get(
    "/v1/model",
''',
            '@counted.get(\n    "/v1/model",\n',
        ),
        Edit(
            "serving/gateway/service_routes.py", "    KeepingBody,\n    LengthBody,\n", "    KeepingBody,\n"
        ),
    ),
    """
from tempfile import TemporaryDirectory
from serving.serving_fakes import FakeModel
from starlette.testclient import TestClient
from captionloop.serving.gateway.app import build_services, create_app
from captionloop.serving.service_settings import Settings
with TemporaryDirectory() as folder:
    settings = Settings(state=folder)
    app = create_app(settings)
    app.state.services = build_services(settings, FakeModel())
    with TestClient(app) as client:
        while not app.state.services.model.latest.ready:
            client.get("/livez")
        answer = client.get("/v1/length")
        assert answer.status_code == 200 and answer.json() == {"words": 20}, answer.text
        assert "X-Request-ID" in answer.headers and "RateLimit-Limit" in answer.headers, answer.headers
        assert "LengthBody" in client.get("/openapi.json").text
""",
)

SETTING = Recipe(
    (
        Edit(
            "serving/service_settings.py",
            """    statistics: bool = Field(True, description="whether anybody may read the statistics")
    max_body_bytes: Count""",
            "    max_body_bytes: Count",
        ),
        Edit(
            "serving/gateway/service_routes.py",
            """    if not services.settings.statistics:
        raise Problem(NOT_FOUND, "There are no statistics here.")
    if caller.has_key:
        return _statistics_body(""",
            "    if caller.has_key:\n        return _statistics_body(",
        ),
        Edit(
            "serving/gateway/service_routes.py",
            "from captionloop.serving.gateway.problems import NOT_FOUND, Problem\n",
            "from captionloop.serving.gateway.problems import Problem\n",
        ),
    ),
    """
from tempfile import TemporaryDirectory
from serving.serving_fakes import FakeModel
from starlette.testclient import TestClient
from captionloop.serving.gateway.app import build_services, create_app
from captionloop.serving.service_settings import Settings, describe_settings
assert "CAPTIONLOOP_STATISTICS" in describe_settings()
for shown in ("", "false"):
    with TemporaryDirectory() as folder:
        settings = Settings.from_environment({"CAPTIONLOOP_STATE": folder, "CAPTIONLOOP_STATISTICS": shown})
        app = create_app(settings)
        app.state.services = build_services(settings, FakeModel())
        with TestClient(app) as client:
            assert client.get("/v1/statistics").status_code == (404 if shown else 200)
""",
)

RECIPES = {
    "A decoder": DECODER,
    "An encoder": ENCODER,
    "A metric": METRIC,
    "A check": CHECK,
    "An endpoint": ENDPOINT,
    "A setting": SETTING,
}


def carried_out(recipe: Recipe, folder: Path) -> None:
    """A copy of the library in the folder, with the recipe's edits."""
    shutil.copytree(SOURCE, folder / "captionloop", ignore=shutil.ignore_patterns("__pycache__"))
    for edit in recipe.edits:
        file = folder / "captionloop" / edit.file
        if not edit.old:
            assert not file.exists(), edit.file
            file.write_text(edit.new)
            continue
        text = file.read_text()
        assert text.count(edit.old) == 1, (
            f"{edit.file} does not hold {edit.old!r} once: is the recipe still true?"
        )
        file.write_text(text.replace(edit.old, edit.new))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_adds_what_it_says(name: str, tmp_path: Path) -> None:
    carried_out(RECIPES[name], tmp_path)
    paths = os.pathsep.join(map(str, (tmp_path, ROOT / "tests/unit", ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "-c", RECIPES[name].program],
        env=os.environ | {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_its_places_and_no_more_than_three(name: str) -> None:
    places = {edit.file for edit in RECIPES[name].edits}
    assert len(places) <= 3
    (recipe,) = re.findall(rf"^- \*\*{name}\*\*(.*?)(?=^- \*\*|^$)", CONTRIBUTING, re.DOTALL | re.MULTILINE)
    for place in places:
        folder = str(Path(place).parent)
        assert place in recipe or f"{folder}/<" in recipe, f"CONTRIBUTING.md does not name {place}"
