"""A copy of the project as it is in git, with this machine's environments and small numbers."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = (".venv", ".venv-airflow", "frontend/node_modules", "frontend/dist")


def copy_project(copy: Path, small: dict[str, object], linked: Sequence[str] = INSTALLED) -> Path:
    """Copy what git keeps, link what is installed, and change the parameters that `small` names."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    for name in linked:
        if (ROOT / name).exists():
            (copy / name).symlink_to(ROOT / name)
    for file in sorted((copy / "conf/base").glob("parameters*.yml")):
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
        changed = {
            name: merged(value, small[name]) if name in small else value for name, value in given.items()
        }
        file.write_text(yaml.safe_dump(changed, sort_keys=False), encoding="utf-8")
    return copy


def merged(old: object, new: object) -> object:
    """`old` with what `new` says, block by block."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
    return new
