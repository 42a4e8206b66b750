import pytest

from captionloop.errors import RegistryError
from captionloop.registry.model_registry import ModelRegistry, base_captioner
from captionloop.registry.model_version import ModelVersion


class Registry(ModelRegistry):
    """Versions by number with their parents; None for those that the corpus alone taught."""

    def __init__(self, parents):
        self._parents = parents
        self.name = "captioner"

    def versions(self):
        return [
            ModelVersion(
                "captioner", number, "", None, "", "",
                lineage={"feedback_until": "2026-11-20", "parent_version": str(parent)} if parent else {},
            )
            for number, parent in self._parents.items()
        ]  # fmt: skip


def test_what_the_corpus_taught_is_its_own_origin() -> None:
    registry = Registry({1: None, 2: 1, 3: None})
    assert base_captioner(registry.version(3), registry).version == 3


def test_the_origin_is_found_through_generations() -> None:
    registry = Registry({1: None, 2: 1, 3: 2})
    assert base_captioner(registry.version(3), registry).version == 1


def test_a_circle_ends() -> None:
    registry = Registry({1: 2, 2: 1})
    assert base_captioner(registry.version(2), registry).version in {1, 2}


def test_an_origin_that_is_gone_is_said() -> None:
    registry = Registry({2: 1})
    with pytest.raises(RegistryError, match="no captioner 1 in the registry"):
        base_captioner(registry.version(2), registry)
