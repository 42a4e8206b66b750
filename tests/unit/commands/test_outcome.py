import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from captionloop.cli import main
from captionloop.commands.report import failures
from captionloop.registry.tracking import find_or_begin_run, find_run

pytestmark = pytest.mark.integration


@pytest.fixture
def reports(tmp_path, monkeypatch, project_root):
    monkeypatch.setenv("CAPTIONLOOP_PROJECT", str(tmp_path))
    shutil.copytree(project_root / "conf/base", tmp_path / "conf/base")
    folder = tmp_path / "data/runs/one/08_reporting/sample_scenes"
    folder.mkdir(parents=True)
    return folder


def call(*arguments: str):
    return CliRunner().invoke(main, ["outcome", *arguments, "--workspace", "data/runs/one"])


def test_an_outcome_is_one_line_of_json_with_its_page(reports) -> None:
    (reports / "registered_version.json").write_text('{"version": 5,\n "passed": true}')
    (reports / "gate.md").write_text("# Passed")
    result = call("gate")
    assert result.stdout.count("\n") == 1
    report = json.loads(result.stdout)
    assert report == {"version": 5, "passed": True, "page": str(reports / "gate.md"), "markdown": "# Passed"}


def test_an_outcome_leaves_the_doubted_references_in_their_report(reports) -> None:
    (reports / "examination.json").write_text('{"sentence": "1 of 2 is left out", "references": [{}]}')
    assert json.loads(call("examination").stdout) == {"sentence": "1 of 2 is left out"}


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_step_that_left_no_report_is_one_line(reports, content) -> None:
    if content is not None:
        (reports / "feedback_report.json").write_text(content)
    result = call("feedback")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)


def test_failures_are_the_last_lines_of_the_steps_that_have_not_succeeded(reports) -> None:
    workspace = reports.parents[1]
    (workspace / ".verify.-1.stderr").write_text("looking\nError: photo 7 got an empty caption\n\n")
    (workspace / ".caching.1.stderr").write_text("Killed\n")
    (workspace / ".tidy.-1.stderr").write_text("")
    report = json.loads(call("failures").stdout)
    assert report == {"failures": {"verify": "photo 7 got an empty caption", "caching_1": "Killed"}}


def test_a_reason_is_told_without_who_says_it(tmp_path: Path) -> None:
    (tmp_path / ".verify.-1.stderr").write_text("looking\ncaptionloop: Version 5 was not verified\n")
    (tmp_path / ".package.-1.stderr").write_text("Error: No such option\n")
    assert failures(tmp_path) == {"verify": "Version 5 was not verified", "package": "No such option"}


def test_a_report_is_copied_to_where_the_service_looks_for_it(reports, tmp_path) -> None:
    (reports / "drift.json").write_text('{"drifted": false, "signals": []}')
    place = tmp_path / "photos/reports/drift.json"
    assert call("drift", "--publish", place.as_uri()).exit_code == 0
    assert json.loads(place.read_text()) == {"drifted": False, "signals": []}
    assert [each.name for each in place.parent.iterdir()] == ["drift.json"]
    assert call("drift", "--publish", str(place)).exit_code == 0
    refused = call("drift", "--publish", str(reports / "drift.json" / "below"))
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)


def test_runs_of_one_name_are_one_mlflow_run(mlflow_store) -> None:
    assert find_run(mlflow_store, "manual-1") is None
    begun = find_or_begin_run(mlflow_store, "tests", "manual-1")
    assert find_or_begin_run(mlflow_store, "tests", "manual-1") == begun
    found = find_run(mlflow_store, "manual-1")
    assert found is not None and found.run_id == begun and found.page.endswith(f"/runs/{begun}")
    assert MlflowClient(mlflow_store).get_run(begun).info.run_name == "manual-1"


def test_looking_for_a_run_makes_no_store(tmp_path) -> None:
    assert find_run(f"sqlite:///{tmp_path / 'mlflow.db'}", "manual-1") is None
    assert list(tmp_path.iterdir()) == []
