"""The sandbox in a process of its own, as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SandboxAddress:
    """What the sandbox prints when it answers: where it is, and a credential that works."""

    url: str
    login_url: str
    credential_id: str
    token: str
    airflow_conn: str


class LocalSandbox:
    """
    A running ``streamsets-sandbox``; leave the context to stop it.

    :param options: further options of the command, such as ``--time-scale 10``
    """

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "airflow_provider_streamsets.sandbox", "--json", "--port", "0", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The sandbox has ended with exit code {self._process.wait()}.")
        answer: dict[str, Any] = json.loads(line)
        self.address = SandboxAddress(**answer)

    def __enter__(self) -> SandboxAddress:
        return self.address

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
