"""A browser, and an Airflow whose tasks wait for the jobs of a sandbox."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from cryptography.fernet import Fernet
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess
from dev.local_airflow import LocalAirflow
from dev.local_postgres import database_url
from tests.ui.scene import CONNECTION_ID, DAG_RUNS, SENSORS, OpenPage, Scene, Send

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium")
USERS = {"admin": "admin", "viewer": "viewer"}
ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    # The pages must not need any other host.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SIZE = {"width": 1366, "height": 768}
# For a machine under load.
TIMEOUT_MS = 30_000
expect.set_options(timeout=TIMEOUT_MS)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, metavar="DIR", help="save the pictures of the documentation there")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests without a browser. Tests that need no DAG run come first, those that need all traces last."""
    order = {"test_connection.py": -1, "test_screenshots.py": 1, "test_secrets.py": 1}
    own = [item for item in items if HERE in item.path.parents]
    own.sort(key=lambda item: order.get(item.path.name, 0))
    items[:] = [item for item in items if HERE not in item.path.parents] + own
    for item in own:
        item.add_marker(pytest.mark.system)
        # The first test starts Airflow.
        item.add_marker(pytest.mark.timeout(600))
        if CHROMIUM is None:
            item.add_marker(pytest.mark.skip("There is no Chromium; it is Debian's package 'chromium'."))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """The Control Hub of all DAGs."""
    seed = yaml.safe_load((HERE / "seed.yaml").read_text("utf-8"))
    seed["jobs"] += [
        {"name": f"Sensor {number:02}", "pipeline": "Sensor", "labels": ["dev"], "tags": ["sensors"]}
        for number in range(1, SENSORS + 1)
    ]
    path = tmp_path_factory.mktemp("sandbox") / "seed.yaml"
    path.write_text(yaml.safe_dump(seed, sort_keys=False), "utf-8")
    with SandboxProcess("--log-level", "info", time_scale=5, seed=path) as process:
        yield process


@pytest.fixture(scope="session")
def airflow(sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """An Airflow with an admin, a viewer who may not read all DAGs, and a run of each DAG."""
    home = tmp_path_factory.mktemp("airflow")
    dags, config = home / "dags", home / "config"
    shutil.copytree(HERE / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    config.mkdir()
    # Airflow imports modules from this folder.
    shutil.copy(HERE / "per_dag_auth_manager.py", config)
    environment = {
        "AIRFLOW__CORE__AUTH_MANAGER": "per_dag_auth_manager.PerDagAuthManager",
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW__STREAMSETS__PROGRESS_INTERVAL": "2",
        # All tasks start at the same time.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
    }
    with (
        database_url(home) as database,
        LocalAirflow(home, dags, environment, database=database, users=USERS) as running,
    ):
        running.start(connections={CONNECTION_ID: sandbox.airflow_conn})
        for dag_id, run_id in DAG_RUNS.items():
            running.trigger_dag(dag_id, run_id=run_id)
        yield running


@pytest.fixture(scope="session")
def scene(airflow: LocalAirflow, sandbox: SandboxProcess) -> Scene:
    return Scene(airflow, sandbox)


@pytest.fixture(scope="session")
def tokens(airflow: LocalAirflow) -> dict[str, str]:
    """The access token of each user."""
    return {user: airflow.token(user) for user in USERS}


@pytest.fixture(scope="session")
def contexts(browser: Browser, airflow: LocalAirflow, tokens: dict[str, str]) -> dict[str | None, BrowserContext]:
    """A browser context of each user and an anonymous one, which cache Airflow's own files."""
    contexts: dict[str | None, BrowserContext] = {}
    for user in (*USERS, None):
        contexts[user] = browser.new_context(base_url=airflow.url, viewport=SIZE, locale="en-US", timezone_id="UTC")
        contexts[user].set_default_timeout(TIMEOUT_MS)
        if user:
            contexts[user].add_cookies([{"name": "_token", "value": tokens[user], "url": airflow.url}])
    return contexts


@contextmanager
def opener(contexts: dict[str | None, BrowserContext], url: str) -> Iterator[OpenPage]:
    """Return a function that opens pages. At the end, all are closed, and none of them may have had an error."""
    pages, errors = [], []

    def check_message(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            errors.append(message.text)

    def check_host(request: Request) -> None:
        if not request.url.startswith((url, "data:", "blob:")):
            errors.append(f"{request.url} is of another host")

    def open_page(user: str | None = "admin") -> Page:
        page = contexts[user].new_page()
        pages.append(page)
        page.emulate_media(color_scheme="light")
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", check_message)
        page.on("request", check_host)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not errors


@pytest.fixture
def open_page(contexts: dict[str | None, BrowserContext], airflow: LocalAirflow) -> Iterator[OpenPage]:
    """Opens a page of a user; None is an anonymous one."""
    with opener(contexts, airflow.url) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def open_shared_page(contexts: dict[str | None, BrowserContext], airflow: LocalAirflow) -> Iterator[OpenPage]:
    """Opens a page for several tests: to load one takes seconds."""
    with opener(contexts, airflow.url) as open_page:
        yield open_page


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """A page of the admin."""
    return open_page()


@pytest.fixture(scope="session")
def send(airflow: LocalAirflow, tokens: dict[str, str]) -> Send:
    """Sends a request to the plugin as a user; None is an anonymous one."""

    def send(user: str | None, method: str, path: str, *, is_action: bool = True, **params: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {tokens[user]}"} if user else {}
        if is_action:
            headers["X-Streamsets-Action"] = "1"
        return requests.request(method, f"{airflow.url}/streamsets/{path}", params=params, headers=headers, timeout=30)

    return send
