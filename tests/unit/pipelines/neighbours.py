"""What tests of other parts have made for themselves: pytest shares the modules of a folder with it alone."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def module_of(part: str, name: str = "conftest") -> ModuleType:
    """A module of `tests/unit/<part>`, read once."""
    known = f"{name}_of_{part}"
    if known not in sys.modules:
        place = Path(__file__).parents[1] / part / f"{name}.py"
        spec = importlib.util.spec_from_file_location(known, place)
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]
