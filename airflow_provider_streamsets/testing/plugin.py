"""
Fixtures of pytest for tests of DAGs against the sandbox.

pytest loads this module in every run of the environment, so it imports only pytest until a fixture is used.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_provider_streamsets.testing.sandbox_process import SandboxProcess

DEFAULT_CONN_ID = "streamsets_default"
_SEED = "streamsets_seed"
_TIME_SCALE = "streamsets_time_scale"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the settings of the sandbox in the configuration file of pytest."""
    parser.addini(
        _SEED,
        "YAML or JSON file with the jobs of the sandbox, relative to this file; the built-in jobs by default. "
        "The fixture control_hub_seed overrides it.",
        default="",
    )
    parser.addini(_TIME_SCALE, "factor by which runs in the sandbox are faster", default="1")


@pytest.fixture
def control_hub_seed(pytestconfig: pytest.Config) -> Path | str | Mapping[str, Any] | None:
    """
    Jobs, pipelines and engines of the sandbox: the file of the setting streamsets_seed, or None for the built-in ones.

    Override it, in any scope, with the path of a seed file or with its content as a dictionary.
    """
    name = str(pytestconfig.getini(_SEED))
    if not name:
        return None
    folder = pytestconfig.inipath.parent if pytestconfig.inipath else pytestconfig.rootpath
    return folder / name


@pytest.fixture
def control_hub(
    _control_hub_sandboxes: _Sandboxes, control_hub_seed: Path | str | Mapping[str, Any] | None
) -> SandboxProcess:
    """
    Return a sandbox in its initial state.

    Its process listens on a free port, and serves all tests with the same seed until the end of the session. It is
    reset before each test.
    """
    sandbox = _control_hub_sandboxes.get(control_hub_seed)
    sandbox.reset()
    return sandbox


@pytest.fixture
def control_hub_connection(control_hub: SandboxProcess) -> Iterator[Callable[..., str]]:
    """
    Set the connection streamsets_default to the sandbox for the duration of a test.

    Call it with another connection id, and with fields of the connection's extra, to set a further connection.
    """
    with pytest.MonkeyPatch.context() as patch:

        def connect(conn_id: str = DEFAULT_CONN_ID, **extra: Any) -> str:
            connection = json.loads(control_hub.airflow_conn)
            if extra:
                connection["extra"] = extra
            patch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
            return conn_id

        # Otherwise the proxy of the environment would receive the requests to this machine.
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, ",".join(filter(None, (os.environ.get(name), "127.0.0.1"))))
        connect()
        yield connect


@pytest.fixture
def fast_forward(control_hub: SandboxProcess) -> Iterator[Callable[..., None]]:
    """
    Let operators, sensors and triggers in the process of the test wait without waiting.

    Each wait advances the clock of the sandbox and the clocks of the provider instead, so that runs, polls and timeouts
    happen in the same order as in real time. Call it, with seconds or with the arguments of a timedelta, to advance
    the clocks yourself.
    """
    from airflow_provider_streamsets.testing.virtual_time import VirtualTime

    def advance(seconds: float = 0.0, **units: float) -> None:
        virtual_time.sleep(timedelta(seconds=seconds, **units).total_seconds())

    with VirtualTime(control_hub.advance).installed() as virtual_time:
        yield advance


@pytest.fixture
def inject_fault(control_hub: SandboxProcess) -> Callable[..., InjectedFault]:
    """
    Let requests fail for the rest of the test.

    Call it with the name of a fault, a pattern of the path, and options of the fault rule such as method and times.
    """

    def inject(fault: str, path: str = "*", **options: Any) -> InjectedFault:
        return InjectedFault(control_hub, control_hub.add_fault({"fault": fault, "path": path, **options}))

    return inject


@pytest.fixture
def assert_started_once(control_hub: SandboxProcess) -> Callable[[str], dict[str, Any]]:
    """
    Check that a job was started exactly once in the test, and return the entry of the log of starts.

    Call it with the name of the job.
    """

    def check(job_name: str) -> dict[str, Any]:
        __tracebackhide__ = True
        all_starts = control_hub.starts()
        starts = [start for start in all_starts if start["job_name"] == job_name]
        if len(starts) == 1:
            return starts[0]
        if starts:
            raise AssertionError(
                f"Job {job_name!r} was started {len(starts)} times, expected once:{_list_starts(starts)}"
            )
        jobs = sorted(job["name"] for job in control_hub.state()["jobs"])
        if job_name not in jobs:
            raise AssertionError(f"The sandbox has no job {job_name!r}. Its jobs: {', '.join(map(repr, jobs))}.")
        others = f" Starts of other jobs:{_list_starts(all_starts)}" if all_starts else " No job was started."
        raise AssertionError(f"Job {job_name!r} was not started, expected once.{others}")

    return check


class InjectedFault:
    """
    A fault that was injected into requests, with its counts.

    :param sandbox: the sandbox.
    :param index: index of the fault rule.
    """

    def __init__(self, sandbox: SandboxProcess, index: int) -> None:
        self._sandbox = sandbox
        self._index = index

    @property
    def hits(self) -> int:
        """Number of requests that failed because of it."""
        return int(self._sandbox.faults()[self._index]["hit"])

    @property
    def matches(self) -> int:
        """Number of requests that it applies to, including those that did not fail."""
        return int(self._sandbox.faults()[self._index]["matched"])


class _Sandboxes:
    """
    The sandboxes of a session, one for each seed.

    :param folder: folder for seed files.
    :param time_scale: factor by which runs are faster.
    """

    def __init__(self, folder: Path, time_scale: float) -> None:
        self._folder = folder
        self._time_scale = time_scale
        self._processes: dict[str, SandboxProcess] = {}
        self._errors: dict[str, str] = {}
        self._exits = contextlib.ExitStack()

    def get(self, seed: Path | str | Mapping[str, Any] | None) -> SandboxProcess:
        """Return the running sandbox of a seed, and start it first if there is none."""
        __tracebackhide__ = True
        key = json.dumps(seed, sort_keys=True) if isinstance(seed, Mapping) else str(seed)
        process = self._processes.get(key)
        if key not in self._errors and not (process and process.is_running):
            self._start(key, seed)
        if key in self._errors:
            pytest.fail(self._errors[key], pytrace=False)
        return self._processes[key]

    def _start(self, key: str, seed: Path | str | Mapping[str, Any] | None) -> None:
        from airflow_provider_streamsets.testing.sandbox_process import SandboxError, SandboxProcess

        path = None
        if isinstance(seed, Mapping):
            path = self._folder / f"seed_{len(self._processes) + len(self._errors)}.json"
            path.write_text(key, "utf-8")
        elif seed:
            path = Path(seed)
        try:
            process = SandboxProcess(seed=path, time_scale=self._time_scale)
            self._processes[key] = self._exits.enter_context(process)
        except SandboxError as error:
            # Every test that uses it fails with this error, without another attempt.
            self._errors[key] = str(error)

    def stop(self) -> None:
        """Stop all processes."""
        self._exits.close()


@pytest.fixture(scope="session")
def _control_hub_sandboxes(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[_Sandboxes]:
    setting = str(pytestconfig.getini(_TIME_SCALE))
    try:
        time_scale = float(setting)
    except ValueError:
        pytest.fail(f"The setting '{_TIME_SCALE}' must be a number, got {setting!r}.", pytrace=False)
    sandboxes = _Sandboxes(tmp_path_factory.mktemp("streamsets"), time_scale)
    yield sandboxes
    sandboxes.stop()


def _list_starts(starts: list[dict[str, Any]]) -> str:
    lines = []
    for start in starts:
        time = datetime.fromtimestamp(start["time"] / 1000, timezone.utc).isoformat(" ", "milliseconds")
        caller = f", by {start['caller']}" if start["caller"] else ""
        lines.append(f"\n  {start['job_name']!r} run {start['run_count']}: {time}{caller}")
    return "".join(lines)
