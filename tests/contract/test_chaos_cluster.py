"""The cluster of ``make chaos-cluster``: its broker, host names and logs, and the order of its faults."""

from __future__ import annotations

import socket
from collections import Counter
from types import SimpleNamespace

import pytest

from dev.local_redis import LocalRedis, LocalRedisError
from tests.chaos import cluster_killer
from tests.chaos.cluster import COMPONENTS, CONCURRENCY
from tests.chaos.cluster_killer import ClusterKiller
from tests.chaos.hosts import LOGS_VARIABLE, FolderLogs, host_name
from tests.chaos.plan import Kill, Target


def test_redis_keeps_its_data_and_removes_its_folder():
    try:
        server = LocalRedis()
    except LocalRedisError as error:
        pytest.skip(str(error))
    with server:
        folder = server.folder
        assert server.url == f"redis+socket://{folder}/redis.sock"
        assert _send(server, "SET kept 42") == "+OK"
        server.restart()
        assert _send(server, "GET kept") == "$2\r\n42"
    assert not folder.exists()


def _send(server: LocalRedis, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.folder / "redis.sock"))
        client.sendall(f"{command}\r\n".encode())
        return client.recv(100).decode().strip()


def test_missing_redis_names_package_to_install():
    with pytest.raises(LocalRedisError, match="apt-get install redis-server"):
        LocalRedis("no-such-server")


def test_each_component_has_a_host_name(monkeypatch):
    monkeypatch.setenv("CHAOS_HOST", "worker-2")
    assert host_name() == "worker-2"


def test_logs_are_moved_and_appended(tmp_path, monkeypatch):
    local = tmp_path / "local"
    monkeypatch.setenv(LOGS_VARIABLE, str(tmp_path / "remote"))
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(local))
    logs = FolderLogs()
    for text in ("first leg\n", "second leg\n"):
        (local / "task").mkdir(parents=True, exist_ok=True)
        (local / "task/attempt=1.log").write_text(text)
        logs.upload("task/attempt=1.log")
    logs.upload("task/missing.log")
    assert not (local / "task/attempt=1.log").exists()
    sources, contents = logs.read("task/attempt=1.log", None)
    assert sources == [str(tmp_path / "remote/task/attempt=1.log")]
    assert contents == ["first leg\nsecond leg\n"]


class Process:
    """Stub of a process."""

    def __init__(self):
        self.is_suspended = False

    def suspend(self):
        self.is_suspended = True

    def resume(self):
        self.is_suspended = False


class Table:
    """Stub for Airflow's database: healthy jobs of all components, and triggers by host."""

    def __init__(self):
        self.unavailable_hosts = set()
        self.hosts = {1: "triggerer-1", 2: "triggerer-2", 3: "triggerer-2"}
        self.jobs = {
            ("SchedulerJob", "scheduler-1"): 1,
            ("SchedulerJob", "scheduler-2"): 2,
            ("TriggererJob", "triggerer-1"): 3,
            ("TriggererJob", "triggerer-2"): 4,
        }

    def triggers(self):
        return dict(self.hosts)

    def healthy_jobs_by_host(self):
        return dict(self.jobs)

    def read(self):
        return {}

    def task_states(self):
        return {}


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(cluster_killer.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def table():
    return Table()


@pytest.fixture
def airflow():
    """Stub for Airflow, whose components have the process ids in `pids`."""
    pids = dict.fromkeys(COMPONENTS, 1)
    process = Process()
    return SimpleNamespace(
        pids=pids,
        process=process,
        pid=pids.__getitem__,
        processes=lambda _: [process],
        check_components=lambda: None,
        exits=Counter(),
    )


@pytest.fixture
def killer(table, airflow, monkeypatch):
    monkeypatch.setattr(ClusterKiller, "_count_pool", lambda *_: CONCURRENCY)
    cluster = SimpleNamespace(airflow=airflow, proxies={}, outdated=[], revision="", clock_host="", clock_offset="")
    return ClusterKiller(cluster, table, gateway_timeout=5)


PAUSE, REDIS = Kill(1, Target.PAUSE, 0.5), Kill(2, Target.REDIS, 0.5)


def test_triggerer_is_paused_until_its_triggers_are_taken_over(killer, table, airflow, clock):
    assert killer.kill(PAUSE)
    assert airflow.process.is_suspended
    assert table.unavailable_hosts == {"triggerer-2"}
    assert not killer.is_due(REDIS)
    clock[0] += 60
    killer.maintain()
    assert airflow.process.is_suspended
    # One of the two triggers has ended on the other triggerer.
    table.hosts = {1: "triggerer-1", 2: "triggerer-1"}
    killer.maintain()
    assert not airflow.process.is_suspended
    assert table.unavailable_hosts == set()
    assert killer.details["runs that two triggerers waited for"] == 1
    assert killer.is_due(REDIS)


def test_paused_triggerer_is_resumed_at_the_end(killer, airflow, clock):
    killer.kill(PAUSE)
    killer.close()
    assert not airflow.process.is_suspended


def test_fault_waits_for_restarted_component(killer, table, airflow):
    assert killer.is_due(REDIS)
    airflow.pids["scheduler-1"] = 2
    assert not killer.is_due(REDIS)
    table.jobs["SchedulerJob", "scheduler-1"] = 5
    assert killer.is_due(REDIS)


def test_idle_triggerers_are_not_paused(killer, table):
    table.hosts = {1: "triggerer-1", 2: "triggerer-2"}
    assert not killer.is_due(PAUSE)
