"""What photos made to be large take, two at once: in the service, and as the gateway decodes them."""

import io
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from PIL import Image
from service_process import ServiceProcess, photo

pytestmark = [pytest.mark.e2e, pytest.mark.service]

MEASURE = """
import asyncio, sys
from pathlib import Path
from captionloop.serving.gateway.uploads import PhotoReader
from captionloop.serving.gateway.problems import Problem

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) // 1024

async def main():
    reader = PhotoReader(2, 64_000_000)
    small, large = (Path(name).read_bytes() for name in sys.argv[1:])
    await reader.read(small, 224)
    idle = memory("VmRSS")
    for _ in range(2):
        await asyncio.gather(*(reader.read(large, 224) for _ in range(2)), return_exceptions=True)
    print(memory("VmHWM") - idle, memory("VmRSS") - idle)

asyncio.run(main())
"""


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    ("mode", "form", "side", "options"),
    [
        ("RGBA", "PNG", 8000, {}),
        ("RGBA", "PNG", 8000, {"exif": turned()}),
        ("RGBA", "PNG", 5600, {}),
        ("RGBA", "PNG", 5600, {"exif": turned()}),
        ("RGB", "JPEG", 5000, {"exif": turned()}),
        ("I;16", "PNG", 8000, {}),
        ("P", "GIF", 8000, {}),
        ("RGBA", "WEBP", 4000, {"method": 0, "quality": 10}),
        ("RGB", "JPEG", 8000, {"progressive": True, "quality": 20}),
        ("CMYK", "JPEG", 8000, {"quality": 20}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else str(value),  # the same in each process
)
def test_two_photos_of_64_megapixels_take_less_than_300_megabytes(
    tmp_path: Path, mode: str, form: str, side: int, options: dict[str, object]
) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    Image.new(mode, (side, side)).save(large, form, **options)
    Image.new("RGB", (100, 100)).save(small, "PNG")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(large)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    peak, after = map(int, done.stdout.split())
    assert peak < 300, f"{peak} MB above idle"
    assert after < 60, f"{after} MB kept"


def test_so_does_the_running_service(service: ServiceProcess) -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (8000, 8000)).save(buffer, "PNG")
    url, headers = f"{service.url}/v1/captions", {"Content-Type": "image/png"}
    assert httpx.post(url, content=photo(), headers=headers, timeout=60).status_code == 201
    idle = service.memory()
    for pid in service.processes():
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # forget the highest so far
    reports: list[int] = []

    def send() -> None:
        reports.append(httpx.post(url, content=buffer.getvalue(), headers=headers, timeout=100).status_code)

    people = [threading.Thread(target=send) for _ in range(2)]
    for each in people:
        each.start()
    for each in people:
        each.join()
    peak = sum(highest(pid) for pid in service.processes())
    print(f"{(peak - idle) / 1e6:.0f} MB above idle")
    assert set(reports) <= {201, 422} and len(reports) == 2
    assert peak - idle < 300e6


def highest(pid: int) -> int:
    """Bytes that a process has held at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
