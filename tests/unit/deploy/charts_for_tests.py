"""Charts rendered as Kubernetes would get them."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

helm = pytest.importorskip("helm_python", reason="needs the package helm-python-sdk")


@cache
def chart(folder: Path) -> Any:
    """A chart, read once."""
    return helm.Chart.load(str(folder))


def manifests_of(folder: Path, values: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The manifests of a release of a chart; the values must fit its schema."""
    chart(folder).validate_schema(values)
    rendered = chart(folder).render(values, name=name, namespace="captionloop")
    return [
        found
        for path, text in rendered.items()
        if path.endswith(".yaml")
        for found in yaml.load_all(text, yaml.CSafeLoader)
        if found
    ]
