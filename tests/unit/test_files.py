"""Folders that take their place in one step, killed wherever they can be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from captionloop import files
from captionloop.files import begin_folder, replace_folder

KILLED_AT_EVERY_CALL = """
import os, signal, sys
from pathlib import Path
from captionloop import files

room = Path(sys.argv[1])
files._renameat2()  # found once
for number in range(10_000):
    place = room / str(number) / "place"
    place.mkdir(parents=True)
    for name in ("one", "two"):
        (place / name).write_text("old")
    child = os.fork()
    if child == 0:
        calls = 0
        def count(frame, event, what):
            global calls
            if event in ("c_call", "c_return", "call", "return"):
                if calls == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                calls += 1
        partial = files.begin_folder(place)
        for name in ("one", "two"):
            (partial / name).write_text("new")
        sys.setprofile(count)
        files.replace_folder(partial, place)
        sys.setprofile(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    found = {name: (place / name).read_text() for name in ("one", "two")}
    assert set(found.values()) in ({"old"}, {"new"}), (number, found)
    partial = files.begin_folder(place)  # and the next one can begin
    assert not list(partial.iterdir())
    if status == 0:
        print(number, found["one"])
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
"""


def folder_of(place: Path, content: str) -> Path:
    partial = begin_folder(place)
    (partial / "file").write_text(content)
    return partial


def test_killed_at_any_call_the_old_folder_or_the_new_one_is_there_whole(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_CALL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    calls, content = done.stdout.split()
    assert content == "new" and int(calls) > 20


def test_a_folder_takes_an_empty_place_and_one_that_is_taken(tmp_path: Path) -> None:
    place = tmp_path / "place"
    for content in ("first", "second"):
        replace_folder(folder_of(place, content), place)
        assert (place / "file").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_a_link_is_replaced_and_what_it_points_to_is_left(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    place = tmp_path / "place"
    place.symlink_to("elsewhere")
    replace_folder(folder_of(place, "new"), place)
    assert not place.is_symlink() and (place / "file").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "place"]


@pytest.fixture
def no_exchange(monkeypatch):
    """A file system that cannot have two folders change places."""
    monkeypatch.setattr(files, "_exchange", lambda *_: False)


@pytest.mark.usefixtures("no_exchange")
def test_where_folders_cannot_change_places_the_old_one_steps_aside(tmp_path: Path) -> None:
    place = tmp_path / "place"
    for content in ("first", "second"):
        replace_folder(folder_of(place, content), place)
    assert (place / "file").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


@pytest.mark.usefixtures("no_exchange")
def test_there_the_next_one_puts_back_what_stepped_aside_when_it_was_killed_in_between(
    tmp_path: Path, monkeypatch
) -> None:
    place = tmp_path / "place"
    replace_folder(folder_of(place, "old"), place)
    partial, original = folder_of(place, "new"), Path.rename

    def dies(self: Path, target: Path) -> Path:
        if self == partial:
            raise KeyboardInterrupt
        return original(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", dies)
        replace_folder(partial, place)
    assert not place.exists()
    begin_folder(place)
    assert (place / "file").read_text() == "old"


def test_a_fault_that_is_none_of_the_file_system_is_told(tmp_path: Path) -> None:
    if files._renameat2() is None:
        pytest.skip("this system cannot have two folders change places")
    (tmp_path / "place").mkdir()
    with pytest.raises(OSError, match=os.strerror(2)):
        files._exchange(tmp_path / "nothing", tmp_path / "place")
