"""The page offers what the service takes."""

import re
from pathlib import Path

from captionloop.image_header import MEDIA_TYPES

PREPARE = Path(__file__).resolve().parents[3] / "frontend/src/photo/prepare.ts"


def test_the_page_takes_for_readable_what_the_service_reads() -> None:
    declared = re.search(r"ACCEPTED: readonly string\[\] = \[([^\]]*)\]", PREPARE.read_text(encoding="utf-8"))
    assert declared is not None
    assert set(re.findall(r"image/\w+", declared[1])) == set(MEDIA_TYPES.values())
