"""Running the application as a server, and saying how to reach it."""

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

from airflow_provider_streamsets import __version__
from airflow_provider_streamsets.sandbox.app import create_app
from airflow_provider_streamsets.sandbox.backend import credentials
from airflow_provider_streamsets.sandbox.backend.credentials import Credential
from airflow_provider_streamsets.sandbox.backend.variants import VariantError, Variants
from airflow_provider_streamsets.sandbox.faults.disconnect import Protocol
from airflow_provider_streamsets.sandbox.faults.rules import FAULTS, load_faults
from airflow_provider_streamsets.sandbox.persistence.state_file import StateError, StateFile
from airflow_provider_streamsets.sandbox.seed.document import SeedError
from airflow_provider_streamsets.sandbox.seed.loader import load_seed


class Server(uvicorn.Server):
    """A server that says when it answers, and ends with success when it is told to end."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals as a wish to end, not as something to die of afterwards."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=18631, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--time-scale",
    show_default="1.0",
    type=click.FloatRange(min=0, min_open=True),
    help="Runs take that many times less time.",
)
@click.option(
    "--seed",
    "seed_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML or JSON file with engines, pipelines and jobs, instead of the one shipped.",
)
@click.option(
    "--state",
    "state_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep all state in this file, and go on from it at the next start, with the same seed.",
)
@click.option(
    "--faults",
    "fault_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"YAML or JSON file with rules that say which requests go wrong, and how: {', '.join(FAULTS)}.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME=VALUE",
    help="How to behave where Control Hub's behaviour is not known; --list-variants shows which. Repeatable.",
)
@click.option("--list-variants", is_flag=True, help="Show the variants, the default first, and exit.")
@click.option("--json", "as_json", is_flag=True, help="Say how to reach it in one line of JSON.")
@click.option("--credential-id", envvar="STREAMSETS_SANDBOX_CREDENTIAL_ID", help="Accept this credential id.")
@click.option(
    "--token",
    envvar="STREAMSETS_SANDBOX_TOKEN",
    help="Accept this token, from an earlier start, instead of a new one.",
)
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="Serve https with this certificate.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="The certificate's key.")
@click.option(
    "--log-level",
    default="warning",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="On standard error; info logs every request.",
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
    Run a local Control Hub, to try the StreamSets provider with and to test against.

    All state is in memory and gone when it ends, unless --state names a file for it. Started again with that file, the
    sandbox goes on as if nothing had happened, even if it was killed. For its clients to go on too, give it the same
    --port and credential.
    """
    if list_variants:
        for name, choices in Variants.choices().items():
            click.echo(f"{name:26} {' | '.join(choices) or f'a number, {getattr(Variants(), name)}'}")
        return
    if bool(tls_cert) != bool(tls_key):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    logging.config.dictConfig(_logging(log_level))
    try:
        seed = load_seed(seed_file)
        chosen = Variants().changed(dict(_pair(text) for text in variants)) if variants else None
        credential = _credential(seed.organization.id, credential_id, token)
        faults = load_faults(fault_file) if fault_file else None
        state = StateFile(state_file) if state_file else None
        app = create_app(
            seed=seed, variants=chosen, time_scale=time_scale, credential=credential, state=state, faults=faults
        )
    except (SeedError, VariantError, StateError) as error:
        raise click.ClickException(str(error)) from None
    listener = _bound(host, port)
    url = _url("https" if tls_cert else "http", host, listener.getsockname()[1])
    config = uvicorn.Config(
        app,
        log_level=log_level,
        log_config=None,
        http=Protocol,
        access_log=log_level in ("debug", "info"),
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
        timeout_graceful_shutdown=1,
        lifespan="off",
    )
    reach = _reach(url, credential)
    server = Server(config, lambda: _announce(reach, as_json=as_json))
    asyncio.run(server.serve(sockets=[listener]))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise VariantError(f"a variant is given as NAME=VALUE, not {text!r}")
    return name.strip(), value.strip()


def _credential(organization: str, credential_id: str | None, token: str | None) -> Credential:
    if token is None:
        return credentials.issue(organization, credential_id)
    if credential_id is None:
        raise click.UsageError("--token needs --credential-id")
    try:
        own = credentials.organization_of(token)
    except ValueError as error:
        raise click.ClickException(f"--token: {error}") from None
    if own != organization:
        raise click.ClickException("--token: the token belongs to another organization than the seed")
    return Credential(credential_id, token)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listener


def _url(scheme: str, host: str, port: int) -> str:
    everywhere = "0.0.0.0"  # noqa: S104 # nosec B104 # is not listened on, but replaced by what can be called
    shown = {everywhere: "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{scheme}://{shown}:{port}"


def _reach(url: str, credential: Credential) -> dict[str, str]:
    connection = {
        "conn_type": "streamsets",
        "host": url,
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


def _announce(reach: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(reach))
        return
    click.echo(
        f"A local Control Hub answers at {reach['url']} (stop it with Ctrl-C).\n\n"
        f"  Login service   {reach['login_url']}\n"
        f"  Credential ID   {reach['credential_id']}\n"
        f"  Token           {reach['token']}\n\n"
        "For Airflow:\n\n"
        f"  export AIRFLOW_CONN_STREAMSETS_DEFAULT='{reach['airflow_conn']}'\n"
    )


def _logging(level: str) -> dict[str, Any]:
    """Return a configuration that keeps standard output for the announcement."""
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
