"""A real service for tests: `bentoml serve` in processes of its own, before a tiny real model."""

import contextlib
import io
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

SENTENCES = ["a red square on the left", "a blue circle above a green square", "two yellow circles"]
PAGE_ELSEWHERE = "https://app.example"
"""An origin whose pages may call the session's service."""
SERVICE = "captionloop.serving.service:Gateway"


def make_bundle(folder: Path, *, seed: int = 0, input_size: int = 64, language: str = "en") -> Path:
    """A captioner with random weights: it says nonsense, but it says it through the whole machinery."""
    import torch

    from captionloop.captioner.captioner import Captioner
    from captionloop.captioner.decoders import build_decoder
    from captionloop.captioner.model_config import DecodingOptions, ShowAttendTellConfig
    from captionloop.languages import language_of
    from captionloop.tokenizer import CaptionTokenizer
    from captionloop.vision.embedding import Familiarity
    from captionloop.vision.encoder import Encoder, EncoderSpec

    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=input_size), None, seed=seed)
    tokenizer = CaptionTokenizer.train(SENTENCES, min_frequency=1, language=language_of(language))
    sizes = ShowAttendTellConfig(embedding=16, hidden=16, attention_size=16)
    with torch.random.fork_rng(devices=[]):  # whatever test ran before, the model says the same
        torch.manual_seed(seed)
        decoder = build_decoder(sizes, vocabulary_size=tokenizer.vocabulary_size, channels=encoder.channels)
    captioner = Captioner(
        name=f"tiny-{seed}",
        encoder=encoder,
        decoder=decoder,
        tokenizer=tokenizer,
        # Several words, all different: the page's tests point at the first, and at the second.
        decoding=DecodingOptions(beam_width=3, min_length=4, max_length=8, no_repeat_ngram=1),
        # In the form in which evaluation and training leave them.
        metrics={
            "CIDEr": {"value": 0.1, "low": 0.05, "high": 0.2},
            "BLEU-4": {"value": 0.02, "low": 0.01, "high": 0.03},
            "length": {"value": 8.0, "low": 7.5, "high": 8.0},
            "split": "test",
            "photos": 12,
            "calibration_error": {"before": 0.2, "after": 0.1},
        },
        lineage={"corpus_sha256": "0" * 64, "parent": None, "training": {"seed": seed, "views": ["whole"]}},
        card="# A tiny model\n\nIt is not for anything.\n\n| x100 | value |\n|---|---:|\n| CIDEr | 10.0 |\n",
    )
    embeddings = [one.embedding for one in captioner.caption([photo(number) for number in range(60)])]
    known = Familiarity.learn(np.stack(embeddings[:48]), np.stack(embeddings[48:]))
    # What else is noise is like these; a flat colour is not.
    replace(captioner, familiarity=replace(known, threshold=1.25 * known.threshold)).save(folder)
    return folder


def photo(seed: int = 0, size: tuple[int, int] = (320, 240), kind: str = "JPEG", **options) -> bytes:
    """Noise, as an image file."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1] // 8, size[0] // 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(buffer, kind, **options)
    return buffer.getvalue()


def free_port() -> int:
    """A port that nobody listens at.

    Below those that the system gives to whatever connects (Linux: from 32768): one of those can be taken
    before the server binds it, and Kedro-Viz refuses ports above 49151.
    """
    while True:
        port = secrets.randbelow(12768) + 20000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class ServiceProcess:
    """`bentoml serve` with settings of its own.

    Args:
        folder: its working folder, state and log.
        what: service or Bento to serve.
        port: where; a free one if not given.
        python: the interpreter whose environment it runs in; ours if not given.
        settings: environment variables.
    """

    def __init__(
        self,
        folder: Path,
        what: str = SERVICE,
        port: int | None = None,
        python: Path | None = None,
        **settings: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "service.log"
        self.state = Path(settings.get("CAPTIONLOOP_STATE", folder / "state"))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CAPTIONLOOP_")}
        environment = {
            **inherited, "DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "True", "OMP_NUM_THREADS": "1",
            "BENTOML_HOME": str(folder / "bentoml"), "CAPTIONLOOP_STATE": str(self.state),
            "CAPTIONLOOP_ANONYMOUS_CAPTIONS_PER_MINUTE": "1000000", "CAPTIONLOOP_FOLLOW_SECONDS": "0.3",
            **settings,
        }  # fmt: skip
        self._folder, self._environment = folder, environment
        self._command = [
            str(python or sys.executable),
            "-m",
            "bentoml",
            "serve",
            what,
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        self.start()

    def start(self) -> None:
        """Start it, for the first time or after it was killed."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def wait_until_ready(self, seconds: float = 300) -> "ServiceProcess":
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return self
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        self.kill()
        raise AssertionError(f"the service did not get ready:\n{self.log.read_text()[-4000:]}")

    def processes(self) -> list[int]:
        """The arbiter and its workers."""
        import psutil

        try:
            parent = psutil.Process(self._process.pid)
            return [parent.pid, *(child.pid for child in parent.children(recursive=True))]
        except psutil.NoSuchProcess:
            return []

    def memory(self) -> int:
        """Bytes that the gateway and the model server hold."""
        import psutil

        return sum(psutil.Process(pid).memory_info().rss for pid in self.processes())

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        return self._process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL to all its processes at once."""
        for pid in self.processes():  # workers are leaders of sessions of their own
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
        self.kill()


@contextmanager
def gateways(
    folder: Path, database: str, bundle: Path, how_many: int, **settings: str
) -> Iterator[list[ServiceProcess]]:
    """Services on the same database and photo archive (`folder / "photos"`), each with a model server."""
    running = [
        ServiceProcess(
            folder / str(number),
            CAPTIONLOOP_MODEL=str(bundle),
            CAPTIONLOOP_DATABASE=database,
            CAPTIONLOOP_PHOTOS=str(folder / "photos"),
            **settings,
        )
        for number in range(how_many)
    ]
    try:
        yield [process.wait_until_ready() for process in running]
    finally:
        for process in running:
            process.kill()


def kept(photos: Path) -> set[str]:
    """The files of a photo archive."""
    return {path.name for path in photos.rglob("*") if path.is_file()}


def serve(link: Path, bundle: Path) -> None:
    """Has a service that follows `link` serve another bundle."""
    beside = link.with_name("next")
    beside.symlink_to(bundle)
    beside.replace(link)


def version(service: "ServiceProcess") -> str:
    """What is served."""
    return str(httpx.get(f"{service.url}/v1/model", timeout=30).json()["version"])
