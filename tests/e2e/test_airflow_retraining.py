"""The loop in a real Airflow, before a real service: from people's ratings to a version that is served.

One champion, one service and one Airflow for all of it; the tests build on one another in their order.
"""

import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx
import psutil
import pytest
from airflow_process import AirflowProcess, family
from loop_traffic import rate, running_kedro
from playwright.sync_api import Browser, Page
from service_process import ServiceProcess, photo
from small_disk import small_disk
from small_project import ROOT, SmallProject
from web_page import keep_screenshot

from captionloop.client import CaptionClient

pytest_plugins = ["web_page_fixtures"]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]
DAG = "retraining"
STEPS = ("feedback", "encoder", "caching", "training", "evaluation", "registration")
PIPELINES = {step: f"retraining_{step}" for step in STEPS if step != "feedback"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> SmallProject:
    if not (ROOT / ".venv-airflow/bin/airflow").exists():
        pytest.skip("Airflow's environment is not installed (make install-airflow)")
    made = SmallProject(tmp_path_factory.mktemp("loop") / "project")
    made.crown()
    return made


@pytest.fixture(scope="module")
def loop_service(project: SmallProject) -> Iterator[ServiceProcess]:
    state = str(project.folder / "data/service")
    registry = f"sqlite:///{project.folder / 'mlflow.db'}"
    running = ServiceProcess(
        project.folder / "data/serving", CAPTIONLOOP_STATE=state, CAPTIONLOOP_REGISTRY=registry
    )
    try:
        yield running.wait_until_ready()
    finally:
        running.stop()


@pytest.fixture(scope="module")
def alert_receiver() -> Iterator[tuple[str, list[str]]]:
    """The address of a chat, and what it was told."""
    messages: list[str] = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Chat) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hooks", messages
        server.shutdown()


@pytest.fixture(scope="module")
def airflow(
    project: SmallProject,
    loop_service: ServiceProcess,
    alert_receiver: tuple[str, list[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AirflowProcess]:
    home = tmp_path_factory.mktemp("airflow") / "home"
    running = AirflowProcess(
        home,
        project.folder,
        CAPTIONLOOP_URL=loop_service.url,
        CAPTIONLOOP_LEAST_RATINGS="1000",  # unless a run is told otherwise
        AIRFLOW_CONN_CAPTIONLOOP_ALERTS=json.dumps(
            {"conn_type": "http", "host": alert_receiver[0], "password": "T1"}
        ),
    )
    try:
        yield running.wait_until_ready()
    finally:
        running.stop()


def served(service: ServiceProcess) -> int:
    with CaptionClient(service.url) as anybody:
        return int(anybody.caption(photo()).model.version)


def ask_for_approval(airflow: AirflowProcess, service: ServiceProcess, seed: int) -> str:
    """A run that has learnt from new ratings and waits for a person to approve its version."""
    rate(service, seed=seed)
    run_id = airflow.trigger(DAG, least_ratings=10, epochs=1, shards=1, verify_seconds=0, approval=True)
    airflow.wait_for_task(DAG, run_id, "approval", "awaiting_input")
    return run_id


def log_in(page: Page, airflow: AirflowProcess) -> None:
    page.set_default_timeout(120_000)
    page.goto(f"{airflow.url}/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(airflow.password())
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{airflow.url}/")


def fill_form(page: Page, values: dict[str, str]) -> None:
    """The trigger's form, each field found by its label."""
    form = page.get_by_role("dialog")
    for label, value in values.items():
        near = f"xpath=.//*[normalize-space(text())='{label}']/ancestor::*[.//input][1]//input"
        field = form.locator(near).first
        field.fill(value)
        field.press("Tab")


def test_nobody_but_this_machine_reaches_airflow_and_its_login_is_told_when_it_is_ready(
    airflow: AirflowProcess,
) -> None:
    listening = set()
    for process in (each for started in airflow._processes for each in family(started.pid)):
        with contextlib.suppress(psutil.NoSuchProcess):  # tasks come and go
            connections = process.net_connections("inet")
            listening |= {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    airflow._until(lambda: "Airflow is ready." in airflow.log.read_text(), 60, "the login was not told again")
    assert airflow.log.read_text().count(f"admin, {airflow.password()}") == 2


def test_too_few_ratings_are_a_reason_to_skip_and_two_triggers_take_turns(
    project: SmallProject, airflow: AirflowProcess
) -> None:
    rate_none = [airflow.trigger(DAG, least_ratings=31) for _ in range(2)]
    airflow.switch_on(DAG)
    for run_id in rate_none:
        states = airflow.wait_for(DAG, run_id)
        assert (states["feedback"], states["enough"], states["training"]) == ("success", "skipped", "skipped")
        assert states["close"] == "success" and states["rollback"] == "skipped"
        note = airflow.run(DAG, run_id)["note"]
        assert "0 new ratings" in note and "31 needed" in note
        assert note.startswith("**No new version: too few new ratings**")
    first, second = (airflow.run(DAG, run_id) for run_id in rate_none)
    assert second["start_date"] >= first["end_date"], "one run at a time"
    assert project.champion == 1


def test_the_form_in_a_browser_makes_a_new_version_that_is_served_though_every_step_was_killed_once(
    project: SmallProject, airflow: AirflowProcess, loop_service: ServiceProcess, chromium: Browser,
    screenshots: Path | None,
) -> None:  # fmt: skip
    rate(loop_service, seed=1)
    page = chromium.new_page(viewport={"width": 1300, "height": 1250})
    log_in(page, airflow)
    page.goto(f"{airflow.url}/dags/{DAG}")
    page.get_by_role("button", name="Trigger").first.click()
    page.get_by_role("dialog").get_by_text("Least number of new ratings").wait_for()
    fill_form(
        page,
        {"Least number of new ratings": "10", "Epochs": "1", "Shards": "2", "Watch for (seconds)": "5"},
    )
    keep_screenshot(page, screenshots, "airflow-form.png")
    before = {run["dag_run_id"] for run in airflow.runs(DAG)}
    page.get_by_role("dialog").get_by_role("button", name="Trigger").last.click()
    airflow._until(lambda: len(airflow.runs(DAG)) > len(before), 120, "the form triggered nothing")
    (run_id,) = {run["dag_run_id"] for run in airflow.runs(DAG)} - before

    for step in STEPS:
        running_kedro(PIPELINES.get(step, step), project.folder).kill()
    states = airflow.wait_for(DAG, run_id)
    run = airflow.run(DAG, run_id)
    page.set_viewport_size({"width": 1900, "height": 1250})  # in less the grid ends before this run's column
    page.goto(f"{airflow.url}/dags/{DAG}/runs/{run_id}")
    page.get_by_text("registration").first.wait_for()
    page.wait_for_timeout(5000)
    keep_screenshot(page, screenshots, "airflow-grid.png")
    page.close()

    assert run["state"] == "success", (states, run["note"])
    assert run["conf"]["least_ratings"] == 10 and run["conf"]["epochs"] == 1
    assert {states[f"caching[{shard}]"] for shard in (0, 1)} == {"success"}
    assert {state for name, state in states.items() if name != "rollback"} == {"success"}
    assert {airflow.tries(DAG, run_id, step) for step in STEPS if step != "caching"} == {2}
    assert project.champion == 2 == served(loop_service)
    assert "Version 2 is served" in run["note"] and "MLflow run" in run["note"]
    assert " references " in run["note"], "what was left out of the feedback, or that nothing was examined"


def test_a_bundle_damaged_between_gate_and_deployment_is_not_served(
    project: SmallProject, airflow: AirflowProcess, loop_service: ServiceProcess
) -> None:
    run_id = ask_for_approval(airflow, loop_service, seed=2)
    version = project.registry.challenger()
    assert version is not None and version.version == 3
    note = airflow.run(DAG, run_id)["note"]
    assert note.startswith("**Running: version 3 passed the gate and waits for a person's approval**")
    assert "romoted" not in note and "30 new, " in note
    weights = Path(version.source.removeprefix("file://")) / "model.safetensors"
    # `package` has its own copy checked as well: it is the first to notice.
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    airflow.answer(DAG, run_id, "approval", "Approve")
    states = airflow.wait_for(DAG, run_id)
    assert airflow.run(DAG, run_id)["state"] == "failed"
    assert "failed" in {states["package"], states["deploy"]} and states["close"] == "failed"
    assert states["verify"] == "upstream_failed"
    assert project.champion == 2 == served(loop_service)


def test_while_the_ratings_are_away_nothing_is_trained_and_the_next_try_goes_on(
    project: SmallProject, airflow: AirflowProcess, loop_service: ServiceProcess
) -> None:
    ratings = project.folder / "data/service/ratings.db"
    away = ratings.with_name("away.db")
    ratings.rename(away)
    try:
        run_id = airflow.trigger(DAG, least_ratings=1000)
        airflow.wait_for_task(DAG, run_id, "feedback", "up_for_retry")
    finally:
        away.rename(ratings)
    states = airflow.wait_for(DAG, run_id)
    assert (states["feedback"], states["enough"]) == ("success", "skipped")
    assert airflow.tries(DAG, run_id, "feedback") == 2
    assert project.champion == 2 == served(loop_service)


def test_enough_ratings_start_a_run_by_themselves(
    project: SmallProject, airflow: AirflowProcess, loop_service: ServiceProcess
) -> None:
    rate(loop_service, seed=4)
    known = {run["dag_run_id"] for run in airflow.runs(DAG)}
    airflow.wait_for("ratings", airflow.trigger("ratings", least_ratings=1))

    def begun() -> list[str]:
        return [run["dag_run_id"] for run in airflow.runs(DAG) if run["dag_run_id"] not in known]

    airflow._until(lambda: bool(begun()), 120, "no run was started")
    (run_id,) = begun()
    states = airflow.wait_for(DAG, run_id)
    run = airflow.run(DAG, run_id)
    assert run["run_type"] == "asset_triggered" and run["logical_date"] is None
    assert states["enough"] == "skipped" and "1000 needed" in run["note"], "fewer than a run wants by default"
    assert project.champion == 2


def test_a_version_that_the_service_does_not_take_over_is_rolled_back(
    project: SmallProject,
    airflow: AirflowProcess,
    loop_service: ServiceProcess,
    alert_receiver: tuple[str, list[str]],
) -> None:
    run_id = ask_for_approval(airflow, loop_service, seed=3)
    loop_service.kill()
    airflow.answer(DAG, run_id, "approval", "Approve")
    states = airflow.wait_for(DAG, run_id)
    assert (states["deploy"], states["verify"], states["rollback"]) == ("success", "failed", "success")
    run = airflow.run(DAG, run_id)
    assert run["state"] == "failed" and "the version before is served again" in run["note"]
    assert "- verify: " in run["note"] and "is not served everywhere after" in run["note"], "why, in the note"
    assert "romoted: " not in run["note"]
    _, messages = alert_receiver
    airflow._until(lambda: any(run_id in each for each in messages), 120, "nobody was told")
    assert project.champion == 2
    loop_service.start()
    assert served(loop_service.wait_until_ready()) == 2


def test_the_morning_report_says_what_has_drifted(airflow: AirflowProcess) -> None:
    run_id = airflow.trigger("monitoring")
    airflow.switch_on("monitoring")
    states = airflow.wait_for("monitoring", run_id)
    assert (states["drift"], states["judge"]) == ("success", "skipped"), "drift or not, nobody asked for more"
    assert "Report: `" in airflow.run("monitoring", run_id)["note"]


def test_a_full_disk_stops_a_step_and_the_next_try_goes_on(
    project: SmallProject, airflow: AirflowProcess, loop_service: ServiceProcess
) -> None:
    rate(loop_service, seed=5)
    before = project.champion
    # The disk hides the folders of the runs before, and takes that of this one with it: hence a dry run.
    with small_disk(project.folder / "data/runs", kib=4_000) as disk:
        run_id = airflow.trigger(DAG, least_ratings=10, epochs=1, shards=1, verify_seconds=0, dry_run=True)
        airflow.wait_for_task(DAG, run_id, "feedback", "up_for_retry")
        assert project.champion == before == served(loop_service)
        disk.resize(1_000_000)
        states = airflow.wait_for(DAG, run_id)
    assert airflow.run(DAG, run_id)["state"] == "success", states
    assert airflow.tries(DAG, run_id, "feedback") >= 2 and states["registration"] == "success"
    assert project.champion == before == served(loop_service)


def test_a_worse_model_is_refused_and_the_champion_stays(
    project: SmallProject, airflow: AirflowProcess, loop_service: ServiceProcess
) -> None:
    rate(loop_service, seed=6)
    before = project.champion
    recipe = project.folder / "conf/base/parameters_retraining.yml"
    original = recipe.read_text()
    project.change(recipe.name, {"retraining": {"learning_rate": 1.0}})  # such steps leave no sense in it
    try:
        run_id = airflow.trigger(DAG, least_ratings=10, epochs=1, shards=1, margin=0.0001, verify_seconds=0)
        states = airflow.wait_for(DAG, run_id)
    finally:
        recipe.write_text(original)
    run = airflow.run(DAG, run_id)
    assert run["state"] == "success", (states, run["note"])
    assert (states["registration"], states["gate"], states["deploy"]) == ("success", "skipped", "skipped")
    assert "was refused by the gate" in run["note"] and "gate report" in run["note"]
    assert project.champion == before == served(loop_service)


def trial_of(service: ServiceProcess) -> dict:
    """What the model server says of the version that is tried there."""
    (server,) = httpx.get(f"{service.url}/v1/model", timeout=60).json()["servers"]
    return server["trial"] or {"ready": False, "role": None, "version": None}


def people_like(service: ServiceProcess, version: int, people: int = 60) -> None:
    """Each sends one photo, and gives five stars to this version, two to another."""
    for number in range(people):
        with httpx.Client(base_url=service.url, timeout=60) as person:
            made = person.post("/v1/captions", files={"image": photo(number, size=(64, 64))}).json()
            stars = 5 if made["model"]["version"] == str(version) else 2
            rated = person.put(f"/v1/captions/{made['caption_id']}/rating", json={"stars": stars})
            assert rated.status_code == 200, rated.text


def test_a_version_is_tried_as_a_shadow_and_as_a_canary_and_served_when_people_prefer_it(
    project: SmallProject, airflow: AirflowProcess, loop_service: ServiceProcess
) -> None:
    rate(loop_service, seed=7)
    before = project.champion
    run_id = airflow.trigger(
        DAG, least_ratings=10, epochs=1, shards=1, verify_seconds=0,
        shadow_share=1, shadow_hours=0.01, canary_share=0.5, canary_days=1,
    )  # fmt: skip
    airflow.switch_on(DAG)
    airflow.wait_for_task(DAG, run_id, "canary", "success", 1500)
    challenger = project.registry.challenger()
    assert challenger is not None and project.champion == before, "nobody was asked yet"
    wanted = {"ready": True, "role": "canary", "version": str(challenger.version)}
    airflow._until(lambda: wanted.items() <= trial_of(loop_service).items(), 300, "no canary answers")
    people_like(loop_service, challenger.version)
    states = airflow.wait_for(DAG, run_id)
    run = airflow.run(DAG, run_id)
    assert run["state"] == "success", (states, run["note"])
    assert {state for name, state in states.items() if name != "rollback"} == {"success"}
    assert f"Version {challenger.version} is served" in run["note"]
    assert project.champion == challenger.version == served(loop_service)
    lines = [line for line in project.registry.history() if line.version == challenger.version]
    done = [(line.action, line.outcome) for line in lines]
    assert ("shadow", "") in done and done[-4:] == [
        ("canary", ""), ("end", "better"), ("promote", ""), ("verify", "passed"),
    ]  # fmt: skip
    assert all(line.by.startswith(f"airflow:{DAG}/{run_id}/") for line in lines[1:]), lines


def test_a_version_that_people_do_not_prefer_is_not_served(
    project: SmallProject, airflow: AirflowProcess, loop_service: ServiceProcess
) -> None:
    rate(loop_service, seed=8)
    before = project.champion
    run_id = airflow.trigger(
        DAG, least_ratings=10, epochs=1, shards=1, verify_seconds=0, canary_share=0.5, canary_days=0.001
    )
    states = airflow.wait_for(DAG, run_id)
    run = airflow.run(DAG, run_id)
    assert run["state"] == "success", (states, run["note"])
    alert_receiver = {
        name: states[name] for name in ("canary", "canary_watch", "canary_verdict", "deploy", "rollback")
    }
    assert alert_receiver == {
        "canary": "success", "canary_watch": "success", "canary_verdict": "skipped", "deploy": "skipped",
        "rollback": "skipped",
    }  # fmt: skip
    assert "passed the gate, and people's ratings did not prefer it" in run["note"]
    assert project.champion == before == served(loop_service)
    assert project.registry.trial() is None and project.registry.challenger() is not None
