"""The two BentoML services, a model server and the gateway before it, and how they stop.

Uvicorn stops taking connections the moment it gets the signal, and all processes get it together. The gateway
turns unready first, so that whoever balances load looks elsewhere; the model server stays until no gateway
asks it any more. A second signal stops at once.

    bentoml serve captionloop.serving.service:Gateway

starts both. Where they run apart, `:ModelServer` is served on some machines, and gateways with
`CAPTIONLOOP_MODEL_SERVER` on others.

Settings are read when this module is imported, for BentoML wants to know of workers and batches then.
"""

import gc
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from time import monotonic
from types import FrameType
from typing import Any

import bentoml
import structlog
from opentelemetry import context as trace_context
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from captionloop.paths import make_room_for_sockets
from captionloop.serving import telemetry
from captionloop.serving.batching import Batcher, BatcherFullError
from captionloop.serving.engine import Engine
from captionloop.serving.gateway.app import build_services, create_app
from captionloop.serving.gateway.http_protocol import use_patient_protocol
from captionloop.serving.gateway.middleware import unless_disconnected
from captionloop.serving.gateway.model_client import ModelServerProxy, RemoteModelServers
from captionloop.serving.logs import configure_logs
from captionloop.serving.model_sources import RegistrySource, choose_source, trial_source
from captionloop.serving.schemas import CaptionResult, ModelDescription, PreparedImage
from captionloop.serving.service_settings import Settings
from captionloop.serving.telemetry import (
    read_drift,
    run_periodically,
    show_drift,
    show_retraining,
    trace_requests,
)
from captionloop.serving.trial_serving import TrialServing, in_a_process
from captionloop.vision.runtimes import cores

POLL_SECONDS = 0.05


class GracefulShutdown:
    """Stands between a signal and uvicorn's handler of it.

    Args:
        begin: called at the signal.
        may_stop: asked until it says yes, given the seconds since the signal.
        force_after: seconds after which requests that are still under way are cut off.
    """

    def __init__(
        self,
        begin: Callable[[], None],
        may_stop: Callable[[float], bool],
        *,
        force_after: float | None = None,
    ) -> None:
        self._begin = begin
        self._may_stop = may_stop
        self._force_after = force_after
        self._began: float | None = None
        self._handlers: dict[int, Callable[[int, FrameType | None], object]] = {}

    def install(self) -> None:
        """Take over SIGTERM and SIGINT. Does nothing outside the main thread,
        or where no server handles them.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        stop = self._handlers[number]
        if self._began is not None:
            stop(number, frame)
            return
        self._began = monotonic()
        self._begin()
        threading.Thread(target=self._wait, args=(number,), name="draining", daemon=True).start()

    def _wait(self, number: int) -> None:
        began = self._began or monotonic()
        while not self._may_stop(monotonic() - began):
            threading.Event().wait(POLL_SECONDS)
        self._handlers[number](number, None)
        if self._force_after is None:
            return
        threading.Event().wait(max(0.0, self._force_after - (monotonic() - began)))
        # Uvicorn cuts requests off at a second SIGINT.
        self._handlers.get(signal.SIGINT, self._handlers[number])(signal.SIGINT, None)


logger = structlog.get_logger(__name__)

# Uvicorn believes X-Forwarded-For from this machine unless told otherwise; whom to believe is our own
# setting.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "")

make_room_for_sockets()
use_patient_protocol()
settings = Settings.from_environment()
app = create_app(settings)

_QUIET: dict[str, Any] = {"logging": {"access": {"enabled": False}}, "metrics": {"enabled": False}}
_BATCHES_WAITING = 16
_MOST_STREAMS = 4
_GATEWAY_GONE_SECONDS = 3.0
"""The gateway asks every second; when it has not for so long, it has stopped."""


def _warn_of_unknown_variables() -> None:
    for line in Settings.misspelt():
        logger.warning("unknown variable", reason=line)


@bentoml.service(
    name="captionloop-model", workers=settings.model_workers, threads=1, traffic={"timeout": 60}, **_QUIET
)
class ModelServer:
    """Captions prepared images, put together to batches, with the model that should be served."""

    def __init__(self) -> None:
        configure_logs(settings.log_level, "model")
        _warn_of_unknown_variables()
        from captionloop.captioner.model_memory import load_where_it_fits

        self._last_described = monotonic()
        source = choose_source(settings)
        streams = _share_out_cores(settings.model_streams)
        load = partial(load_where_it_fits, streams=streams, batch=settings.max_batch)
        self._engine = Engine(source, load, max_batch=settings.max_batch)
        self._batcher = Batcher(
            self._engine.caption,
            largest=settings.max_batch,
            capacity=_BATCHES_WAITING * settings.max_batch,
            streams=streams,
        )
        self._engine.follow(settings.follow_seconds)
        self._trial = self._make_trial_serving()
        self._stopping = False
        GracefulShutdown(self._stop, self._may_stop).install()
        if isinstance(source, RegistrySource):
            run_periodically(lambda: show_retraining(source.last_registered, source.last_ended))
        if settings.metrics_port and bentoml.server_context.worker_index == 1:
            telemetry.serve_metrics(settings.metrics_port)
        _freeze_garbage_collector()

    def _make_trial_serving(self) -> TrialServing | None:
        """What serves a version that is tried beside the champion, where a registry may name one."""
        source = trial_source(settings)
        if source is None:
            return None
        trial = TrialServing(
            source,
            in_a_process(settings.max_batch, settings.log_level),
            max_batch=settings.max_batch,
            champion_waits=lambda: self._batcher.waiting > 0,
        )
        trial.follow(settings.follow_seconds)
        return trial

    async def __is_ready__(self) -> bool:
        """For `/readyz`, which balancers ask where model servers run apart."""
        return self._engine.served is not None and not self._stopping

    @bentoml.api  # type: ignore[untyped-decorator]
    async def caption(self, image: PreparedImage, ctx: bentoml.Context) -> CaptionResult:
        """The image's outcome, captioned together with whatever else is waiting."""
        try:
            with telemetry.QUEUE.track_inprogress():
                result = await unless_disconnected(ctx.request, self._captioned(image))
        except ClientDisconnect:
            raise bentoml.exceptions.ServiceUnavailable("the caller has given up") from None
        except BatcherFullError as error:
            raise bentoml.exceptions.ServiceUnavailable(str(error)) from error
        if not result.model_name:
            _answer_unavailable(ctx)
        return result

    async def _captioned(self, image: PreparedImage) -> CaptionResult:
        """By the version that is tried where that is asked for and answers, else by the champion."""
        if self._trial is not None and (trial_result := await self._trial.caption(image)) is not None:
            return trial_result
        result = await self._batcher.submit(image)
        if self._trial is not None:
            self._trial.shadow(image, result)
        return result

    @bentoml.api  # type: ignore[untyped-decorator]
    async def describe(self, ctx: bentoml.Context) -> ModelDescription:
        """What is being served, or why nothing is."""
        self._last_described = monotonic()
        description = self._engine.describe()
        if self._trial is not None:
            description = description.model_copy(update={"trial": self._trial.describe()})
        if not description.ready:
            _answer_unavailable(ctx)
        return description

    def _stop(self) -> None:
        self._stopping = True
        self._engine.stop()
        if self._trial is not None:
            self._trial.stop()

    def _may_stop(self, seconds: float) -> bool:
        is_gateway_gone = monotonic() - self._last_described > _GATEWAY_GONE_SECONDS
        return is_gateway_gone or seconds > settings.drain_seconds + settings.stop_seconds + 1


def _share_out_cores(streams: int) -> int:
    """How many batches to caption at once; PyTorch is told how many threads that leaves for each.

    Two batches with a core each take less time than one after the other with both: no thread waits for
    another at the end of every small product. On a GPU one batch at a time fills it.
    """
    import torch

    if torch.cuda.is_available():
        return streams or 1
    streams = streams or min(_MOST_STREAMS, cores())
    torch.set_num_threads(max(1, cores() // streams))
    return streams


def _answer_unavailable(ctx: bentoml.Context) -> None:
    """Answers 503 where model servers run apart, so that a load balancer asks the next one.

    A gateway beside its only model server reads the answer itself: BentoML keeps an error's body from it.
    """
    if bentoml.server_context.service_type == "entry_service":
        ctx.response.status_code = HTTPStatus.SERVICE_UNAVAILABLE


def _freeze_garbage_collector() -> None:
    """Excludes the objects of the start-up (more than a hundred thousand) from garbage collection."""
    gc.collect()
    gc.freeze()


class _GatewayFirst:
    """Sends every request to our application: none of BentoML's own pages is exposed.

    BentoML's own trace of the request ends here: it decides what is not recorded, and ours would follow it.
    """

    def __init__(self, bento_app: ASGIApp) -> None:
        self._bento_app = bento_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._bento_app(scope, receive, send)
            return
        token = trace_context.attach(trace_context.Context())
        try:
            await app(scope, receive, send)
        finally:
            trace_context.detach(token)


@bentoml.service(
    name="captionloop",
    workers=settings.gateway_workers,
    traffic={"timeout": 3600},  # our own deadlines are shorter, and answer with a problem document
    **_QUIET,
)
@bentoml.asgi_app(app, path="/")
class Gateway:
    """The REST API and the web page."""

    # With an address, BentoML starts no model server beside the gateway.
    model = bentoml.depends(ModelServer, url=settings.model_server.get_secret_value() or None)

    def __init__(self) -> None:
        configure_logs(settings.log_level, "gateway")
        _warn_of_unknown_variables()
        trace_requests(app, "captionloop-gateway")
        url = settings.model_server.get_secret_value()
        services = build_services(settings, RemoteModelServers(url) if url else ModelServerProxy(self.model))
        app.state.services = services
        run_periodically(lambda: show_drift(read_drift(settings)))

        def begin() -> None:
            services.is_stopping = True

        GracefulShutdown(
            begin,
            lambda seconds: seconds >= settings.drain_seconds,
            force_after=settings.drain_seconds + settings.stop_seconds,
        ).install()
        _freeze_garbage_collector()


Gateway.add_asgi_middleware(_GatewayFirst)  # type: ignore[attr-defined]
