import logging

import pytest

from captionloop.scoring import java_metrics

SYSTEMS = {"one": [("a dog", ["a dog"])], "two": [("a cat", ["a dog", "the dog"])]}

# Stands for SPICE: an answer for each of two captions, in another order.
JAVA = r"""#!/bin/sh
for argument; do case "$last" in -out) out=$argument;; esac; last=$argument; done
second='{"image_id": 1, "scores": {"All": {"f": 0.75}}}'
echo "[$second, {\"image_id\": 0, \"scores\": {\"All\": {\"f\": 0.25}}}]" > "$out"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "lib").mkdir()
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (tmp_path / "lib" / name).touch()
    return tmp_path


def java(folder, text):
    (folder / "java").write_text(text)
    (folder / "java").chmod(0o755)
    return folder / "java"


def test_spice_without_its_models_is_skipped_with_a_line(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert java_metrics.score(SYSTEMS, folder=tmp_path) == {}
    assert "SPICE is skipped" in caplog.text


def test_spice_with_its_models_scores_every_system(folder):
    values = java_metrics.score(SYSTEMS, folder=folder, java=java(folder, JAVA))
    assert {name: value.tolist() for name, value in values.items()} == {"one": [0.25], "two": [0.75]}


def test_a_broken_spice_does_not_take_the_other_metrics_with_it(folder, caplog):
    assert (
        java_metrics.score(SYSTEMS, folder=folder, java=java(folder, "#!/bin/sh\necho no >&2; exit 1\n"))
        == {}
    )
    assert "SPICE is skipped: SPICE failed with exit code 1: no" in caplog.text
