import os
import shutil
from pathlib import Path

import click
import pytest
from kedro.runner import ParallelRunner, SequentialRunner, ThreadRunner

from captionloop.provenance.code_versions import CodeVersions
from captionloop.provenance.incremental import (
    IncrementalRunner,
    NothingToDo,
    StopIfUpToDate,
    incremental,
)
from captionloop.provenance.output_records import record_path
from captionloop.provenance.recording import ProvenanceRecorder

pytestmark = pytest.mark.integration

ALL = ["split", "tally", "report", "learn"]


def test_a_second_run_has_nothing_to_do(project):
    assert sorted(project.run()) == sorted(ALL)
    assert project.reasons["report"] == "page.txt is missing"
    assert project.run() == []
    assert "Nothing to do: all 4 nodes are up to date." in project.lines


def test_a_parameter_makes_anew_what_read_it_and_says_so(project):
    project.run()
    project.settings = {"report": {"title": "Birds"}}
    assert project.run() == ["report"]
    assert project.reasons["report"] == "settings.report.title Words -> Birds"
    assert (project.data / "page.txt").read_text().startswith("Birds")


def test_a_parameter_that_no_node_reads_makes_nothing_anew(project):
    project.run()
    project.settings = {"counting": {"marks": 5}, "report": {"width": 10}}
    assert project.run() == []


def test_what_is_made_the_same_again_changes_nothing_after_it(project):
    project.run()
    project.settings = {"counting": {"smallest": 1}}
    (project.data / "text.txt").write_text("bird and bird sing")
    project.run()
    project.settings = {"counting": {"smallest": 2}}  # no word has one letter
    assert project.run() == ["split", "tally", "learn"]  # `learn` reads it too, `report` sees the same counts
    assert project.reasons["split"] == "tally needs words, which is not kept"


def test_a_changed_input_is_named(project):
    project.run()
    (project.data / "text.txt").write_text("a bird and a worm")
    assert sorted(project.run()) == sorted(ALL)
    assert project.reasons["tally"] == "text.txt changed"
    assert project.reasons["report"] == "counts.json changed"


def test_an_input_of_the_same_size_and_name_is_noticed(project):
    project.run()
    path = project.data / "text.txt"
    before = path.stat()
    path.write_text("a bird and a bird sinG")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copying tool leaves it
    assert "split" in project.run()
    assert project.run() == []


def test_an_input_that_was_only_touched_or_written_again_makes_nothing_anew(project):
    project.run()
    path = project.data / "text.txt"
    os.utime(path)
    assert project.run() == []
    text = path.read_text()
    path.unlink()
    path.write_text(text)
    assert project.run() == []


def test_a_deleted_output_is_made_anew_and_nothing_else(project):
    project.run()
    (project.data / "page.txt").unlink()
    assert project.run() == ["report"]
    assert project.reasons["report"] == "page.txt is missing"
    (project.data / "total.json").unlink()
    assert project.run() == ["split", "tally"]


def test_an_output_that_somebody_changed_is_made_anew(project):
    project.run()
    (project.data / "counts.json").write_text('{"bird": 1000}')
    assert project.run() == ["split", "tally"]
    assert project.reasons["tally"] == "counts.json is not what was written"


def test_outputs_of_before_there_were_records_are_made_anew_once(project):
    project.run()
    shutil.rmtree(project.data / ".provenance")
    assert sorted(project.run()) == sorted(ALL)
    assert project.reasons["report"] == "nothing tells what page.txt was made from"
    assert project.run() == []


def test_code_that_a_node_uses_counts_and_what_stands_beside_it_does_not(project):
    project.run()
    project.edit("counting.py", "return 1", "return 2")
    project.edit(
        "counting.py", '"""How often each word is there."""', '"""Another docstring."""  # a comment'
    )
    assert project.run() == []
    project.edit("pages.py", '", ".join', '"; ".join')  # imported inside the node
    assert project.run() == ["report"]
    assert project.reasons["report"] == "code of toy_project.pages changed"
    project.edit("counting.py", "sorted(set(long))", "sorted(set(long), reverse=True)")
    assert sorted(project.run()) == sorted(ALL)
    assert project.reasons["tally"] == "code of toy_project.counting changed"


def test_another_version_of_a_package_counts(project, monkeypatch):
    project.run()
    monkeypatch.setattr("captionloop.provenance.code_versions._version", {"numpy": "99.1"}.get)
    assert project.run() == ["split", "tally"]
    assert "-> 99.1" in project.reasons["tally"]


def test_half_done_work_of_the_same_code_is_gone_on_with_and_that_of_other_code_is_not(project):
    project.run()
    done = project.data / "bench" / "done.txt"
    (project.data / "learnt.json").unlink()
    project.run()
    assert done.read_text() == "2"
    project.edit("nodes.py", '"words": len(counts)', '"words": len(counts) + 1')
    assert project.run() == ["learn"]
    assert done.read_text() == "1"


def test_the_code_of_half_done_work_counts_without_the_flag_too(project):
    project.run()
    project.edit("nodes.py", '"words": len(counts)', '"words": len(counts) + 1')
    project.run(SequentialRunner())
    assert (project.data / "bench" / "done.txt").read_text() == "1"


def test_a_run_without_the_flag_runs_all_and_leaves_records(project):
    project.run(SequentialRunner())
    assert project.run() == []
    before = (project.data / "page.txt").stat().st_mtime_ns
    project.run(SequentialRunner())
    assert (project.data / "page.txt").stat().st_mtime_ns > before


def test_code_that_is_edited_while_a_node_is_at_work_is_made_anew_next_time(project):
    change = f"open({str(project.package / 'pages.py')!r}, 'a').write('\\nMORE = 1\\n')"
    project.edit(
        "pages.py", "def page(counts: dict, settings) -> str:", "MORE = 0\ndef page(counts, settings):"
    )
    project.edit(
        "pages.py", "return settings.title", f"_ = MORE == 0 and {change}\n    return settings.title"
    )
    project.run()
    assert project.run() == ["report"]
    assert project.reasons["report"] == "code of toy_project.pages changed"


def test_plain_runs_with_threads_are_recorded_too(project):
    project.run(ThreadRunner())
    assert project.run() == []


def test_a_folder_that_was_moved_has_nothing_to_do(project):
    project.run()
    moved = project.data.with_name("moved")
    project.data.rename(moved)
    project.data = moved
    assert project.run() == []
    copied = moved.with_name("copied")
    shutil.copytree(moved, copied)
    project.data = copied
    assert project.run() == []


def test_a_slice_is_decided_on_alone(project):
    project.run()
    project.settings = {"counting": {"smallest": 4}, "report": {"title": "Birds"}}
    assert project.run(to_nodes=["tally"]) == ["split", "tally"]
    assert project.run(node_names=["report"]) == ["report"]
    assert project.run() == ["learn"]


def test_a_crash_between_an_output_and_its_record_is_made_good(project):
    project.run()
    (project.data / "text.txt").write_text("a worm")
    record = record_path(project.data / "counts.json")
    before = record.read_bytes()
    project.run()
    record.write_bytes(before)
    assert project.run() == ["split", "tally"]


def test_a_torn_or_foreign_record_counts_as_none(project):
    project.run()
    record_path(project.data / "page.txt").write_text("{")
    assert project.run() == ["report"]
    record_path(project.data / "page.txt").write_text('{"format": 99}')
    assert project.run() == ["report"]


def test_a_node_that_fails_says_how_to_go_on_and_leaves_what_was_made(project):
    project.edit(
        "pages.py", "return settings.title", "raise RuntimeError('no ink')\n    return settings.title"
    )
    with pytest.raises(RuntimeError, match="no ink"):
        project.run()
    assert not (project.data / "page.txt").exists()
    project.edit("pages.py", "raise RuntimeError('no ink')\n", "\n")
    ran = project.run()
    assert "report" in ran and "tally" not in ran


def test_runners_that_cannot_decide_node_by_node_are_refused_in_one_line(tmp_path: Path):
    for other in (ThreadRunner(), ParallelRunner()):
        with pytest.raises(click.ClickException, match="leave out --runner") as shown:
            incremental(other)
        assert "\n" not in shown.value.message
    assert isinstance(incremental(SequentialRunner(is_async=True)), IncrementalRunner)
    assert incremental(None)._is_async is False


def begun(project) -> None:
    """What the hooks do where a run of the project begins."""
    recorder = ProvenanceRecorder(CodeVersions({"toy_project"}))
    run_params = {"project_path": project.data.parent, "only_missing_outputs": True}
    pipeline, catalog = project.pipeline(), project.catalog()
    recorder.before_pipeline_run(run_params, pipeline, catalog)
    StopIfUpToDate(recorder).before_pipeline_run(run_params, pipeline, catalog)


def test_a_run_that_has_nothing_to_do_ends_before_mlflow_begins_one(project):
    begun(project)
    project.run()
    with pytest.raises(NothingToDo, match="all 4 nodes are up to date"):
        begun(project)
    project.settings = {"report": {"title": "Birds"}}
    begun(project)
