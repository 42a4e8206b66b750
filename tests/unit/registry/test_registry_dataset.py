import json

import mlflow
import pytest

from captionloop.datasets.model_datasets import (
    CaptionerDataset,
    ModelRegistryDataset,
    RegisteredVersionDataset,
)
from captionloop.provenance.output_records import FileDigests, content_of

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def store(mlflow_store):
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_store)
    yield
    mlflow.set_tracking_uri(before)


def told_of(version, tmp_path) -> RegisteredVersionDataset:
    dataset = RegisteredVersionDataset(filepath=str(tmp_path / "registered_version.json"))
    dataset.save({"name": version.name, "version": version.version, "fingerprint": version.fingerprint})
    return dataset


def test_a_registered_version_is_there_as_long_as_the_registry_in_use_has_it(
    registry, make_bundle, tmp_path, request
):
    dataset = told_of(registry.register(make_bundle()), tmp_path)
    assert dataset.exists()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/another.db")
    assert not dataset.exists()


def test_a_file_that_tells_of_another_model_does_not_count(registry, make_bundle, tmp_path):
    dataset = told_of(registry.register(make_bundle()), tmp_path)
    path = tmp_path / "registered_version.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "of another"}))
    assert not dataset.exists()


def test_the_champion_counts_for_what_begins_with_it_and_for_nothing_else(registry, make_bundle):
    begins = ModelRegistryDataset(name=registry.name, counts="champion")
    decided_against = ModelRegistryDataset(name=registry.name)
    registry.promote(registry.register(make_bundle("one")).version)
    first = content_of(begins, FileDigests())
    assert content_of(begins, FileDigests()) == first
    registry.promote(registry.register(make_bundle("two")).version)
    assert content_of(begins, FileDigests()) != first
    assert content_of(decided_against, FileDigests()) is None


def test_a_captioner_trained_at_another_commit_is_the_same_and_with_other_weights_is_not(make_bundle):
    def digest(name: str, **given) -> str | None:
        return content_of(CaptionerDataset(filepath=str(make_bundle(name, **given))), FileDigests())

    one = digest("one", weights=b"w", commit="abc")
    assert digest("two", weights=b"w", commit="def") == one
    assert digest("three", weights=b"v", commit="abc") != one
    assert digest("four", weights=b"w", beam_width=5) != one
