"""Which version a version descends from.

A retrained version descends from one that was taught by the corpus alone. Every retraining begins there,
with all the ratings there are: teaching generation upon generation would learn the early ratings by heart,
and what people have erased would live on in the weights.
"""

from captionloop.registry.model_registry import ModelRegistry
from captionloop.registry.model_version import ModelVersion


def origin_of(version: ModelVersion, registry: ModelRegistry) -> ModelVersion:
    """The version itself, or the one that it was retrained from.

    Raises:
        RegistryError: that one is not in the registry any more.
    """
    seen = {version.version}
    while version.lineage.get("feedback_until") and version.lineage.get("parent_version"):
        version = registry.version(version.lineage["parent_version"])
        if version.version in seen:  # written by hand, for nobody is one's own ancestor
            break
        seen.add(version.version)
    return version
