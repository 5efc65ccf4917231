"""
The part of the Kubernetes API that the ``KubernetesExecutor`` uses, and one node that runs each pod as a local process.

A pod runs the arguments of its container with the container's variables only, in a new, empty folder that is its home,
its working directory, its folder for temporary files and Airflow's home, and is removed when the pod ends. If the
container requires a read-only root file system and the machine allows mount namespaces, all other files are read-only,
besides the folder of its volume.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil

PODS = re.compile(r"/api/v1/namespaces/default/pods(?:/(?P<name>[^/]+))?$")
# Remounts all mounts but those of the kernel and of the writable folders, which are the arguments before "--".
_REMOUNT = """
set -e
mount -t tmpfs tmpfs /dev/shm
while [ "$1" != -- ]; do mount --bind "$1" "$1"; keep="$keep $1 "; shift; done; shift
while read -r _ target type _; do
  case "$type:$keep" in proc:*|sysfs:*|devpts:*|mqueue:*|cgroup*|*" $target "*) continue;; esac
  case "$target" in /dev*|/proc*|/sys*|/run*) continue;; esac
  mount -o remount,bind,ro "$target"
done < /proc/self/mounts
cd "$HOME"
exec "$@"
"""
_READ_ONLY = ["unshare", "--map-root-user", "--mount", "sh", "-c", _REMOUNT, "sh"]
_DISCOVERY = {
    "/version": {"major": "1", "minor": "33"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [{"name": "pods", "kind": "Pod", "namespaced": True, "verbs": ["list", "watch", "create"]}],
    },
}


@cache
def can_be_read_only() -> bool:
    """Return whether this machine allows processes a read-only view of its files."""
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run([*_READ_ONLY, "--", "true"], capture_output=True).returncode == 0
    return False


class Pod:
    """A pod and its process."""

    def __init__(self, body: dict[str, Any], folder: Path, volume: Path, environment: Mapping[str, str]) -> None:
        self.body, self.folder = body, folder
        self.files: list[str] = []
        """What an ended pod has left in its folder."""
        folder.mkdir(parents=True)
        (container,) = body["spec"]["containers"]
        environment = {**environment, **dict.fromkeys(("HOME", "TMPDIR", "AIRFLOW_HOME"), str(folder))}
        command = container["args"]
        if (container.get("securityContext") or {}).get("readOnlyRootFilesystem") and can_be_read_only():
            command = [*_READ_ONLY, str(folder), str(volume), "--", *command]
        self.log = folder.with_suffix(".log")
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def task(self) -> tuple[str, str]:
        """DAG and task."""
        annotations = self.body["metadata"]["annotations"]
        return annotations["dag_id"], annotations["task_id"]

    def wait(self) -> int:
        """Wait for the end of the process, remove the folder, and return the exit status."""
        status = self.process.wait()
        self.files = sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())
        shutil.rmtree(self.folder)
        return status

    def kill(self) -> None:
        """Kill all processes, as when the node is lost."""
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.process.pid)
            for process in (first, *first.children(recursive=True)):
                process.kill()


class LocalCluster:
    """
    The API and its pods; use it as a context manager, which ends all pods.

    :param folder: folder for the pods' folders and logs
    :param volume: folder of the volume of all pods
    :param image: variables of the image
    :param secrets: values of the cluster's secrets, by key
    """

    def __init__(self, folder: Path, volume: Path, image: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        self._folder, self._volume, self._image, self._secrets = folder, volume, image, secrets
        self._changed = threading.Condition()
        self._events: list[dict[str, Any]] = []
        self._pods: dict[str, Pod] = {}
        self.pods: list[Pod] = []
        """All pods, in the order of their creation."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LocalCluster:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for pod in self.pods:
            pod.kill()
            pod.process.wait(10)

    def pods_of(self, dag_id: str) -> list[Pod]:
        """Return the pods of a DAG, in the order of their creation."""
        return [pod for pod in self.pods if pod.task[0] == dag_id]

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Start a pod."""
        name = body["metadata"]["name"]
        environment = {
            variable["name"]: variable["value"]
            if "value" in variable
            else self._secrets[variable["valueFrom"]["secretKeyRef"]["key"]]
            for variable in body["spec"]["containers"][0]["env"]
        }
        pod = Pod(body, self._folder / name, self._volume, {**self._image, **environment})
        self._pods[name] = pod
        self.pods.append(pod)
        self._publish("ADDED", pod, "Running")
        threading.Thread(target=self._supervise, args=[pod], daemon=True).start()
        return body

    def delete(self, name: str) -> dict[str, Any]:
        """Delete a pod, as the executor and ``kubectl delete pod`` do: a running one receives SIGTERM."""
        pod = self._pods[name]
        pod.body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        if pod.process.poll() is None:
            self._publish("MODIFIED", pod, "Running")
            pod.process.terminate()
        else:
            self._publish("DELETED", self._pods.pop(name))
        return pod.body

    def _supervise(self, pod: Pod) -> None:
        phase = "Failed" if pod.wait() else "Succeeded"
        self._publish("MODIFIED", pod, phase)
        if "deletionTimestamp" in pod.body["metadata"]:
            self._publish("DELETED", self._pods.pop(pod.body["metadata"]["name"]), phase)

    def _publish(self, event: str, pod: Pod, phase: str | None = None) -> None:
        with self._changed:
            if phase:
                pod.body["status"] = {"phase": phase}
            pod.body["metadata"]["resourceVersion"] = str(len(self._events) + 1)
            self._events.append(json.loads(json.dumps({"type": event, "object": pod.body})))
            self._changed.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                """Log nothing."""

            def answer(self, body: Any, status: int = 200) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def stream(self, matches: Callable[[Any], bool], version: int) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                if not version:
                    with cluster._changed:
                        version = len(cluster._events)
                        current = [json.loads(json.dumps(pod.body)) for pod in cluster._pods.values()]
                    for pod in filter(matches, current):
                        self.chunk({"type": "ADDED", "object": pod})
                while True:
                    with cluster._changed:
                        while len(cluster._events) <= version:
                            cluster._changed.wait()
                        event = cluster._events[version]
                    version += 1
                    if matches(event["object"]):
                        self.chunk(event)

            def chunk(self, event: Any) -> None:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

            def serve(self) -> None:
                url = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                path = PODS.match(url.path)
                if path is None:
                    self.answer(_DISCOVERY.get(url.path, {}), 200 if url.path in _DISCOVERY else 404)
                elif self.command == "POST":
                    self.answer(cluster.create(body), 201)
                elif path["name"]:
                    pod = cluster._pods.get(path["name"])
                    if pod is None:
                        self.answer({"kind": "Status", "code": 404}, 404)
                    elif self.command == "PATCH":
                        pod.body["metadata"]["labels"].update(body["metadata"]["labels"])
                        self.answer(pod.body)
                    else:
                        self.answer(cluster.delete(path["name"]) if self.command == "DELETE" else pod.body)
                elif query.get("watch"):
                    # The client ends the stream.
                    with contextlib.suppress(ConnectionError):
                        self.stream(selector(query), int(query.get("resourceVersion") or 0))
                    self.close_connection = True
                else:
                    items = [pod.body for pod in list(cluster._pods.values()) if selector(query)(pod.body)]
                    version = str(len(cluster._events))
                    self.answer(
                        {
                            "kind": "PodList",
                            "apiVersion": "v1",
                            "metadata": {"resourceVersion": version},
                            "items": items,
                        }
                    )

            do_GET = do_POST = do_PATCH = do_DELETE = serve  # noqa: N815 - names of the base class

        return Handler


def selector(query: Mapping[str, str]) -> Callable[[Any], bool]:
    """Return the condition of a request's label and field selectors."""
    terms = [term.partition("=") for term in query.get("labelSelector", "").split(",") if term]

    def matches(pod: Any) -> bool:
        labels = pod["metadata"]["labels"]
        for key, equals, value in terms:
            if key.endswith("!"):
                if labels.get(key[:-1]) == value:
                    return False
            elif labels.get(key) != value if equals else key not in labels:
                return False
        fields = dict(term.split("=", 1) for term in query.get("fieldSelector", "").split(",") if "=" in term)
        return fields.get("status.phase", pod["status"]["phase"]) == pod["status"]["phase"]

    return matches
