"""Behind nginx with TLS and a path before ours: whatever the service says of itself is right from outside."""

import contextlib
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser
from service_process import ServiceProcess, free_port, make_bundle, photo

pytest_plugins = ["web_page_fixtures"]
pytestmark = [pytest.mark.e2e, pytest.mark.service, pytest.mark.timeout(600)]

PROXY = "127.0.0.9"
"""The address that nginx comes from; only this one is believed."""
PER_MINUTE = 12
CONFIGURATION = """
worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate cert.pem;
        ssl_certificate_key key.pem;
        client_max_body_size 11m;
        location /tools/captions/ {{
            proxy_pass http://127.0.0.1:{gateway}/;
            proxy_bind {address};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Prefix /tools/captions;
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def service_behind(
    tmp_path_factory: pytest.TempPathFactory, page_folder: Path | None
) -> Iterator[ServiceProcess]:
    """Its captions are in French, and its page is not."""
    folder = tmp_path_factory.mktemp("behind")
    running = ServiceProcess(
        folder,
        CAPTIONLOOP_MODEL=str(make_bundle(folder / "french", language="fr")),
        CAPTIONLOOP_PAGE=str(page_folder or ""),
        CAPTIONLOOP_TRUSTED_PROXIES=f"{PROXY}, 10.0.0.0/8",
        CAPTIONLOOP_ANONYMOUS_CAPTIONS_PER_MINUTE=str(PER_MINUTE),
    )
    try:
        yield running.wait_until_ready()
    finally:
        running.kill()


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory, service_behind: ServiceProcess) -> Iterator[str]:
    """The service's address as people see it."""
    for program in ("nginx", "openssl"):
        if not shutil.which(program):
            pytest.skip(f"needs {program} (requirements/debian.txt)")
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    written = CONFIGURATION.format(port=port, gateway=service_behind.port, address=PROXY)
    (folder / "nginx.conf").write_text(written)
    certificate = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj"
    subprocess.run([*certificate.split(), "/CN=localhost"], cwd=folder, check=True, capture_output=True)
    command = ["nginx", "-p", str(folder), "-c", "nginx.conf"]
    if os.geteuid() == 0:  # its workers would become a user who may not look into our folder
        command += ["-g", "user root;"]
    with (folder / "log").open("wb") as log:
        proxy = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"https://127.0.0.1:{port}/tools/captions"
    try:
        for _ in range(100):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/livez", verify=False).status_code == 200:
                    break
            time.sleep(0.1)
        yield url
    finally:
        proxy.terminate()
        proxy.wait(10)


def trusting() -> ssl.SSLContext:
    """Takes any certificate: it is the test's own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_addresses_in_answers_lead_back_through_the_proxy(outside: str) -> None:
    with httpx.Client(verify=trusting(), timeout=60) as client:
        made = client.post(f"{outside}/v1/captions", files={"image": photo()})
        assert made.status_code == 201
        location = httpx.URL(outside).join(made.headers["location"])
        assert str(location).startswith(f"{outside}/v1/captions/")
        assert "secure" in made.headers["set-cookie"].lower()
        assert client.get(location).json()["language"] == made.json()["language"] == "fr"
        assert client.put(f"{location}/rating", json={"stars": 5}).status_code == 200
        assert client.delete(location).status_code == 204
        missing = client.get(location).json()
        assert missing["instance"] == location.path
        slash = client.get(f"{outside}/v1/model/", follow_redirects=False)
        if slash.is_redirect:
            assert slash.headers["location"].startswith(outside)
            assert client.get(slash.headers["location"]).status_code == 200


def test_the_description_and_its_page_work_below_the_prefix(outside: str) -> None:
    with httpx.Client(verify=trusting(), timeout=60) as client:
        page = client.get(f"{outside}/docs")
        assert page.status_code == 200
        for asset in ("openapi.json", "docs/assets/swagger-ui-bundle.js", "docs/assets/swagger-ui.css"):
            assert f'"/tools/captions/{asset}"' in page.text.replace("'", '"')
            assert client.get(f"{outside}/{asset}").status_code == 200
        assert client.get(f"{outside}/openapi.json").json()["servers"] == [{"url": "/tools/captions"}]


def test_the_page_captions_and_rates_below_the_prefix(
    outside: str, chromium: Browser, page_folder: Path | None, tmp_path: Path
) -> None:
    if page_folder is None:
        pytest.skip("the web page is not built")
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo())
    context = chromium.new_context(ignore_https_errors=True)
    page = context.new_page()
    failed: list[str] = []
    page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    # Without the slash at the end as well: nginx leads to it.
    page.goto(outside)
    page.get_by_role("heading", level=1).wait_for()
    assert page.url.startswith(f"{outside}/")
    page.locator("input[type=file]").first.set_input_files(file)
    words = page.get_by_role("toolbar", name="Words of the caption").get_by_role("button")
    words.first.wait_for()
    spoken = words.locator(".text").evaluate_all("words => words.map(word => word.closest('[lang]').lang)")
    assert set(spoken) == {"fr"}, "screen readers say the words in their language"
    language = words.locator(".visually-hidden").first.evaluate("told => told.closest('[lang]').lang")
    assert language == page.evaluate("document.documentElement.lang") == "en"
    with page.expect_response(lambda answer: answer.request.method == "PUT") as saved:
        page.get_by_role("radio", name="4 of 5").check(force=True)
    assert saved.value.ok
    assert failed == []
    context.close()


def test_a_caller_has_one_bucket_however_it_writes_the_header(
    outside: str, service_behind: ServiceProcess
) -> None:
    """Neither a line of its own nor a port or brackets gives a caller another quota."""
    lines = ["9.9.9.{n}", "9.9.9.{n}:80", "[2001:db8::{n}]:80", "unknown", "127.0.0.9, 9.9.9.{n}"]
    statuses = []
    with httpx.Client(verify=trusting(), timeout=60) as client:
        for number in range(PER_MINUTE + 8):
            header = lines[number % len(lines)].format(n=number)
            headers = {"X-Forwarded-For": header, "Content-Type": "image/jpeg"}
            statuses.append(client.post(f"{outside}/v1/captions", content=b"x", headers=headers).status_code)
    assert statuses[-8:] == [429] * 8
    # Who comes not through the proxy is not believed either, in one line or in two.
    direct = httpx.HTTPTransport(local_address="127.0.0.77")
    with httpx.Client(base_url=service_behind.url, transport=direct, timeout=60) as client:
        statuses = [
            client.post(
                "/v1/captions",
                content=b"x",
                headers=[("X-Forwarded-For", f"9.9.8.{number}"), ("X-Forwarded-For", f"9.9.7.{number}"),
                         ("Content-Type", "image/jpeg")],
            ).status_code
            for number in range(PER_MINUTE + 3)
        ]  # fmt: skip
    assert statuses == [422] * PER_MINUTE + [429] * 3
