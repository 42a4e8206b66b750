"""When a retraining last came to its end, whatever came of it, as a tag of the registered model.

The registry is what pipelines and service both reach: so monitoring can tell a loop that stands still from
one that has nothing to do. A run that ends with too few ratings counts, a run that hangs does not.
"""

from datetime import UTC, datetime
from typing import Final

from captionloop.errors import RegistryError
from captionloop.registry import tracking
from captionloop.registry.model_registry import ModelRegistry

TAG: Final = "captionloop.retraining_ended"


def note_end(registry: ModelRegistry, moment: datetime | None = None) -> datetime:
    """Notes that a retraining ended now (or then), and gives the moment. Raises `RegistryError`."""
    if not tracking.exists(registry.tracking_uri):
        raise RegistryError(f"there is no MLflow store in {tracking.without_password(registry.tracking_uri)}")
    ended = moment or datetime.now(UTC)
    with tracking.readable_errors(f"note that a retraining of {registry.name} ended"):
        tracking.connect(registry.tracking_uri).set_registered_model_tag(
            registry.name, TAG, ended.isoformat()
        )
    return ended


def last_end(registry: ModelRegistry) -> datetime | None:
    """When a retraining last ended, or None: none ever did. Raises `RegistryError`."""
    if not tracking.exists(registry.tracking_uri):
        return None
    name = registry.name.replace("'", "''")
    with tracking.readable_errors(f"ask when a retraining of {registry.name} ended"):
        models = tracking.connect(registry.tracking_uri).search_registered_models(f"name = '{name}'")
    moments = [model.tags[TAG] for model in models if TAG in model.tags]
    return datetime.fromisoformat(moments[0]) if moments else None
