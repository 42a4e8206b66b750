"""Runs an encoder on this machine: uint8 pixels `[B, S, S, 3]` in, float16 grids `[B, R, C]` out.

OpenVINO on a CPU, PyTorch on a GPU, and eager PyTorch where neither is at hand. Each takes raw pixels and
gives float16 grids: normalisation is part of the compiled graph.
"""

import copy
import importlib.util
import logging
import math
import os
import sys
import threading
import warnings
from functools import cache, lru_cache
from pathlib import Path
from queue import LifoQueue
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np

from captionloop.errors import ConfigurationError, in_a_line
from captionloop.hardware import (
    Precision,
    bfloat16_is_fast,
    has_avx512,
    precision_here,
    warn_float32_fallback,
)
from captionloop.images import Pixels
from captionloop.vision.architectures import is_of_timm
from captionloop.vision.encoder import Encoder

if TYPE_CHECKING:
    from captionloop.vision.feature_rows import Grids

Purpose = Literal["latency", "throughput"]

logger = logging.getLogger(__name__)

CPU_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")
CPU_BATCH: Final = 16
GPU_BATCH: Final = 256


class EncoderRuntime(Protocol):
    """Pixels to grids.

    Attributes:
        name: engine and device, for people.
        precision: what it computes in; float32 where bfloat16 is asked for and does not work.
        batch_size: the number of images at a time at which it is fastest.
        workers: how many threads should call `encode` at once to keep the machine busy.
    """

    name: str
    precision: Precision
    batch_size: int
    workers: int

    def encode(self, batch: Pixels) -> "Grids":
        """Images uint8 `[B, S, S, 3]` to grids float16 `[B, R, C]`; safe to call from several threads."""


def make_runtime(
    encoder: Encoder,
    *,
    device: str | None = None,
    purpose: Purpose = "latency",
    engine: str | None = None,
    streams: int = 1,
) -> EncoderRuntime:
    """The fastest runtime that this machine has for an encoder.

    `device` is `cpu`, `cuda` or None for what is there. With `latency` a call of few images costs little, and
    the cores are shared out among so many `streams`, calls at once; with `throughput` every call computes a
    full batch on one core, and there are as many streams as cores. `engine` is `openvino`, `torch` or None.

    Raises:
        ConfigurationError: the device or engine is not available.
    """
    device = device or _best_device()
    if device.startswith("cuda"):
        return TorchRuntime(encoder, device, GPU_BATCH)
    if device != "cpu":
        raise ConfigurationError(f"unknown device '{device}'; use cpu or cuda")
    if engine is None:
        engine = "openvino" if _openvino_is_there() and _converts(encoder) else "torch"
    if engine == "openvino":
        return OpenVinoRuntime(encoder, purpose, streams)
    if engine == "torch":
        return TorchRuntime(encoder, device, CPU_BATCH)
    raise ConfigurationError(f"unknown engine '{engine}'; use openvino or torch")


def _converts(encoder: Encoder) -> bool:
    """Whether OpenVINO takes the encoder: all of torchvision's; timm and transformers have a thousand.

    Where the processor has no AVX-512, PyTorch computes those: OpenVINO ended the process on small Swin and
    DaViT towers there, and that cannot be caught.
    """
    architecture = encoder.spec.architecture
    of_timm = is_of_timm(architecture)
    if (of_timm or architecture.startswith("transformers/")) and not has_avx512():
        logger.info("PyTorch computes encoder %s on a processor without AVX-512", architecture)
        return False
    if not of_timm:
        return True
    try:
        _graph(encoder)
    except Exception as error:  # whatever its converter raises
        logger.warning(
            "OpenVINO cannot convert encoder %s (%s): PyTorch computes it",
            encoder.spec.architecture,
            in_a_line(error),
        )
        return False
    return True


def native_precision(device: str | None = None) -> Precision:
    """The precision this machine is fastest in: bfloat16 on GPUs and on CPUs with instructions for it."""
    device = device or _best_device()
    if device.startswith("cuda"):
        return "bfloat16" if bfloat16_is_fast("cuda") else "float32"
    return "bfloat16" if _openvino_is_there() and _openvino_does_bfloat16() else "float32"


def usable_precision(wanted: Precision, device: str | None = None) -> Precision:
    """The precision in which this machine's runtime computes an encoder that asks for this one."""
    device = device or _best_device()
    if device.startswith("cuda") or not _openvino_is_there():
        return precision_here(wanted, device.partition(":")[0])
    if wanted == "bfloat16" and not _openvino_does_bfloat16():
        warn_float32_fallback("OpenVINO", device)
        return "float32"
    return wanted


def cores() -> int:
    """The CPU cores that this process may use: those it may run on, no more than its container's share."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, _container_cores(CPU_QUOTA))))


def _container_cores(quota: Path) -> float:
    """The limit that a container has been set (cgroup v2), in cores; infinite without one."""
    try:
        microseconds, period = quota.read_text(encoding="ascii").split()
        return int(microseconds) / int(period)
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return math.inf


class OpenVinoRuntime:
    """OpenVINO on the CPU, with graphs of fixed batch size: no image's numbers depend on its neighbours."""

    def __init__(self, encoder: Encoder, purpose: Purpose, streams: int) -> None:
        self.precision = usable_precision(encoder.spec.precision, "cpu")
        self.name = f"OpenVINO {self.precision} on {cores()} CPU cores"
        self.batch_size = CPU_BATCH
        self.workers = cores() if purpose == "throughput" else streams
        self._purpose = purpose
        self._encoder = encoder
        self._requests: dict[int, LifoQueue[Any]] = {}
        self._compiling = threading.Lock()

    def encode(self, batch: Pixels) -> "Grids":  # noqa: D102
        spec = self._encoder.spec
        if batch.shape[1:] != (spec.input_size, spec.input_size, 3) or batch.dtype != np.uint8:
            raise ValueError(
                f"expected uint8 [B, {spec.input_size}, {spec.input_size}, 3], got {batch.shape}"
            )
        parts = [self._infer(batch[at : at + CPU_BATCH]) for at in range(0, len(batch), CPU_BATCH)]
        return (
            np.concatenate(parts)
            if parts
            else np.empty((0, self._encoder.regions, self._encoder.channels), np.float16)
        )

    def _infer(self, batch: Pixels) -> "Grids":
        count = len(batch)
        size = CPU_BATCH if self._purpose == "throughput" else 1 << (count - 1).bit_length()
        if count < size:
            batch = np.concatenate([batch, np.zeros((size - count, *batch.shape[1:]), np.uint8)])
        idle = self._requests_for(size)
        request = idle.get()
        try:
            result: Grids = request.infer([np.ascontiguousarray(batch)], share_inputs=True)[0][:count].copy()
        finally:
            idle.put(request)
        return result

    def _requests_for(self, size: int) -> "LifoQueue[Any]":
        with self._compiling:
            if size not in self._requests:
                compiled = self._compile(size)
                idle: LifoQueue[Any] = LifoQueue()
                for _ in range(self.workers):
                    idle.put(compiled.create_infer_request())
                self._requests[size] = idle
            return self._requests[size]

    def _compile(self, size: int) -> Any:
        graph = _graph(self._encoder).clone()
        graph.reshape([size, self._encoder.spec.input_size, self._encoder.spec.input_size, 3])
        config = {
            "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bfloat16" else "f32",
            "PERFORMANCE_HINT": self._purpose.upper(),
            "NUM_STREAMS": self.workers,
            "INFERENCE_NUM_THREADS": cores(),
        }
        return _openvino().Core().compile_model(graph, "CPU", config)


class TorchRuntime:
    """Eager PyTorch, channels last: the engine for GPUs, and the fallback on CPUs."""

    def __init__(self, encoder: Encoder, device: str, batch_size: int) -> None:
        import torch

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigurationError(
                f"device '{device}' was asked for, but this machine has no usable GPU; use cpu"
            )
        self.precision = precision_here(encoder.spec.precision, device.partition(":")[0])
        self.name = f"PyTorch {self.precision} on {_device_name(device)}"
        self.batch_size = batch_size
        self.workers = (
            min(8, cores()) if device.startswith("cuda") else 2
        )  # one decodes while the other encodes
        self._device = torch.device(device)
        module = copy.deepcopy(encoder.module).eval().requires_grad_(requires_grad=False)
        self._module = module.to(self._device).to(memory_format=torch.channels_last)
        fed = encoder.spec.preprocessing
        self._mean = torch.tensor(fed.mean, device=self._device).view(1, 3, 1, 1) * 255
        self._deviation = torch.tensor(fed.deviation, device=self._device).view(1, 3, 1, 1) * 255

    def encode(self, batch: Pixels) -> "Grids":  # noqa: D102
        import torch

        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bfloat16"),
        ):
            pixels = (
                torch.from_numpy(np.array(batch)).to(self._device).permute(0, 3, 1, 2)
            )  # a channels-last view
            grids = self._module((pixels.float() - self._mean) / self._deviation)
            result: Grids = grids.to(torch.float16).cpu().numpy()
        return result


@lru_cache(maxsize=1)  # a champion and its successor mostly share their encoder
def _graph(encoder: Encoder) -> Any:
    """The encoder as an OpenVINO model from uint8 `[B, S, S, 3]` to float16 `[B, R, C]`, of dynamic batch."""
    openvino = _openvino()
    import torch

    size = encoder.spec.input_size
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing is deprecated in PyTorch, and what OpenVINO converts from
        model = openvino.convert_model(encoder.module, example_input=torch.zeros(2, 3, size, size))
    model.reshape([-1, 3, size, size])
    graph = openvino.preprocess.PrePostProcessor(model)
    graph.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    graph.input().model().set_layout(openvino.Layout("NCHW"))
    steps = graph.input().preprocess().convert_element_type(openvino.Type.f32)
    fed = encoder.spec.preprocessing
    steps.mean([255 * value for value in fed.mean]).scale([255 * value for value in fed.deviation])
    graph.output().tensor().set_element_type(openvino.Type.f16)
    return graph.build()


@cache
def _openvino_is_there() -> bool:
    return importlib.util.find_spec("openvino") is not None


@cache
def _openvino() -> Any:
    """The module, which would report each import and each conversion to Google Analytics if it could."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # what Python takes for missing
    import openvino
    import openvino.preprocess

    return openvino


@cache
def _openvino_does_bfloat16() -> bool:
    """Whether the processor has instructions for it, and OpenVINO a convolution that uses them.

    It lists what the processor has; held to older instructions (`ONEDNN_MAX_CPU_ISA`) it compiles no graph.
    """
    openvino = _openvino()
    core = openvino.Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return False
    from openvino import opset13

    pixels = opset13.parameter([1, 16, 8, 8], np.float32)
    kernel = opset13.constant(np.zeros((16, 16, 3, 3), np.float32))
    layer = opset13.convolution(pixels, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    try:
        core.compile_model(
            openvino.Model([opset13.relu(layer)], [pixels]), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"}
        )
    except RuntimeError:
        return False
    return True


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{cores()} CPU cores"
