"""Routes about the service itself: model, statistics, health, metrics."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Query
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import FiniteFloat, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from captionloop.ratings.database import SchemaError
from captionloop.ratings.rating_store import RatingsStore
from captionloop.ratings.usage_statistics import Statistics, Tally, statistics
from captionloop.serving import telemetry
from captionloop.serving.gateway.auth import CREDENTIALS
from captionloop.serving.gateway.caption_routes import problems
from captionloop.serving.gateway.dependencies import CallerDep, CountedRoute, ServicesDep
from captionloop.serving.gateway.model_servers import ModelServers
from captionloop.serving.gateway.problems import Problem
from captionloop.serving.gateway.storage import HEALTH_SECONDS, ask
from captionloop.serving.schemas import (
    DayBody,
    IntervalBody,
    KeepingBody,
    ModelBody,
    ModelServerBody,
    StatisticsBody,
    TallyBody,
    VersionBody,
)

logger = structlog.get_logger(__name__)
router = APIRouter()
counted = APIRouter(route_class=CountedRoute, dependencies=CREDENTIALS)

_METRIC: TypeAdapter[IntervalBody | float] = TypeAdapter(IntervalBody | FiniteFloat)


@counted.get(
    "/v1/model",
    response_model=ModelBody,
    tags=["insight"],
    summary="What is being served",
    responses=problems(401, 429, 503),
)
async def read_model(services: ServicesDep) -> ModelBody:
    """The version, its metrics and lineage, its card, and which version each model server serves.

    Where several model servers serve different versions, as while another one takes over, what is told of the
    model is of the server that was asked last.
    """
    model = services.model.require()
    description = model.model_dump(exclude={"ready", "reason", "metrics", "server", "trial"})
    keeping = KeepingBody(
        keep=services.settings.keep,
        unrated_days=services.settings.retention_unrated_days,
        rated_days=services.settings.retention_rated_days,
    )
    return ModelBody.model_validate(
        {
            **description,
            "metrics": numeric_metrics(model.metrics),
            "keeping": keeping,
            "servers": server_bodies(services.model.servers),
        }
    )


@counted.get(
    "/v1/statistics",
    response_model=StatisticsBody,
    tags=["insight"],
    summary="Ratings over time and by model version",
    responses=problems(401, 422, 429, 503),
)
async def read_statistics(
    services: ServicesDep,
    caller: CallerDep,
    days: Annotated[int, Query(ge=1, le=365, description="how far to look back, today included")] = 30,
) -> StatisticsBody:
    """Sums only: nobody's rating can be told from another's. Without a key they may be a minute old."""
    if caller.has_key:
        return _statistics_body(days, await services.read(statistics, services.store.reader, days))
    return _statistics_body(days, await services.statistics.get(days))


@router.get("/livez", tags=["health"], summary="Does the process run")
async def livez() -> dict[str, str]:
    """200 for as long as it answers at all."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    tags=["health"],
    summary="Can it caption",
    responses={503: {"description": "not at the moment"}},
)
async def readyz(services: ServicesDep) -> JSONResponse:
    """503 while starting, while the model or the database is away,
    and from the moment a stop was asked for.
    """
    reason = ""
    if services.is_stopping:
        reason = "stopping"
    elif not services.model.latest.ready:
        reason = services.model.latest.reason or "no model is loaded"
    else:
        reason = await services.database_trouble.get()
    content = {"status": "not ready", "reason": reason} if reason else {"status": "ready"}
    return JSONResponse(content, 503 if reason else 200, {"Retry-After": "5"} if reason else None)


async def database_trouble(store: RatingsStore) -> str:
    """Why the database cannot be used, or nothing; what to run is told to whoever reads the log as well."""
    try:
        async with asyncio.timeout(HEALTH_SECONDS):
            await ask(store.check)
    except SchemaError as error:
        logger.warning("not ready", reason=str(error))
        return str(error)
    except (Problem, TimeoutError):
        return "the ratings database does not answer"
    return ""


@router.get("/metrics", tags=["health"], summary="Prometheus metrics", response_class=Response)
async def read_metrics(services: ServicesDep) -> Response:
    """Of the gateway and of the model server beside it."""
    return Response(await services.metrics.get(), media_type=CONTENT_TYPE_LATEST)


async def exposition() -> bytes:
    """All metrics as Prometheus reads them."""
    return await run_in_threadpool(telemetry.exposition)


def server_bodies(servers: ModelServers) -> list[ModelServerBody]:
    """The model servers as bodies of the API."""
    return [
        ModelServerBody(
            server=seen.server,
            version=seen.version,
            seconds_ago=round(seconds, 3),
            captioned=seen.captioned,
            failed=seen.failed,
            refused_version=seen.refused_version,
            trial=seen.trial,
        )
        for seen, seconds in servers.recent()
    ]


def numeric_metrics(by_name: Mapping[str, Any]) -> dict[str, IntervalBody | float]:
    """The numeric metrics of a bundle; others (split, training notes) are left out."""
    numbers = {}
    for name, metric in by_name.items():
        with contextlib.suppress(ValidationError):
            numbers[name] = _METRIC.validate_python(metric)
    return numbers


def _statistics_body(days: int, totals: Statistics) -> StatisticsBody:
    return StatisticsBody.model_validate(
        {
            "days": days,
            "from": totals.first,
            "to": totals.last,
            "totals": _tally(totals.totals),
            "by_day": [
                DayBody(
                    date=day.date,
                    captions=day.captions,
                    ratings=day.ratings,
                    corrections=day.corrections,
                    mean_stars=day.mean_stars,
                )
                for day in totals.by_day
            ],
            "by_version": [
                VersionBody(version=version, **_tally(tally).model_dump())
                for version, tally in totals.by_version
            ],
        }
    )


def _tally(tally: Tally) -> TallyBody:
    return TallyBody(
        captions=tally.captions,
        ratings=tally.ratings,
        corrections=tally.corrections,
        mean_stars=tally.mean_stars,
        mean_confidence=tally.mean_confidence,
        stars={str(stars): count for stars, count in tally.stars.items()},
    )
