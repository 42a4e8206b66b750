"""Promotes a version whenever a file says so: one of two processes that race. Its lines are outcomes."""

import sys
import time
from pathlib import Path

from captionloop.errors import RegistryError
from captionloop.registry.model_registry import ModelRegistry


def main(uri: str, name: str, deed: str, folder: Path) -> None:
    registry = ModelRegistry(uri, name)
    registry.versions()  # what takes seconds the first time
    for number in range(1000):
        tell(folder / f"{deed}.{number}.ready", "")
        while not (folder / f"{number}.go").exists():
            if (folder / "stop").exists():
                return
            time.sleep(0.001)
        try:
            if deed == "gated":
                registry.promote_gated(2)
            else:
                registry.promote(3, check_files=True)
            result = "done"
        except RegistryError as error:
            result = str(error)
        tell(folder / f"{deed}.{number}", result)


def tell(file: Path, text: str) -> None:
    """Written whole, or not there."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text)
    partial.replace(file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
