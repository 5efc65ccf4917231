"""The command ``streamsets-sandbox`` and the server that it runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging.config
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import uvicorn
from fastapi import FastAPI

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.sandbox.app import create_app
from airflow_provider_streamsets.sandbox.backend import credentials
from airflow_provider_streamsets.sandbox.backend.credentials import Credential
from airflow_provider_streamsets.sandbox.backend.variants import REPORT_FORMAT, VariantError, Variants
from airflow_provider_streamsets.sandbox.faults.middleware import ConnectionProtocol
from airflow_provider_streamsets.sandbox.faults.rules import FAULT_TYPES, load_faults
from airflow_provider_streamsets.sandbox.persistence import StateError, StateFile
from airflow_provider_streamsets.sandbox.seed.document import SeedError, read_document
from airflow_provider_streamsets.sandbox.seed.models import load_seed

KEEP_ALIVE_SECONDS = 75
"""
Time after which the server closes an idle connection.

Longer than the usual intervals of clients that poll: a request that arrives while its connection is closed fails.
"""


class Server(uvicorn.Server):
    """A server that reports when it is ready and exits with status 0 on SIGINT and SIGTERM."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the server and report that it is ready."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Shut down on the signals without raising them again afterwards."""
        signals = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=18631,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 selects a free port.",
)
@click.option(
    "--time-scale",
    show_default="1.0",
    type=click.FloatRange(min=0, min_open=True),
    help="Factor by which the durations of runs are shortened.",
)
@click.option(
    "--seed",
    "seed_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML or JSON file with engines, pipelines and jobs; replaces the seed shipped with the package.",
)
@click.option(
    "--state",
    "state_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Persist the state in this file and resume from it at the next start with the same seed.",
)
@click.option(
    "--faults",
    "fault_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"YAML or JSON file with rules for fault injection. Faults: {', '.join(FAULT_TYPES)}.",
)
@click.option(
    "--variants-from",
    "report_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Conformance report of a Control Hub: behave like it. --variant changes single variants of it.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME=VALUE",
    help="Select a behaviour where that of Control Hub is unknown; see --list-variants. Repeatable.",
)
@click.option("--list-variants", is_flag=True, help="List the variants with their values and meanings, and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print the connection details as one line of JSON.")
@click.option(
    "--credential-id", envvar="STREAMSETS_SANDBOX_CREDENTIAL_ID", help="Credential ID to accept; a new one by default."
)
@click.option(
    "--token",
    envvar="STREAMSETS_SANDBOX_TOKEN",
    help="Token to accept, printed by an earlier start; a new one by default.",
)
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="Certificate file; serves HTTPS.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="Private key file of the certificate.")
@click.option(
    "--log-level",
    default="warning",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Log level on standard error; info includes every request.",
)
@click.version_option(__version__, prog_name="streamsets-sandbox")
def command(
    *,
    host: str,
    port: int,
    time_scale: float | None,
    seed_file: Path | None,
    state_file: Path | None,
    fault_file: Path | None,
    report_file: Path | None,
    variants: tuple[str, ...],
    list_variants: bool,
    as_json: bool,
    credential_id: str | None,
    token: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    log_level: str,
) -> None:
    """
    Run a local Control Hub for trial use and tests of the StreamSets provider.

    The state is kept in memory unless --state names a file. When restarted with that file, the sandbox resumes from
    the last request, even after it was killed. Clients stay connected if --port and the credential are also the same.
    """
    if list_variants:
        click.echo(_describe_variants())
        return
    if bool(tls_cert) != bool(tls_key):
        raise click.UsageError("--tls-cert and --tls-key must be used together.")
    logging.config.dictConfig(_logging_config(log_level))
    try:
        seed = load_seed(seed_file)
        selected = _select_variants(report_file, variants)
        credential = _select_credential(seed.organization.id, credential_id, token)
        faults = load_faults(fault_file) if fault_file else None
        state = StateFile(state_file) if state_file else None
        app = create_app(
            seed=seed, variants=selected, time_scale=time_scale, credential=credential, state=state, faults=faults
        )
    except (SeedError, VariantError, StateError) as error:
        raise click.ClickException(str(error)) from None
    listener = _bind(host, port)
    url = _url("https" if tls_cert else "http", host, listener.getsockname()[1])
    info = _connection_info(url, credential)
    server = Server(
        server_config(app, log_level=log_level, tls_cert=tls_cert, tls_key=tls_key),
        lambda: _print_connection_info(info, as_json=as_json),
    )
    asyncio.run(server.serve(sockets=[listener]))


def server_config(
    app: FastAPI, *, log_level: str = "warning", tls_cert: str | None = None, tls_key: str | None = None
) -> uvicorn.Config:
    """
    Return the configuration of the server.

    :param app: the application.
    :param log_level: the log level; ``info`` and ``debug`` include every request.
    :param tls_cert: path of the certificate; None for HTTP.
    :param tls_key: path of the private key of the certificate.
    """
    return uvicorn.Config(
        app,
        log_level=log_level,
        log_config=None,
        http=ConnectionProtocol,
        access_log=log_level in ("debug", "info"),
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
        lifespan="on",
    )


def _describe_variants() -> str:
    choices, meanings = Variants.choices(), Variants.meanings()
    paragraphs = []
    for name, default in Variants().as_dict().items():
        values = " | ".join(choices[name][1:] or ("any other number",))
        meaning = click.wrap_text(meanings[name], 100, initial_indent="    ", subsequent_indent="    ")
        paragraphs.append(f"{name} = {default} (default) | {values}\n{meaning}")
    return "\n\n".join(paragraphs)


def _select_variants(report_file: Path | None, options: tuple[str, ...]) -> Variants | None:
    """Return the variants of a report, changed by those of the command line; None if there are neither."""
    if report_file is None and not options:
        return None
    variants = Variants() if report_file is None else _read_report(report_file)
    return variants.changed(dict(_parse_variant(text) for text in options))


def _read_report(path: Path) -> Variants:
    """
    Read the variants of a conformance report.

    :raises SeedError: if the file is not a report, or of a version that this one cannot read.
    """
    report = read_document(path)
    if not isinstance(report, dict) or "format" not in report or not isinstance(report.get("variants"), dict):
        raise SeedError(f"{path}: is not a conformance report: it needs the keys 'format' and 'variants'.")
    version = report.get("provider", "unknown")
    if report["format"] != REPORT_FORMAT:
        raise SeedError(
            f"{path}: has format {report['format']} of version {version}; this version reads format {REPORT_FORMAT}."
        )
    try:
        return Variants().changed(report["variants"])
    except VariantError as error:
        raise SeedError(f"{path}: written by version {version}, this is version {__version__}. {error}") from None


def _parse_variant(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise VariantError(f"--variant must have the form NAME=VALUE, got {text!r}.")
    return name.strip(), value.strip()


def _select_credential(organization: str, credential_id: str | None, token: str | None) -> Credential:
    if token is None:
        return credentials.issue_credential(organization, credential_id)
    if credential_id is None:
        raise click.UsageError("--token requires --credential-id.")
    try:
        token_organization = credentials.parse_organization_id(token)
    except ValueError as error:
        raise click.ClickException(f"--token: {error}") from None
    if token_organization != organization:
        raise click.ClickException("--token: the token belongs to another organization than the seed.")
    return Credential(credential_id, token)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise click.ClickException(f"Cannot listen on {host}:{port}: {error.strerror or error}.") from None
    return listener


def _url(scheme: str, host: str, port: int) -> str:
    any_address = "0.0.0.0"  # noqa: S104 # nosec B104 # not listened on, but replaced by a usable address
    reachable = {any_address: "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{scheme}://{reachable}:{port}"


def _connection_info(url: str, credential: Credential) -> dict[str, str]:
    connection = {
        "conn_type": "streamsets",
        "host": url,
        # None. Airflow 3.3 does not test a stored connection whose port is null (apache/airflow#73298), and takes the
        # number 0 in JSON for null.
        "port": "0",
        "login": credential.id,
        "password": credential.token,
    }
    return {
        "url": url,
        "login_url": f"{url}/login",
        "credential_id": credential.id,
        "token": credential.token,
        "airflow_conn": json.dumps(connection),
    }


def _print_connection_info(info: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(info))
        return
    click.echo(
        f"Control Hub sandbox listening at {info['url']} (press Ctrl-C to stop).\n\n"
        f"  Login URL       {info['login_url']}\n"
        f"  Credential ID   {info['credential_id']}\n"
        f"  Token           {info['token']}\n\n"
        "For Airflow:\n\n"
        f"  export AIRFLOW_CONN_STREAMSETS_DEFAULT='{info['airflow_conn']}'\n"
    )


def _logging_config(level: str) -> dict[str, Any]:
    """Configure logging to standard error; standard output is reserved for the connection details."""
    handlers = {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
        "handlers": handlers,
        "loggers": {
            name: {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
            for name in ("uvicorn", "airflow_provider_streamsets.sandbox")
        },
    }
