"""Charts rendered as Kubernetes would get them, by Helm's own code.

That code is a Go library, and Go's runtime takes a process's signals for itself (SIGPIPE among them): it
lives in a process of its own, so that no other test meets them.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

if find_spec("helm_python") is None:
    pytest.skip("needs the package helm-python-sdk", allow_module_level=True)

T = TypeVar("T")


class ChartError(Exception):
    """What Helm says of a chart, or of values that do not fit it."""


@cache
def _helm() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))


@cache
def _chart(folder: Path) -> Any:
    import helm_python

    return helm_python.Chart.load(str(folder))


def _fit(folder: Path, values: dict[str, Any]) -> None:
    _chart(folder).validate_schema(values)


def _render(folder: Path, values: dict[str, Any], name: str) -> dict[str, str]:
    _fit(folder, values)
    return dict(_chart(folder).render(values, name=name, namespace="captionloop"))


def _lint(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    import helm_python

    return helm_python.lint(str(folder), values, strict=True, quiet=True, kube_version="v1.33.0")


def _answered(function: Callable[..., T], *arguments: Any) -> T:
    import helm_python

    try:
        return function(*arguments)
    except helm_python.HelmError as error:  # of a class that only this process has
        raise ChartError(str(error)) from None


def fit(folder: Path, values: dict[str, Any]) -> None:
    """Nothing, where the values fit the chart's schema; a ChartError otherwise."""
    _helm().submit(_answered, _fit, folder, values).result()


def lint(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """What `helm lint --strict` says of a chart with these values: `messages` and `errors`."""
    return _helm().submit(_answered, _lint, folder, values).result()


def manifests_of(folder: Path, values: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The manifests of a release of a chart; the values must fit its schema."""
    rendered = _helm().submit(_answered, _render, folder, values, name).result()
    return [
        found
        for path, text in rendered.items()
        if path.endswith(".yaml")
        for found in yaml.load_all(text, yaml.CSafeLoader)
        if found
    ]
