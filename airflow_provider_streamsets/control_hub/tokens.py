"""The API token: an unsigned JWT whose payload names the organization (contract, section 1.2)."""

from __future__ import annotations

import base64
import binascii
import json

from airflow_provider_streamsets.control_hub.errors import ControlHubAuthenticationError

_SHAPE = (
    "A Control Hub token consists of two parts that are each followed by a dot, the last character being a dot. "
    "Copy it again, or create a new API credential in Control Hub."
)


def validate_secret(value: str | None, name: str) -> str:
    """
    Return a credential id or token that can be sent in an HTTP header.

    :param value: as configured; surrounding white space, as left by copying, is removed
    :param name: what it is, for the message; the value itself never appears in one
    :raises ControlHubAuthenticationError: if it is missing or holds characters that no credential has
    """
    value = (value or "").strip()
    if not value:
        raise ControlHubAuthenticationError(f"The {name} is missing.")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ControlHubAuthenticationError(
            f"The {name} contains white space, a line break or characters outside ASCII, which none does. "
            "Copy it again from Control Hub."
        )
    return value


def organization_of(token: str) -> str:
    """
    Return the id of the organization that a token belongs to.

    Both base64 alphabets are accepted (contract, section 1.2).

    :raises ControlHubAuthenticationError: if the token is malformed; the message does not contain it
    """
    # Raised outside of the `except` below: the errors of the decoders hold what they were given.
    decoded = _payload_of(token)
    if decoded is None:
        raise ControlHubAuthenticationError(f"The token is malformed. {_SHAPE}")
    organization = decoded.get("o") if isinstance(decoded, dict) else None
    if not isinstance(organization, str) or not organization:
        raise ControlHubAuthenticationError(f"The token is malformed: it names no organization. {_SHAPE}")
    return organization


def _payload_of(token: str) -> object:
    parts = token.split(".")
    if len(parts) < 2:
        return None
    payload = parts[1].replace("-", "+").replace("_", "/")
    try:
        decoded: object = json.loads(base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return decoded
