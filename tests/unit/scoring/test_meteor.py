import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from captionloop.errors import ScoringError
from captionloop.scoring import java_metrics
from captionloop.scoring.java_metrics import (
    JavaProgram,
    Meteor,
    corpus_meteor,
    java_binary,
    package_folder,
    statistics,
)

# Printed by meteor-1.5.jar with its own paraphrase table, and its EVAL of the four together.
COUNTS = """
16.0 17.0 8.0 8.0 8.0 8.0 8.0 8.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 1.0 16.0 16.0
11.0 11.0 3.0 3.0 8.0 8.0 3.0 3.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 1.0 11.0 11.0
14.0 9.0 7.0 4.0 0.0 0.0 2.0 2.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 2.0 2.0 2.0
14.0 9.0 4.0 2.0 1.0 1.0 2.0 2.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 2.0 1.0 0.0 0.0 3.0 5.0 4.0
"""
SEGMENTS = [0.6070186915203609, 1.0, 0.03931203931203931, 0.12881552981573463]
EVALUATED = 0.3672635281076832


@pytest.fixture
def counts():
    return np.array([line.split() for line in COUNTS.strip().splitlines()], float)


def java_processes() -> set[str]:
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"meteor-1.5.jar" in (folder / "cmdline").read_bytes():
                parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
                if int(parent) == os.getpid():
                    found.add(folder.name)
        except OSError:
            continue
    return found


def test_the_formula_gives_what_the_jar_printed_for_the_same_counts(counts):
    np.testing.assert_allclose(corpus_meteor(statistics(counts)), SEGMENTS, atol=1e-12)


def test_the_formula_on_summed_counts_is_what_the_jar_evaluates(counts):
    assert corpus_meteor(statistics(counts).sum(axis=0)) == pytest.approx(EVALUATED, abs=1e-12)


def test_paraphrases_of_the_table_count(paraphrases):
    with Meteor(paraphrases=paraphrases) as running:
        same, other = running.align([("a puppy", ["a young dog"]), ("a kitten", ["a young dog"])])
    assert corpus_meteor(same) > corpus_meteor(other)
    assert not java_processes()


def test_a_bar_in_a_caption_does_not_end_it(paraphrases):
    with Meteor(paraphrases=paraphrases) as running:
        rows = running.align([("a ||| dog", ["a dog", "|||"]), ("a dog", ["a dog"])])
    assert corpus_meteor(rows[0]) == corpus_meteor(rows[1]) == pytest.approx(1)


def test_a_java_program_that_hangs_is_stopped(tmp_path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\nexec sleep 60\n")
    java.chmod(0o755)
    with (
        JavaProgram("METEOR", [], tmp_path, java) as program,
        pytest.raises(ScoringError, match="did not finish"),
    ):
        program.communicate(["x"], seconds=0.2)
    assert program._process.poll() is not None


def test_a_java_program_that_dies_says_why_in_one_line(tmp_path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'warming up' >&2\necho 'java.lang.OutOfMemoryError: heap' >&2\nexit 3\n")
    java.chmod(0o755)
    with JavaProgram("METEOR", [], tmp_path, java) as program, pytest.raises(ScoringError) as error:
        program.communicate(["x"] * 100_000, seconds=20)
    assert str(error.value) == "METEOR failed with exit code 3: java.lang.OutOfMemoryError: heap"


def test_meteor_killed_from_outside_is_an_error_not_a_hang():
    with Meteor() as running:
        threading.Thread(
            target=lambda: (time.sleep(0.3), os.kill(running._process.pid, signal.SIGKILL))
        ).start()
        with pytest.raises(ScoringError, match="exit code -9"):
            running.align([("a dog", ["a dog"])])


def test_an_answer_that_is_no_counts_is_refused(tmp_path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\ncat > /dev/null\necho Error: specify hypothesis\n")
    java.chmod(0o755)
    with Meteor(java=java) as running, pytest.raises(ScoringError, match="23 counts"):
        running.align([("a dog", ["a dog"])])


def test_java_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ScoringError, match="cannot be started"):
        JavaProgram("METEOR", [], tmp_path, tmp_path / "java")
    assert java_binary().is_file()
    assert (package_folder("meteor") / "meteor-1.5.jar").is_file()


def test_the_tokenizer_is_found_wherever_the_project_lies(tmp_path, monkeypatch):
    folder = tmp_path / "Jürgens Projekt (1) #2 100%" / "tokenizer"
    shutil.copytree(package_folder("tokenizer"), folder)
    monkeypatch.setattr(java_metrics, "package_folder", lambda _: folder)
    monkeypatch.setenv("LC_ALL", "C")
    assert java_metrics.tokenize(["Zwei Hunde, groß!"]) == ["zwei hunde groß"]


def test_its_own_table_is_found_wherever_the_project_lies(tmp_path, monkeypatch, paraphrases):
    """Left alone, the jar asks for its table by a URL that it escapes twice; a bare locale has no umlauts."""
    folder = tmp_path / "Jürgens Projekt (1) #2 100%" / "meteor"
    (folder / "data").mkdir(parents=True)
    shutil.copy(package_folder("meteor") / "meteor-1.5.jar", folder)
    shutil.copy(paraphrases, folder / "data/paraphrase-en.gz")
    monkeypatch.setattr(java_metrics, "package_folder", lambda _: folder)
    for name in ("LANG", "LC_CTYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LC_ALL", "C")
    with Meteor() as aligner:
        same, other = aligner.align([("a puppy", ["a young dog"]), ("a kitten", ["a young dog"])])
    assert corpus_meteor(same) > corpus_meteor(other)
