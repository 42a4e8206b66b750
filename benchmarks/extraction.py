"""Features from JPEG files: ours against a plain loop of eager PyTorch, and against what the cores could do.

python -m benchmarks.extraction                              # drawn photos of 224 to 500 px
python -m benchmarks.extraction --photos FOLDER              # JPEG files of your own
python -m benchmarks.extraction --images 16 --rounds 1       # a moment
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model

from benchmarks.photos import jpeg_files
from benchmarks.timing import interleaved, table
from captionloop.images import load_square
from captionloop.preprocessing import WHOLE
from captionloop.vision.encoder import IMAGENET_DEVIATION, IMAGENET_MEAN, Encoder, EncoderSpec
from captionloop.vision.feature_caching import PhotoView, extract
from captionloop.vision.runtimes import EncoderRuntime, cores, make_runtime, native_precision

SIZE, BATCH = 224, 32


def plain_loop(architecture: str, files: Sequence[Path], device: str) -> Callable[[], None]:
    """As usually written: read, resize, normalise, stack, encode, one batch after the other, in float32."""
    network = get_model(architecture, weights=None)
    children = list(network.children())
    trunk = torch.nn.Sequential(*children[: -2 if architecture.startswith("resnet") else -1])
    trunk = trunk.eval().to(device)
    mean, deviation = (torch.tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_DEVIATION))

    def run() -> None:
        for at in range(0, len(files), BATCH):
            images = []
            for file in files[at : at + BATCH]:
                pixels = np.array(Image.open(file).convert("RGB").resize((SIZE, SIZE)))
                image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
                images.append((image - mean) / deviation)
            with torch.no_grad():
                grids = trunk(torch.stack(images).to(device))
            grids.flatten(2).transpose(1, 2).half().cpu().numpy()

    return run


def together(files: Sequence[Path], runtime: EncoderRuntime) -> None:
    photo_views = (PhotoView(str(file), str(number), WHOLE) for number, file in enumerate(files))
    for _ in extract(photo_views, lambda photo_view: Path(photo_view.uri).read_bytes(), runtime, SIZE):
        pass


def decode_alone(files: Sequence[Path], pool: ThreadPoolExecutor) -> None:
    for _ in pool.map(lambda file: load_square(file.read_bytes(), SIZE), files):
        pass


def encode_alone(batches: Sequence[np.ndarray], runtime: EncoderRuntime, pool: ThreadPoolExecutor) -> None:
    for _ in pool.map(runtime.encode, batches):
        pass


def products_per_second(device: str, rounds: int) -> float:
    """Floating-point operations a second of a large matrix product in bfloat16: the best of some sizes."""
    best = 0.0
    for size in (1024, 2048, 4096):
        a, b = (torch.rand(size, size, device=device).bfloat16() for _ in range(2))
        seconds = interleaved({"product": lambda a=a, b=b: a @ b}, rounds)["product"]
        best = max(best, 2 * size**3 / seconds)
    return best


def operations(encoder: Encoder) -> float:
    """Floating-point operations of one image; a multiplication with its addition counts as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder.module(torch.zeros(1, 3, SIZE, SIZE))
    return counter.get_total_flops()


def measure(
    architecture: str, files: Sequence[Path], slow: Sequence[Path], rounds: int, device: str
) -> dict[str, float]:
    """Seconds per image of each rival."""
    encoder = Encoder.build(
        EncoderSpec(architecture=architecture, input_size=SIZE, precision=native_precision())
    )
    runtime = make_runtime(encoder, purpose="throughput")
    pixels = np.stack([load_square(file.read_bytes(), SIZE) for file in files[: runtime.batch_size]])
    repeats = max(1, len(files) // len(pixels))
    whole = list(files)[: repeats * len(pixels)]
    reference = f"eager {architecture}, float32, plain loop"
    runs: dict[str, tuple[Callable[[], object], int]]
    with ThreadPoolExecutor(cores()) as decoders, ThreadPoolExecutor(runtime.workers) as encoders:
        runs = {
            reference: (plain_loop(architecture, slow, device), len(slow)),
            f"ours ({runtime.name})": (lambda: together(whole, runtime), len(whole)),
            "  decoding alone": (lambda: decode_alone(whole, decoders), len(whole)),
            "  encoding alone": (lambda: encode_alone([pixels] * repeats, runtime, encoders), len(whole)),
        }
        seconds = interleaved({name: run for name, (run, _) in runs.items()}, rounds)
    each = {name: seconds[name] / count for name, (_, count) in runs.items()}
    ours, decoding, encoding = list(each)[1:]
    limit = each[decoding] + each[encoding]
    print(
        table(f"{architecture}, {SIZE} px, from JPEG files, on {device}", each,
              reference=reference, unit="images/s", count=1)
    )  # fmt: skip
    print(
        f"  {1 / limit:.0f} images/s could be decoded and encoded: ours are {100 * limit / each[ours]:.0f} %"
    )
    if native_precision() == "bfloat16":
        rate, flops = products_per_second(device, 5), operations(encoder)
        for what, taken in (("ours, decoding included", each[ours]), ("encoding alone", each[encoding])):
            print(
                f"  {what}: {flops / taken / 1e9:,.0f} GFLOP/s ({flops / 1e9:.2f} an image),"
                f" {100 * flops / taken / rate:.0f} % of the {rate / 1e9:,.0f} of a bfloat16 matrix product"
            )
    return {"ratio": each[reference] / each[ours], "share of the limit": limit / each[ours]}


def main(arguments: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--images", type=int, default=512, help="for ours; an eighth of it for the plain loop"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=Path, help="a folder with JPEG files")
    chosen = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        files = jpeg_files(Path(folder), chosen.images, chosen.photos)
        size = sum(file.stat().st_size for file in files) / len(files)
        print(f"{len(files)} JPEG files of {size / 1e3:.0f} kB on average, {cores()} CPU cores")
        for architecture in ("resnet50", "mobilenet_v2"):
            slow = files[: max(1, len(files) // 8)]
            results[architecture] = measure(architecture, files, slow, chosen.rounds, device)
    return results


if __name__ == "__main__":
    main()
