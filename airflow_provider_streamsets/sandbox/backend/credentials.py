"""The API credential that the sandbox accepts, and the callers that share it."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

CALLER_HEADER = "X-Sandbox-Caller"
"""
Name of the header in which tests can name the caller of a request; its value may be any text.

The caller appears in the sandbox's own logs only. Responses of Control Hub cannot distinguish clients with the same
credential.
"""

_caller: ContextVar[str | None] = ContextVar("caller", default=None)


@dataclass(frozen=True)
class Credential:
    """A credential ID and its token."""

    id: str
    token: str = field(repr=False)

    def accepts(self, credential_id: str, token: str) -> bool:
        """Return whether a credential ID and a token match."""
        id_matches = hmac.compare_digest(self.id.encode(), credential_id.encode())
        return hmac.compare_digest(self.token.encode(), token.encode()) and id_matches


def issue_credential(organization: str, credential_id: str | None = None) -> Credential:
    """
    Create a credential.

    :param organization: id of the organization.
    :param credential_id: the credential ID; a new one if None.
    """
    credential_id = credential_id or str(uuid.uuid4())
    header = _encode_part({"typ": "JWT", "alg": "none"})
    while True:
        payload = _encode_part(
            {"s": secrets.token_hex(32), "v": 1, "iss": "sandbox", "jti": credential_id, "o": organization}
        )
        # Clients decode with the standard or the URL-safe alphabet: use only characters of both.
        if not set(payload) & set("+/-_"):
            return Credential(credential_id, f"{header}.{payload}.")


def parse_organization_id(token: str) -> str:
    """
    Return the organization id in a token.

    :raises ValueError: if it does not have the format of a Control Hub token.
    """
    parts = token.split(".")
    try:
        payload = parts[1]
        claims = json.loads(base64.b64decode(payload + "=" * (-len(payload) % 4)))
        organization = claims["o"]
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        raise ValueError("The token does not have the format of a Control Hub token.") from None
    return str(organization)


def _encode_part(claims: dict[str, object]) -> str:
    return base64.b64encode(json.dumps(claims, separators=(",", ":")).encode()).decode().rstrip("=")


def current_caller() -> str | None:
    """Return the caller of the current request, or None if the request names no caller."""
    return _caller.get()


@contextmanager
def caller_context(caller: str | None) -> Iterator[None]:
    """
    Set the caller for the duration of the context.

    :param caller: the caller, or None if it is unknown.
    """
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)
