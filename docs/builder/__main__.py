"""`make docs`: the documentation as a site in `site/`. Fails on a broken link or anchor."""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from docs.builder import lineage, pages

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.builder", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "site")
    parser.add_argument("--no-lineage", action="store_true", help="leave out the lineage view (15 s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "docs"
        pages.gather(source)
        settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
        settings["nav"] = pages.menu(source)
        Path(scratch, "mkdocs.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
        zensical = Path(sys.executable).with_name("zensical")
        done = subprocess.run([zensical, "build", "--strict", "--clean"], cwd=scratch, check=False)  # noqa: S603
        if done.returncode:
            raise SystemExit("The site has broken links (see above): it was not written.")
        shutil.rmtree(arguments.output, ignore_errors=True)
        shutil.copytree(Path(scratch) / "site", arguments.output)
    if not arguments.no_lineage:
        lineage.build(arguments.output / "lineage")
    sys.stdout.write(f"{arguments.output}/index.html\n")
    sys.stdout.write("Search and the lineage view need a server: python3 -m http.server -d site\n")


if __name__ == "__main__":
    main()
