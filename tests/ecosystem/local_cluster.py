"""
The part of the Kubernetes API that the ``KubernetesExecutor`` uses, and one node that runs each pod as a local process.

A pod runs the arguments of its container with the container's variables only, in a new, empty folder that is its home,
its working directory, its folder for temporary files and Airflow's home, and is removed when the pod ends. If the
container requires a read-only root file system and the machine allows mount namespaces, all other files are read-only,
besides the folder of its volume.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil

from tests.ecosystem.local_server import JsonHandler, LocalServer

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


class LocalCluster(LocalServer):
    """
    The API and its pods, which end with the context.

    :param folder: folder for the pods' folders and logs
    :param volume: folder of the volume of all pods
    :param image: variables of the image
    :param secrets: values of the cluster's secrets, by key
    """

    def __init__(self, folder: Path, volume: Path, image: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        super().__init__(self._handler())
        self._folder, self._volume, self._image, self._secrets = folder, volume, image, secrets
        self._changed = threading.Condition()
        self._events: list[dict[str, Any]] = []
        self._pods: dict[str, Pod] = {}
        self.pods: list[Pod] = []
        """All pods, in the order of their creation."""

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
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
        body["status"] = {"phase": "Running"}
        pod = Pod(body, self._folder / name, self._volume, {**self._image, **environment})
        with self._changed:
            self._pods[name] = pod
            self.pods.append(pod)
            self._publish("ADDED", pod)
        threading.Thread(target=self._supervise, args=[pod], daemon=True).start()
        return body

    def delete(self, name: str) -> dict[str, Any]:
        """Delete a pod, as the executor and ``kubectl delete pod`` do: a running one receives SIGTERM."""
        pod = self._pods[name]
        with self._changed:
            pod.body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self._publish("MODIFIED", pod)
            self._remove_deleted(pod)
        pod.process.terminate()
        return pod.body

    def label(self, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
        """Change labels of a pod."""
        with self._changed:
            pod = self._pods[name]
            pod.body["metadata"]["labels"].update(labels)
            return pod.body

    def _current(self, matches: Callable[[Any], bool]) -> tuple[int, list[dict[str, Any]]]:
        """Return the number of events so far, and the pods that match a selector."""
        with self._changed:
            return len(self._events), [copy.deepcopy(pod.body) for pod in self._pods.values() if matches(pod.body)]

    def _supervise(self, pod: Pod) -> None:
        phase = "Failed" if pod.wait() else "Succeeded"
        with self._changed:
            pod.body["status"] = {"phase": phase}
            self._publish("MODIFIED", pod)
            self._remove_deleted(pod)

    def _remove_deleted(self, pod: Pod) -> None:
        if "deletionTimestamp" in pod.body["metadata"] and pod.body["status"]["phase"] != "Running":
            del self._pods[pod.body["metadata"]["name"]]
            self._publish("DELETED", pod)

    def _publish(self, event: str, pod: Pod) -> None:
        with self._changed:
            pod.body["metadata"]["resourceVersion"] = str(len(self._events) + 1)
            self._events.append({"type": event, "object": copy.deepcopy(pod.body)})
            self._changed.notify_all()

    def _handler(self) -> type[JsonHandler]:
        cluster = self

        class Handler(JsonHandler):
            def serve(self) -> None:
                url = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                path, body = PODS.match(url.path), self.body()
                if path is None:
                    self.answer(200 if url.path in _DISCOVERY else 404, _DISCOVERY.get(url.path, {}))
                elif self.command == "POST":
                    self.answer(201, cluster.create(body))
                elif path["name"]:
                    self.serve_pod(path["name"], body)
                elif query.get("watch"):
                    # The client ends the stream.
                    with contextlib.suppress(ConnectionError):
                        self.stream(selector(query), int(query.get("resourceVersion") or 0))
                    self.close_connection = True
                else:
                    version, pods = cluster._current(selector(query))
                    metadata = {"resourceVersion": str(version)}
                    self.answer(200, {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": pods})

            def serve_pod(self, name: str, body: Any) -> None:
                pod = cluster._pods.get(name)
                if pod is None:
                    self.answer(404, {"kind": "Status", "code": 404})
                elif self.command == "DELETE":
                    self.answer(200, cluster.delete(name))
                elif self.command == "PATCH":
                    self.answer(200, cluster.label(name, body["metadata"]["labels"]))
                else:
                    self.answer(200, pod.body)

            def stream(self, matches: Callable[[Any], bool], version: int) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                if not version:
                    version, pods = cluster._current(matches)
                    for pod in pods:
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
