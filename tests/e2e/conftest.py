"""One real service for all end-to-end tests that do not need to break it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import any_postgres, postgres, redis  # noqa: F401 - fixtures
from service_process import PAGE_ELSEWHERE, ServiceProcess, make_bundle
from span_collector import SpanCollector
from web_page import built_page


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three tiny models; the third sees larger squares than the others."""
    folder = tmp_path_factory.mktemp("bundles")
    return [make_bundle(folder / str(seed), seed=seed, input_size=64 + 32 * (seed == 2)) for seed in range(3)]


@pytest.fixture(scope="session")
def champion(tmp_path_factory: pytest.TempPathFactory, bundles: list[Path]) -> Path:
    """A link to the model that the session's service serves."""
    link = tmp_path_factory.mktemp("champion") / "champion"
    link.symlink_to(bundles[0])
    return link


@pytest.fixture(scope="session")
def page_folder() -> Path | None:
    """The built web page, if it is built, or can be."""
    return built_page()


@pytest.fixture(scope="session")
def collector() -> Iterator[SpanCollector]:
    running = SpanCollector()
    yield running
    running.close()


@pytest.fixture(scope="session")
def service(
    tmp_path_factory: pytest.TempPathFactory,
    champion: Path,
    page_folder: Path | None,
    collector: SpanCollector,
) -> Iterator[ServiceProcess]:
    running = ServiceProcess(
        tmp_path_factory.mktemp("service"),
        CAPTIONLOOP_MODEL=str(champion),
        CAPTIONLOOP_PAGE=str(page_folder or ""),
        CAPTIONLOOP_UPLOAD_SECONDS="4",
        CAPTIONLOOP_CORS_ORIGINS=PAGE_ELSEWHERE,
        CAPTIONLOOP_CAPTIONS_AT_ONCE="48",
        CAPTIONLOOP_KEY_CAPTIONS_PER_MINUTE="20",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="300",
    )
    try:
        yield running.wait_until_ready()
    finally:
        running.stop()
