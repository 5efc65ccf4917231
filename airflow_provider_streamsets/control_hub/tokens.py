"""Validation of API credentials. The token is an unsigned JWT with the organization (contract section 1.2)."""

from __future__ import annotations

import base64
import binascii
import json

from airflow_provider_streamsets.control_hub.errors import ControlHubAuthenticationError

_FORMAT_HINT = (
    "A Control Hub token consists of two parts, each followed by a dot. "
    "Copy it again, or create a new API credential in Control Hub."
)


def validate_secret(value: str | None, name: str) -> str:
    """
    Validate a credential id or token, and strip surrounding white space.

    :param value: configured value
    :param name: name of the value for messages, which never contain the value itself
    :raises ControlHubAuthenticationError: if it is missing or contains invalid characters
    """
    value = (value or "").strip()
    if not value:
        raise ControlHubAuthenticationError(f"The {name} is missing.")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ControlHubAuthenticationError(
            f"The {name} is malformed: it contains white space, a line break or non-ASCII characters. "
            "Copy it again from Control Hub."
        )
    return value


def organization_id(token: str) -> str:
    """
    Return the id of the organization in a token.

    Accepts both base64 alphabets (contract section 1.2).

    :raises ControlHubAuthenticationError: if the token is malformed; the message does not contain it
    """
    # Raised outside of an `except` block: the errors of the decoders contain the token.
    decoded = _decode_payload(token)
    if decoded is None:
        raise ControlHubAuthenticationError(f"The token is malformed. {_FORMAT_HINT}")
    organization = decoded.get("o") if isinstance(decoded, dict) else None
    if not isinstance(organization, str) or not organization:
        raise ControlHubAuthenticationError(f"The token is malformed: it contains no organization. {_FORMAT_HINT}")
    return organization


def _decode_payload(token: str) -> object:
    parts = token.split(".")
    if len(parts) < 2:
        return None
    payload = parts[1].replace("-", "+").replace("_", "/")
    try:
        decoded: object = json.loads(base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return decoded
