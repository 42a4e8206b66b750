from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from captionloop.captioner.captioner import Caption, Captioned, Word
from captionloop.captioner.model_config import DecodingOptions
from captionloop.errors import BundleError, RegistryError
from captionloop.languages import language_of
from captionloop.preprocessing import SQUASHED
from captionloop.registry.signing import Signing
from captionloop.serving.engine import Engine
from captionloop.serving.model_sources import FolderSource, ModelReference
from captionloop.serving.schemas import PreparedImage
from captionloop.vision.embedding import PhotoFamiliarity

BAD = 255


@dataclass
class FakeCaptioner:
    """Says its name; cannot bear white images."""

    name: str
    size: int = 32
    batches: list[int] = field(default_factory=list)
    decoding: DecodingOptions = field(default_factory=DecodingOptions)
    metrics: dict = field(default_factory=dict)
    lineage: dict = field(default_factory=dict)
    card: str = ""

    @property
    def input_size(self):
        return self.size

    @property
    def encoder(self):
        return SimpleNamespace(spec=SimpleNamespace(input_size=self.size, preprocessing=SQUASHED))

    @property
    def tokenizer(self):
        return SimpleNamespace(language=language_of("fr"))

    def caption_arrays(self, squares: np.ndarray) -> list[Captioned]:
        assert squares.shape[1:] == (self.size, self.size, 3)
        self.batches.append(len(squares))
        if (squares == BAD).all(axis=(1, 2, 3)).any():
            raise RuntimeError("bad image")
        word = Word(self.name, 0.5, np.full((2, 2), 0.25, np.float32))
        best = Caption(self.name, (word,), -1.0, float("nan"))
        return [Captioned((best, best, Caption("other", (word,), -2.0, 1.5))) for _ in squares]


class FakeSource:
    def __init__(self) -> None:
        self.wanted: ModelReference | None = None
        self.fetched: list[str] = []
        self.remembered: ModelReference | None = None
        self.away = False

    def want(self, version: str) -> None:
        self.wanted = ModelReference("captioner", version, version)

    def newest(self) -> ModelReference | None:
        if self.away:
            raise RegistryError("the registry does not answer")
        return self.wanted

    def fetch(self, reference: ModelReference) -> Path:
        self.fetched.append(reference.version)
        return Path(reference.version)

    def last_served(self) -> ModelReference | None:
        return self.remembered

    def cached_bundle(self, reference: ModelReference) -> Path:
        return Path(reference.version)

    def record_served(self, reference: ModelReference) -> None:
        self.remembered = reference


def load(folder: Path) -> FakeCaptioner:
    if str(folder) == "broken":
        raise BundleError("damaged")
    return FakeCaptioner(f"model {folder}", size=64 if str(folder) == "large" else 32)


def image(value: int = 0, size: int = 32) -> PreparedImage:
    return PreparedImage(size=size, pixels=bytes([value]) * (3 * size * size))


def engine(source: FakeSource) -> Engine:
    return Engine(source, load, max_batch=4)  # type: ignore[arg-type]


def serving(version: str) -> tuple[Engine, FakeSource]:
    source = FakeSource()
    source.want(version)
    made = engine(source)
    made.refresh()
    return made, source


def test_one_bad_image_does_not_fail_its_batch_mates() -> None:
    made, _ = serving("1")
    results = made.caption([image(1), image(BAD), image(2)])
    assert [result.caption for result in results] == ["model 1", None, "model 1"]
    assert results[1].error and results[1].model_version == "1"


def test_an_outcome_says_how_familiar_its_image_is_where_the_model_knows() -> None:
    made, _ = serving("1")
    assert made.caption([image()])[0].familiar is None
    captioner = made.served.captioner  # type: ignore[union-attr]
    plain = captioner.caption_arrays
    captioner.caption_arrays = lambda squares: [  # type: ignore[method-assign]
        replace(one, familiarity=PhotoFamiliarity(0.25, familiar=False)) for one in plain(squares)
    ]
    (result,) = made.caption([image()])
    assert (result.familiarity, result.familiar) == (0.25, False)


def test_an_image_of_the_wrong_length_is_an_outcome_too() -> None:
    made, _ = serving("1")
    results = made.caption([PreparedImage(size=32, pixels=b"short"), image()])
    assert results[0].caption is None and results[1].caption == "model 1"


def test_every_outcome_names_the_model_that_made_it() -> None:
    made, source = serving("1")
    assert made.caption([image()])[0].model_version == "1"
    source.want("2")
    made.refresh()
    assert made.caption([image()])[0].model_version == "2"
    assert made.describe().previous_version == "1"


def test_going_back_to_the_model_before_needs_no_loading() -> None:
    made, source = serving("1")
    for version in ("2", "1", "2"):
        source.want(version)
        made.refresh()
    assert source.fetched == ["1", "2"]
    assert made.describe().version == "2"


def test_a_model_that_cannot_be_loaded_leaves_the_old_one_in_place() -> None:
    made, source = serving("1")
    source.want("broken")
    made.refresh()
    made.refresh()
    assert made.describe().version == "1"
    assert source.fetched == ["1", "broken"], "and is not read again at once"
    source.want("2")
    made.refresh()
    assert made.describe().version == "2"


def test_what_is_served_says_its_language() -> None:
    assert serving("1")[0].describe().language == "fr"
    assert engine(FakeSource()).describe().language is None, "nothing is served yet"


def test_images_prepared_for_the_model_before_are_made_to_fit() -> None:
    made, source = serving("1")
    source.want("large")
    made.refresh()
    assert made.caption([image(size=32), image(size=64)])[0].caption == "model large"


def test_without_a_model_there_is_no_caption_and_a_reason() -> None:
    made = engine(FakeSource())
    made.refresh()
    assert made.caption([image()])[0].error == "no model is loaded"
    assert not made.describe().ready and made.describe().reason


def test_while_the_first_model_is_loaded_it_says_so() -> None:
    source, descriptions = FakeSource(), []
    source.want("1")

    def slowly(folder: Path):
        descriptions.append(made.describe().reason)
        return load(folder)

    made = Engine(source, slowly, max_batch=4)
    made.refresh()
    assert descriptions == ["version 1 is being loaded"]


def test_a_new_model_is_warmed_up_before_it_serves() -> None:
    made, _ = serving("1")
    assert made.served is not None
    assert made.served.captioner.batches == [1, 2, 4]


def test_alternatives_do_not_repeat_the_caption_and_numbers_are_fractions() -> None:
    made, _ = serving("1")
    result = made.caption([image()])[0]
    assert [other.caption for other in result.alternatives] == ["other"]
    assert result.confidence == 0.0 and result.alternatives[0].confidence == 1.0


def test_a_folder_is_another_model_when_its_link_is_moved(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"name": "captioner"}')
        (tmp_path / name / "checksums.json").write_text(f'{{"model.safetensors": "{name * 64}"}}')
    link = tmp_path / "champion"
    link.symlink_to(tmp_path / "a")
    source = FolderSource(link, Signing())
    first = source.newest()
    link.unlink()
    assert source.newest() is None
    link.symlink_to(tmp_path / "b")
    second = source.newest()
    assert first is not None and second is not None
    assert (first.version, second.version) == ("a" * 12, "b" * 12)


def test_with_the_registry_away_a_restart_serves_what_was_served_last_and_says_so() -> None:
    source = FakeSource()
    source.want("3")
    Engine(source, load).refresh()
    source.away = True
    restarted = Engine(source, load)
    restarted.refresh()
    assert (restarted.describe().version, restarted.describe().ready) == ("3", True)
    assert "registry does not answer" in restarted.describe().notice
    fetched = len(source.fetched)
    source.away = False
    restarted.refresh()
    assert restarted.describe().notice == "" and len(source.fetched) == fetched, "it is the champion still"


def test_with_the_registry_away_and_nothing_served_before_there_is_no_model() -> None:
    source = FakeSource()
    source.away = True
    engine = Engine(source, load)
    engine.refresh()
    assert not engine.describe().ready and "registry does not answer" in engine.describe().reason


def test_what_was_served_last_but_is_damaged_is_not_served() -> None:
    source = FakeSource()
    source.record_served(ModelReference("captioner", "broken", "broken"))
    source.away = True
    engine = Engine(source, load)
    engine.refresh()
    assert not engine.describe().ready and "cannot be loaded" in engine.describe().reason


def test_after_a_rollback_the_version_is_served_since_then() -> None:
    """It said "Since 6:58, after version 2", of a version that took over again at 7:20."""
    made, source = serving("1")
    first = made.describe().loaded_at
    source.want("2")
    made.refresh()
    second = made.describe().loaded_at
    source.want("1")
    made.refresh()
    description = made.describe()
    assert (description.version, description.previous_version) == ("1", "2")
    assert first < second < description.loaded_at


def test_a_version_tells_how_many_photos_it_captioned_since_it_took_over() -> None:
    made, source = serving("1")
    made.caption([image(1), image(BAD), image(2)])
    description = made.describe()
    assert (description.captioned, description.failed, description.server) == (2, 1, made.server)
    source.want("2")
    made.refresh()
    assert (made.describe().captioned, made.describe().failed) == (0, 0)
    source.want("1")
    made.refresh()
    assert made.describe().captioned == 0


def test_a_photo_for_another_version_is_not_captioned_and_not_counted() -> None:
    made, _ = serving("1")
    (result,) = made.caption([image(1).model_copy(update={"version": "7"})])
    assert (result.caption, result.model_version, result.server) == (None, "1", made.server)
    assert (made.describe().captioned, made.describe().failed) == (0, 0)


def test_a_version_that_cannot_be_loaded_is_named_until_another_one_is_wanted() -> None:
    made, source = serving("1")
    source.want("broken")
    made.refresh()
    assert (made.describe().version, made.describe().refused_version) == ("1", "broken")
    source.away = True
    made.refresh()
    assert made.describe().refused_version == "broken"
    source.away = False
    source.want("1")
    made.refresh()
    assert made.describe().refused_version is None
