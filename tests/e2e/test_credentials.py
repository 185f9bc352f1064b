"""A deployment that asks for credentials, from outside: keys, tokens, tenants, limits, and Redis away."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser

from tests.support.browser import viewing
from tests.support.running_stack import RunningStack, notes
from tests.support.up import INGATHER, running_up, wait_until_ready

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Json = dict[str, Any]

CREDENTIALS_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "credentials.md"


class Deployment:
    """The stack with its first key, and the command line pointed at it."""

    def __init__(self, stack: RunningStack, key: str) -> None:
        self.stack = stack
        self.key = key

    def http(self, key: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.stack.base_url, headers=headers, trust_env=False, timeout=60)

    def ingather(self, *arguments: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "INGATHER_URL": self.stack.base_url, "INGATHER_API_KEY": key or ""}
        command = [*INGATHER, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)

    def new_tenant(self, name: str, **settings: Any) -> tuple[str, str]:
        """A tenant's id and a key of it."""
        with self.http(self.key) as http:
            tenant = http.post("/v1/tenants", json={"name": name, **settings}).json()
            key = http.post("/v1/api-keys", json={"name": f"{name}'s", "tenant_id": tenant["id"]}).json()
        return tenant["id"], key["key"]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """`ingather up` in required mode, started twice: what a first start shows, a second does not."""
    data_dir = tmp_path_factory.mktemp("closed") / ".ingather"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INGATHER_AUTH__MODE", "required")
        patch.setenv("INGATHER_LIMITS__STREAMS_PER_KEY", "2")
        with running_up(data_dir) as up:
            key = up.wait_ready()["api"]["key"]
            assert key not in up.said()
        with running_up(data_dir) as up:
            facts = up.wait_ready()
            assert "key" not in facts["api"]
            wait_until_ready(facts["api"]["url"])
            yield Deployment(RunningStack(up, facts["api"]["url"]), key)


def test_the_first_key_is_kept_nowhere(deployment: Deployment):
    """Shown at the first start, it works after the second, and no file of the data directory holds it."""
    with deployment.http(deployment.key) as http:
        assert http.get("/v1/tenants").status_code == 200
    secret = deployment.key.encode()
    small = [
        path for path in deployment.stack.up.data_dir.rglob("*") if path.is_file() and path.stat().st_size < 1 << 24
    ]
    assert len(small) > 10
    assert [path for path in small if secret in path.read_bytes()] == []


def test_the_command_line_sends_its_key(deployment: Deployment, tmp_path: Path):
    """Without one it ends with 3 and says what is missing; with one a batch is submitted and ends."""
    refused = deployment.ingather("list")
    assert refused.returncode == 3
    assert "credential" in refused.stderr
    (tmp_path / "note.txt").write_text("The dome was open all night.")
    done = deployment.ingather("submit", str(tmp_path / "note.txt"), "--watch", "--json", key=deployment.key)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["created_by"] == "key:first key"


def test_tenants_users_and_keys_are_managed_from_the_command_line(deployment: Deployment):
    """Created, listed, used and taken back."""
    tenant = deployment.ingather("tenants", "create", "acme", "--json", key=deployment.key)
    tenant_id = json.loads(tenant.stdout)["id"]
    made = deployment.ingather("users", "create", "ada", "--tenant", "acme", "--json", key=deployment.key)
    password = json.loads(made.stdout)["password"]
    key = deployment.ingather(
        "keys", "create", "ada's", "--tenant", "acme", "--user", "ada", key=deployment.key
    ).stdout.strip()

    with deployment.http() as http:
        token = http.post("/v1/tokens", json={"username": "ada", "password": password}).json()["access_token"]
    for credential in (token, key):
        with deployment.http(credential) as http:
            batch = http.post("/v1/batches", files=[("files", note) for note in notes(1, credential[-6:])]).json()
            assert (batch["tenant_id"], batch["created_by"]) == (tenant_id, "ada")
            assert len(http.get("/v1/api-keys").json()["data"]) == 1

    assert deployment.ingather("users", "delete", "ada", key=deployment.key).returncode == 0
    for credential in (token, key):
        with deployment.http(credential) as http:
            assert http.get("/v1/batches").status_code == 401
    assert deployment.ingather("tenants", "delete", "acme", key=deployment.key).returncode == 0
    assert "acme" not in deployment.ingather("tenants", "list", "--json", key=deployment.key).stdout


def test_the_page_s_examples_work(deployment: Deployment):
    """The key commands of the page on credentials, in its order."""
    assert deployment.ingather("tenants", "create", "acme", key=deployment.key).returncode == 0
    lines = CREDENTIALS_PAGE.read_text(encoding="utf-8").splitlines()
    examples = [shlex.split(line)[2:] for line in lines if line.startswith("$ ingather keys ")]
    assert len(examples) >= 3
    for arguments in examples:
        done = deployment.ingather(*arguments, key=deployment.key)
        assert done.returncode == 0, (arguments, done.stderr)
    assert "nightly" not in deployment.ingather("keys", "list", "--json", key=deployment.key).stdout
    assert deployment.ingather("tenants", "delete", "acme", key=deployment.key).returncode == 0


def test_tenants_know_nothing_of_each_other(deployment: Deployment):
    """A batch, its stream, its documents, its text in the search: the owner's alone."""
    _, owner = deployment.new_tenant("owner")
    _, stranger = deployment.new_tenant("stranger")
    with deployment.http(owner) as http:
        batch = http.post("/v1/batches", files=[("files", ("a.txt", b"quetzalcoatl was here"))]).json()
        path = f"/v1/batches/{batch['id']}"
        assert http.get(path, headers={"Prefer": "wait=60"}).json()["counts"]["done"] == 1
        document = http.get(f"{path}/documents").json()["data"][0]["id"]
        paths = [path, f"{path}/documents", f"{path}/documents/{document}/text", f"{path}/report", f"{path}/events"]
        for each in paths:
            assert http.get(each, headers={"Accept": "application/json"} if "events" in each else {}).status_code == 200
        assert len(http.get("/v1/search", params={"q": "quetzalcoatl"}).json()["data"]) == 1
    with deployment.http(stranger) as http:
        assert [http.get(each).status_code for each in paths] == [404] * 5
        assert http.get("/v1/search", params={"q": "quetzalcoatl", "batch_id": batch["id"]}).json()["data"] == []
        assert http.get("/v1/batches").json()["data"] == []


def test_a_tenant_s_own_limit_holds_in_its_line(deployment: Deployment):
    """With one place, the second batch waits while the first is paused."""
    _, key = deployment.new_tenant("narrow", limits={"max_concurrent_jobs": 1})
    with deployment.http(key) as http:
        assert http.get("/v1/limits").json()["max_concurrent_jobs"] == 1
        first = http.post("/v1/batches", files=[("files", note) for note in notes(150, "first")]).json()
        assert http.post(f"/v1/batches/{first['id']}/pause").status_code == 202
        second = http.post("/v1/batches", files=[("files", note) for note in notes(1, "second")]).json()
        deadline = time.monotonic() + 30
        while True:
            now = http.get(f"/v1/batches/{second['id']}").json()
            if (now["status"], (now["waiting_for"] or "")[:5]) == ("queued", "place"):
                break
            assert time.monotonic() < deadline, now
            time.sleep(0.2)
        http.post(f"/v1/batches/{first['id']}/cancel")
        assert http.get(f"/v1/batches/{second['id']}", headers={"Prefer": "wait=60"}).json()["status"] == "completed"


def test_a_key_holds_so_many_streams(deployment: Deployment):
    """The next one is 429 until another is closed; a second key has its own."""
    _, key = deployment.new_tenant("watcher")
    with deployment.http(key) as http:
        batch = http.post("/v1/batches", json={"open": True}).json()
        path = f"/v1/batches/{batch['id']}/events"
        with http.stream("GET", path) as one, http.stream("GET", path) as two:
            assert (one.status_code, two.status_code) == (200, 200)
            refused = http.get(path)
            assert (refused.status_code, refused.json()["limit"]) == (429, "streams_per_key")
        deadline = time.monotonic() + 30
        while True:
            with http.stream("GET", path) as again:
                if again.status_code == 200:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_browser_opens_a_stream_with_a_ticket(deployment: Deployment):
    """Without a header, and again after the last event it saw; what it presents is in no log."""
    _, key = deployment.new_tenant("browser")
    with deployment.http(key) as http:
        batch = http.post("/v1/batches", files=[("files", note) for note in notes(3, "browser")]).json()
        ticket = http.post("/v1/stream-tickets", json={"batch_id": batch["id"]}).json()
        assert http.get(f"/v1/batches/{batch['id']}", headers={"Prefer": "wait=60"}).json()["status"] == "completed"
    with deployment.http() as browser:
        assert browser.get(f"/v1/batches/{batch['id']}/events").status_code == 401
        seen = browser.get(ticket["links"]["events"], headers={"Last-Event-ID": "0"})
        assert "event: batch.completed" in seen.text
        again = browser.get(ticket["links"]["events"], headers={"Last-Event-ID": "2"})
        assert again.text.count("\nid: 3\n") == 1
        assert again.text.count("\nid: 2\n") == 0
        job = browser.get(f"/api/v1/batch/jobs/{batch['id']}/stream", params={"sig": ticket["sig"]})
        assert "event: complete" in job.text
    logs = list((deployment.stack.up.data_dir / "logs").rglob("*.log"))
    assert any(batch["id"] in path.read_text(errors="replace") for path in logs)
    assert [path for path in logs if ticket["sig"] in path.read_text(errors="replace")] == []


@pytest.mark.asyncio(loop_scope="session")
async def test_a_person_signs_in_and_out_with_a_browser(deployment: Deployment, browser: Browser):
    """With a password and with a key; back where they wanted to go, and nowhere after they have signed out."""
    with deployment.http(deployment.key) as http:
        assert http.post("/v1/users", json={"username": "grace", "password": "a compiler"}).status_code == 201
    async with viewing(browser, deployment.stack.base_url) as viewer:
        page = await viewer.open("/submit")
        await page.wait_for_url("**/sign-in?next=%2Fsubmit")
        await viewer.assert_accessible()
        await page.get_by_label("User name").fill("grace")
        await page.get_by_label("Password").fill("a compiler")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Submit documents").wait_for()
        assert await page.evaluate("document.cookie") == "", "scripts see no session"
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_role("heading", name="Sign in").wait_for()
        await page.go_back()
        await page.get_by_role("heading", name="Sign in").wait_for()

        await page.get_by_text("With an API key").click()
        await page.get_by_label("API key").fill(deployment.key)
        await page.get_by_role("button", name="Sign in with the key").click()
        await page.get_by_role("heading", name="Submit documents").wait_for()
        await page.get_by_role("link", name="System").wait_for()


def test_nobody_is_held_up_while_redis_is_away(deployment: Deployment):
    """Requests that need no events go on while it is restarted; then they are counted again."""
    with deployment.http(deployment.key) as http:
        assert http.get("/v1/batches").headers["RateLimit-Policy"] == '"default";q=600;w=60'
        killed = deployment.stack.kill("redis")
        answers = [http.get("/v1/batches") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 5
        deadline = time.monotonic() + 60
        while "RateLimit" not in http.get("/v1/batches").headers:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert deployment.stack.pid("redis") != killed
