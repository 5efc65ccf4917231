"""The cluster of ``make chaos-cluster``: its broker, its host names and its logs."""

from __future__ import annotations

import socket

import pytest

from dev.local_redis import LocalRedis, LocalRedisError
from tests.chaos.hosts import LOGS_VARIABLE, FolderLogs, host_name


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
