import http.server
import io
import json
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from captionloop import cli, hardware
from captionloop.captioner.captioner import Captioner
from captionloop.captioner.decoders import build_decoder
from captionloop.captioner.model_config import DecodingOptions, ShowAndTellConfig, ShowAttendTellConfig
from captionloop.commands import doctor
from captionloop.errors import CaptionloopError
from captionloop.registry.model_registry import ModelRegistry
from captionloop.tokenizer import CaptionTokenizer
from captionloop.vision.embedding import Familiarity
from captionloop.vision.encoder import Encoder, EncoderSpec

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def make_captioner():
    encoder = Encoder.build(EncoderSpec(architecture="resnet10", input_size=64))

    def make(kind=ShowAttendTellConfig, seed=0) -> Captioner:
        torch.manual_seed(seed)
        tokenizer = CaptionTokenizer.train(["a red box under a blue one", "two green dots"])
        config = kind(embedding=12, hidden=12)
        decoder = build_decoder(config, vocabulary_size=tokenizer.vocabulary_size, channels=encoder.channels)
        decoding = DecodingOptions(beam_width=2, alternatives=2, max_length=6)
        return Captioner("tiny", encoder, decoder, tokenizer, decoding)

    return make


@pytest.fixture
def project(tmp_path, mlflow_store, monkeypatch) -> Path:
    """An empty project with a registry of its own, as the current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("KEDRO_ENV", raising=False)
    monkeypatch.delenv("CAPTIONLOOP_REGISTRY", raising=False)
    monkeypatch.setenv("CAPTIONLOOP_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/base").mkdir(parents=True)
    for file in (*(ROOT / "conf/base").glob("catalog*.yml"), ROOT / "conf/base/globals.yml"):
        shutil.copy(file, tmp_path / "conf/base")
    (tmp_path / "conf/base/mlflow.yml").write_text("server: {mlflow_tracking_uri: 'sqlite:///mlflow.db'}")
    shutil.copy(mlflow_store.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def registry(project) -> ModelRegistry:
    return ModelRegistry(f"sqlite:///{project / 'mlflow.db'}")


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    return path


def call(*arguments: object, **options):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments], **options)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from captionloop.cli import main; main(['--help'], standalone_mode=False);"
        "print([m for m in ('torch', 'mlflow', 'pandas', 'numpy', 'kedro', 'rich') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_runs_where_its_streams_are_closed(closed: str) -> None:
    ran = "from captionloop.cli import main; main(['models', '--help'], standalone_mode=False)"
    shell = f'"{sys.executable}" -c "import sys; {ran}; sys.stdout.isatty(); sys.stderr.isatty()" {closed}'
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == 0


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_of_the_table_is_there(name: str) -> None:
    assert isinstance(cli.COMMANDS[name].load(), click.Command)
    assert call(name, "--help").exit_code == 0


def test_kedro_finds_a_group_with_nothing_in_it_but_its_own_run() -> None:
    assert isinstance(cli.cli, click.Group)
    assert not cli.cli.commands
    assert cli.cli.list_commands(click.Context(cli.cli)) == ["run"]


def test_what_a_user_can_mend_is_one_line_and_exit_code_1(monkeypatch) -> None:
    @click.command()
    def broken() -> None:
        raise CaptionloopError("The photo is upside down: turn it")

    monkeypatch.setitem(sys.modules, "broken_command", type("Module", (), {"broken": broken}))
    monkeypatch.setitem(cli.COMMANDS, "broken", cli.Command("broken_command:broken", "Break."))
    result = call("broken")
    assert (result.exit_code, result.stderr) == (1, "captionloop: The photo is upside down: turn it\n")
    assert result.stdout == ""


def test_every_command_names_a_variable_that_nothing_reads(project, monkeypatch) -> None:
    """With a misspelt address of the database, ratings would be counted, and erased, in another one."""
    monkeypatch.setenv("CAPTIONLOOP_DATABSE", "postgresql://elsewhere/ratings")
    for command in (("keys", "list"), ("ratings",), ("models", "list")):
        assert (
            "Nothing reads CAPTIONLOOP_DATABSE: did you mean CAPTIONLOOP_DATABASE?" in call(*command).stderr
        )


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(sys.modules, "broken_command", type("Module", (), {"broken": broken}))
    monkeypatch.setitem(cli.COMMANDS, "broken", cli.Command("broken_command:broken", "Break."))
    assert isinstance(call("broken").exception, ZeroDivisionError)


def test_versions_are_listed_shown_promoted_and_rolled_back(registry, make_captioner, tmp_path) -> None:
    for seed in (1, 2):
        make_captioner(seed=seed).save(tmp_path / "bundle")
        registry.register(tmp_path / "bundle", metrics={"CIDEr": seed / 2}, lineage={"model": "tiny"})
    assert call("models", "promote", 1).stdout == "Version 1 is now the champion.\n"
    assert "Back to version 1" in call("models", "promote", "challenger").stdout
    assert "already" in call("models", "promote", "champion").stdout

    listed = call("models", "list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["version", "2", "1"]
    assert "challenger, champion" in listed[1]
    assert "50.0" in listed[2]
    shown = call("models", "show", "champion").stdout
    assert ["CIDEr", "100.0"] in [line.split() for line in shown.splitlines()]
    assert "not brought to the gate" in shown

    assert call("models", "rollback").stdout.startswith("Version 1 is the champion again.")
    as_json = json.loads(call("models", "list", "--json").stdout)
    assert [(one["version"], one["aliases"]) for one in as_json] == [(2, ["challenger"]), (1, ["champion"])]
    assert as_json[0]["rolled_back"]
    result = call("models", "rollback")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("captionloop: Nothing to roll back to: captioner version 1")


def test_an_empty_registry_says_how_to_fill_it(project) -> None:
    assert "make demo" in call("models", "list").stdout
    assert json.loads(call("models", "list", "--json").stdout) == []
    result = call("models", "show", "champion")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)


def test_a_command_works_from_any_folder_of_the_project(
    registry, make_captioner, project, monkeypatch
) -> None:
    make_captioner().save(project / "bundle")
    registry.register(project / "bundle")
    monkeypatch.chdir(project / "conf/base")
    assert len(json.loads(call("models", "list", "--json").stdout)) == 1


def test_the_caption_of_one_photo_is_printed_alone(project, make_captioner, photo) -> None:
    make_captioner().save(project / "bundle")
    expected = make_captioner().caption([photo.read_bytes()])[0].best.text
    result = call("caption", photo, "--model", project / "bundle")
    assert (result.exit_code, result.stdout) == (0, f"{expected}\n")


def test_json_holds_everything_about_every_photo(project, make_captioner, photo) -> None:
    make_captioner().save(project / "bundle")
    result = call("caption", photo, photo, "--model", project / "bundle", "--json")
    answers = json.loads(result.stdout)
    assert [answer["image"] for answer in answers] == [str(photo)] * 2
    assert set(answers[0]) == {
        "image", "caption", "confidence", "words", "alternatives", "model", "caption_id",
        "familiarity", "familiar",
    }  # fmt: skip
    assert " ".join(word["text"] for word in answers[0]["words"]) == answers[0]["caption"]
    assert np.shape(answers[0]["words"][0]["attention"]) == (2, 2)
    assert set(answers[0]["alternatives"][0]) == {"caption", "confidence"}


def test_a_photo_unlike_anything_learnt_from_is_named_on_the_error_output(
    project, make_captioner, photo
) -> None:
    captioner = make_captioner()
    look = captioner.caption([photo.read_bytes()])[0].embedding
    near = look + np.random.default_rng(0).normal(size=(20, 32)).astype(np.float32)
    for shift, unlike in ((0, False), (1000, True)):
        known = Familiarity.learn(near[:10] + shift, near[10:] + shift)
        replace(captioner, familiarity=known).save(project / "bundle")
        result = call("caption", photo, "--model", project / "bundle")
        assert ("unlike anything the model learnt from" in result.stderr) == unlike
        assert "unlike" not in result.stdout and result.exit_code == 0
        answer = json.loads(call("caption", photo, "--model", project / "bundle", "--json").stdout)[0]
        assert answer["familiar"] is not unlike and (answer["familiarity"] == 0) == unlike


def test_the_champion_captions_unless_another_is_asked_for(registry, make_captioner, project, photo) -> None:
    make_captioner(seed=1).save(project / "data/06_models/here/trained")
    newest = json.loads(call("caption", photo, "--json").stdout)
    assert newest[0]["model"] == "data/06_models/here/trained"
    for seed in (2, 3):
        make_captioner(seed=seed).save(project / "bundle")
        registry.register(project / "bundle")
    registry.promote(1)
    assert json.loads(call("caption", photo, "--json").stdout)[0]["model"] == "1"
    challenger = json.loads(call("caption", photo, "--json", "--model", "challenger").stdout)
    assert challenger[0]["model"] == "2"
    assert challenger[0]["caption"] == make_captioner(seed=3).caption([photo.read_bytes()])[0].best.text


def test_no_other_model_captions_where_the_registry_cannot_be_asked(project, make_captioner, photo) -> None:
    """Its caption would be taken for the champion's."""
    make_captioner().save(project / "data/06_models/sample_scenes/tiny")
    assert call("caption", photo).exit_code == 0
    (project / "mlflow.db").write_text("damaged, and yet there")
    result = call("caption", photo)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "(sqlite3.DatabaseError) file is not a database" in result.stderr


def test_without_any_model_one_line_says_how_to_make_one(project, photo) -> None:
    result = call("caption", photo)
    assert result.exit_code == 1
    assert result.stderr.startswith("captionloop: There is no model to caption with")
    assert "make demo" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_bad_photo_does_not_stop_the_others(project, make_captioner, photo, tmp_path) -> None:
    make_captioner().save(project / "bundle")
    (tmp_path / "text.jpg").write_text("this is no photo")
    arguments = [tmp_path / "text.jpg", photo, tmp_path / "nowhere.jpg", "--model", project / "bundle"]
    result = call("caption", *arguments)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{photo}: ")
    assert result.stderr.count("\n") == 2
    assert f"captionloop: {tmp_path / 'text.jpg'}: " in result.stderr
    answers = json.loads(call("caption", *arguments, "--json").stdout)
    assert ["error" in answer for answer in answers] == [True, False, True]


def test_greedy_is_a_beam_of_one(project, make_captioner, photo) -> None:
    captioner = make_captioner()
    captioner.save(project / "bundle")
    greedy = captioner.decoding.model_copy(update={"beam_width": 1, "alternatives": 1})
    expected = captioner.caption([photo.read_bytes()], greedy)[0]
    result = call("caption", photo, "--model", project / "bundle", "--beam-width", 1, "--json")
    (answer,) = json.loads(result.stdout)
    assert (answer["caption"], answer["alternatives"]) == (expected.best.text, [])


def test_attention_is_drawn_for_a_model_that_attends(project, make_captioner, photo, tmp_path) -> None:
    make_captioner().save(project / "bundle")
    picture = tmp_path / "out.png"
    assert call("caption", photo, "--model", project / "bundle", "--attention", picture).exit_code == 0
    assert Image.open(picture).width > 400
    make_captioner(ShowAndTellConfig).save(project / "bundle")
    result = call("caption", photo, "--model", project / "bundle", "--attention", tmp_path / "none.png")
    assert result.exit_code == 1
    assert "has no attention to draw" in result.stderr
    assert not (tmp_path / "none.png").exists()


def test_a_damaged_bundle_is_one_line(project, make_captioner, photo) -> None:
    make_captioner().save(project / "bundle")
    weights = project / "bundle/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    result = call("caption", photo, "--model", project / "bundle")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "model.safetensors is damaged" in result.stderr


@pytest.fixture
def service():
    """Answers as docs/api.md says: one caption, then a refusal."""

    class Handler(http.server.BaseHTTPRequestHandler):
        requests: ClassVar[list[dict[str, Any]]] = []

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.requests.append(
                {"path": self.path, "key": self.headers["Authorization"] or "", "body": body}
            )
            status, document = CAPTION if len(self.requests) == 1 else PROBLEM
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", Handler.requests
    server.shutdown()
    server.server_close()


CAPTION = (
    201,
    {
        "caption_id": "kq3V",
        "caption": "a dog",
        "confidence": 0.71,
        "words": [
            {"text": "a", "confidence": 0.98, "attention": [[0.5, 0.5], [0.0, 0.0]]},
            {"text": "dog", "confidence": 0.6, "attention": [[0.0, 0.0], [0.0, 1.0]]},
        ],
        "alternatives": [{"caption": "a cat", "confidence": 0.5}],
        "model": {"name": "captioner", "version": "3"},
    },
)
PROBLEM = 429, {"title": "Too many requests", "detail": "Your limit is used up; come back in 7 s."}


def test_the_service_is_asked_as_its_api_says(project, photo, service) -> None:
    url, requests = service
    result = call("caption", photo, photo, "--url", url, "--key", "clk_1", "--json")
    first, second = json.loads(result.stdout)
    assert (first["caption"], first["model"], first["caption_id"]) == ("a dog", "3", "kq3V")
    assert first["alternatives"] == [{"caption": "a cat", "confidence": 0.5}]
    assert second == {"image": str(photo), "error": "Your limit is used up; come back in 7 s."}
    assert result.exit_code == 1
    assert (requests[0]["path"], requests[0]["key"]) == ("/v1/captions", "Bearer clk_1")
    assert photo.read_bytes() in requests[0]["body"]


def test_attention_from_the_service_is_drawn_too(project, photo, service, tmp_path) -> None:
    result = call("caption", photo, "--url", service[0], "--attention", tmp_path / "out.png")
    assert (result.exit_code, result.stdout) == (0, "a dog\n")
    assert (tmp_path / "out.png").stat().st_size > 4000


def test_a_service_that_is_away_is_one_line(project, photo) -> None:
    result = call("caption", photo, "--url", "http://127.0.0.1:1")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("captionloop: No captioning service answers at http://127.0.0.1:1")


@pytest.mark.parametrize(
    "options",
    [
        ["--url", "http://x", "--model", "2"],
        ["other.png", "--attention", "out.png"],
        ["--model", ""],
        ["--url", ""],
    ],
)
def test_options_that_do_not_go_together_are_refused(project, photo, options) -> None:
    result = call("caption", photo, *options)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)


EVALUATION = {
    "split": "test",
    "photos": 1200,
    "models": {
        name: {"CIDEr": {"value": value, "low": value - 0.1, "high": value + 0.1}}
        for name, value in (("show_and_tell", 1.2), ("show_attend_tell", 1.6))
    },
}


def test_the_report_shows_the_table_the_version_and_what_to_do_next(
    project, registry, make_captioner
) -> None:
    folder = project / "data/08_reporting/sample_scenes"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    assert "Not registered yet" in call("report").stdout
    make_captioner().save(project / "bundle")
    version = registry.register(project / "bundle")
    registered = {
        "name": "captioner", "version": 1, "aliases": ["champion"], "reason": "Promoted: better.",
        "fingerprint": version.fingerprint,
    }  # fmt: skip
    (folder / "registered_version.json").write_text(json.dumps(registered))
    (folder / "gate.md").write_text("# Promoted")
    shown = call("report").stdout
    assert "1,200 photos of test" in shown
    assert shown.index("show_attend_tell") < shown.index("show_and_tell")
    assert "160.0" in shown
    assert "150.0 to 170.0" in shown
    assert "captioner version 1\n" in shown  # the file says champion, the registry does not
    registry.promote(1)
    assert "captioner version 1, which is now served" in call("report").stdout
    assert "data/08_reporting/sample_scenes/gate.md" in shown
    assert "gallery" not in shown.split("Reports")[1].split("Next")[0]
    assert "captionloop models list" in shown
    assert json.loads(call("report", "--json").stdout)["registered_version"] == registered


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", "null", '{"photos": "many", "split": 1}', "\xff"])
def test_without_a_readable_evaluation_the_report_is_one_line(project, content) -> None:
    folder = project / "data/08_reporting/flickr8k"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "evaluation.json").write_bytes(content.encode("latin-1"))
    result = call("report", "--corpus", "flickr8k")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("content", ["[]", "{}", '{"name": "captioner"}'])
def test_a_registration_that_no_run_wrote_is_one_line(project, registry, content) -> None:
    folder = project / "data/08_reporting/sample_scenes"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    (folder / "registered_version.json").write_text(content)
    result = call("report")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "registered_version.json is not as a run writes it" in result.stderr


def test_the_doctor_fails_only_for_what_is_required(project, monkeypatch) -> None:
    (project / "requirements").mkdir()
    (project / "requirements/debian.txt").write_text("# programs\nno-such-package\n")
    result = call("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert (
        findings["torch"]["state"] == findings["Java"]["state"] == findings["MLflow store"]["state"] == "ok"
    )
    assert findings["champion"]["mend"] == "make demo"
    assert findings["no-such-package"]["mend"] == "apt-get install no-such-package"

    missing = doctor.Finding("torch", "missing", "not installed", "make install")
    monkeypatch.setattr(doctor, "CHECKS", (lambda _: iter([missing]),))
    result = call("doctor")
    assert result.exit_code == 1
    assert "-> make install" in result.stdout


def test_the_doctor_names_a_registry_that_is_away(project, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setattr(doctor, "CHECKS", (doctor.registry,))
    result = call("doctor")
    assert result.exit_code == 1
    assert "http://127.0.0.1:1 does not answer" in result.stdout


def test_a_picture_goes_to_the_service_as_it_is(project, service, tmp_path) -> None:
    out = io.BytesIO()
    Image.new("RGB", (3, 3), "red").save(out, "JPEG")
    (tmp_path / "red.jpg").write_bytes(out.getvalue())
    call("caption", tmp_path / "red.jpg", "--url", service[0])
    assert out.getvalue() in service[1][0]["body"]


def test_the_report_says_nothing_of_a_version_that_its_store_does_not_have(project, monkeypatch) -> None:
    folder = project / "data/08_reporting/sample_scenes"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    registered = {"name": "captioner", "version": 1, "reason": "Promoted.", "fingerprint": "0" * 64}
    (folder / "registered_version.json").write_text(json.dumps(registered))
    shown = call("report").stdout
    assert "served" not in shown and "version 1 of another MLflow store" in shown
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert "whether it is served cannot be told" in call("report").stdout


def test_the_report_of_a_retraining_is_shown_too(project) -> None:
    folder = project / "data/runs/one/08_reporting/sample_scenes"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    registered = {"name": "captioner", "version": 2, "passed": True, "reason": "Passed.", "fingerprint": "1"}
    (folder / "registered_version.json").write_text(json.dumps(registered))
    result = call("report", "--workspace", "data/runs/one")
    assert result.exit_code == 0 and "version 2" in result.stdout


def damage(registry: ModelRegistry, version: int) -> None:
    (weights,) = Path(registry.version(version).source.removeprefix("file://")).glob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")


def test_the_doctor_looks_at_the_champions_files(project, registry, make_captioner, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (doctor.registry,))
    make_captioner().save(project / "bundle")
    registry.register(project / "bundle")
    registry.promote(1)
    output = call("doctor").stdout
    assert "its files are whole" in output and "the champion needs about" in output
    for name, value in {"max": "1000", "current": "0", "stat": "inactive_file 0"}.items():
        (project / f"memory.{name}").write_text(value)
    with monkeypatch.context() as patch:
        patch.setattr(hardware, "_CONTAINER", project)
        result = call("doctor")
        assert result.exit_code == 1 and "MISSING memory" in " ".join(result.stdout.split())
    damage(registry, 1)
    result = call("doctor")
    assert result.exit_code == 1 and "MISSING champion" in " ".join(result.stdout.split())


def test_models_are_signed_with_a_key_of_one_s_own_and_others_are_refused(
    project: Path, registry: ModelRegistry, make_captioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (0, 1):
        make_captioner(seed=seed).save(project / "bundle")
        registry.register(project / "bundle")
    result = call("models", "keygen", "keys", "--expires", "365d")
    assert "signing-key.pem" in result.stdout and (project / "keys/signing-key.pem").is_file()
    assert call("models", "keygen", "keys").exit_code == 1
    assert "CAPTIONLOOP_SIGNING_KEY" in call("models", "sign", 1).stderr
    monkeypatch.setenv("CAPTIONLOOP_SIGNING_KEY", "keys/signing-key.pem")
    assert call("models", "sign", 1).stdout.startswith("Version 1 is signed by key ")
    monkeypatch.setenv("CAPTIONLOOP_TRUST_STORE", "keys")
    assert call("models", "promote", 1).exit_code == 0
    refused = call("models", "promote", 2)
    assert refused.exit_code == 1 and "version 2 is not signed" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert registry.champion().version == 1
    # Nor is anything else captioned with in its place, when the champion itself is refused.
    monkeypatch.setenv("CAPTIONLOOP_TRUST_STORE", "")
    call("models", "promote", 2)
    make_captioner(seed=2).save(project / "data/06_models/mine")
    monkeypatch.setenv("CAPTIONLOOP_TRUST_STORE", "keys")
    refused = call("caption", project / "bundle/config.json")
    assert refused.exit_code == 1 and "version 2 is not signed" in refused.stderr
    deeds = [json.loads(line) for line in (project / "state/audit.log").read_text().splitlines()]
    assert [(each["action"], each["object"], each["outcome"]) for each in deeds] == [
        ("models.keygen", "keys", "done"), ("models.keygen", "keys", "failed"),
        ("models.sign", "captioner 1", "failed"), ("models.sign", "captioner 1", "done"),
        ("models.promote", "captioner 1", "done"), ("models.promote", "captioner 2", "failed"),
        ("models.promote", "captioner 2", "done"),
    ]  # fmt: skip


def test_a_damaged_version_is_neither_promoted_nor_rolled_back_to(project, registry, make_captioner) -> None:
    for seed in (1, 2):
        make_captioner(seed=seed).save(project / "bundle")
        registry.register(project / "bundle")
    registry.promote(1)
    damage(registry, 2)
    result = call("models", "promote", 2)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert registry.champion().version == 1
    registry.promote(2)
    damage(registry, 1)
    assert call("models", "rollback").exit_code == 1
    assert registry.champion().version == 2


def test_another_environment_has_another_model(project, registry, make_captioner) -> None:
    (project / "conf/mine").mkdir()
    (project / "conf/mine/globals.yml").write_text("corpus: mine")
    make_captioner().save(project / "bundle")
    ModelRegistry(registry.tracking_uri, "captioner_mine", corpus="mine").register(project / "bundle")
    assert json.loads(call("models", "list", "--json").stdout) == []
    assert len(json.loads(call("models", "list", "--json", "--env", "mine").stdout)) == 1
    result = call("models", "list", "--env", "mines")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1) and "did you mean mine?" in result.stderr


def test_a_start_that_fails_on_its_port_changes_nothing(project, registry, make_captioner) -> None:
    from captionloop.commands.serve import fresh_key
    from captionloop.ratings.api_keys import ApiKeyStore
    from captionloop.ratings.rating_store import open_store
    from captionloop.serving.service_settings import Settings

    make_captioner().save(project / "bundle")
    registry.register(project / "bundle")
    registry.promote(1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        settings = Settings.from_environment()
        store = open_store(settings.database_url, is_embedded=settings.embedded_database)
        key = fresh_key(store, f"captionloop serve 127.0.0.1:{port}")
        result = call("serve", "--port", port)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"Nothing can listen on 127.0.0.1:{port}" in result.stderr.splitlines()[-1]
        assert ApiKeyStore(store).recognise(key) is not None
        store.close()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CAPTIONLOOP_MODEL": "nowhere"}, "There is no model to serve yet"),
        ({"CAPTIONLOOP_PAGE": "nowhere"}, "CAPTIONLOOP_PAGE='nowhere' holds no index.html"),
        ({"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}, "does not answer"),
        ({"CAPTIONLOOP_MAX_BATCH": "many"}, "CAPTIONLOOP_MAX_BATCH='many' cannot be used"),
    ],
)
def test_what_cannot_be_served_makes_no_database(project, monkeypatch, variables, message) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    result = call("serve", "--port", port)
    assert result.exit_code == 1 and message in result.stderr.splitlines()[-1]
    assert not (project / "state/ratings.db").exists()


def test_an_error_of_the_system_is_one_line_too(project, monkeypatch) -> None:
    monkeypatch.setenv("CAPTIONLOOP_STATE", str(project / "conf/base/mlflow.yml"))
    result = call("keys", "create", "somebody")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "mlflow.yml" in result.stderr


def test_the_doctor_names_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:hunter2@127.0.0.1:1")
    monkeypatch.setenv("CAPTIONLOOP_DATABASE", "postgresql://ratings:hunter2@127.0.0.1:1/ratings")
    findings = [str(finding) for finding in doctor.registry(tmp_path)]
    assert findings and "hunter2" not in "".join(findings)


@pytest.mark.parametrize(
    "wrong", [["--params", "epochs:3"], ["--params", "=3"], ["--no-such-option"], ["--load-versions", "x"]]
)
def test_a_wrong_use_of_kedro_run_is_one_line(wrong) -> None:
    result = CliRunner().invoke(cli.cli, ["run", *wrong])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1, result.stderr
