"""Base addresses of Control Hub: how they may be written, and which new one may be trusted with the credential."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit, urlunsplit

from airflow_provider_streamsets.control_hub.errors import ControlHubConfigurationError
from airflow_provider_streamsets.control_hub.services import Service

_HOST_NAME = re.compile(r"[\w-]{1,63}(\.[\w-]{1,63})*\.?")
# What is below the address of Control Hub: pages of its web UI, and its REST API.
_PAGE = re.compile(r"^/+sch(?=/|$)")
_API = re.compile(rf"/+({'|'.join(service.value.partition('/')[0] for service in Service)})/(public-)?rest(?=/|$)")


def normalize_base_url(url: str, name: str) -> str:
    """
    Return an http(s) address without trailing slash.

    :param url: the address; without a scheme it is taken as https
    :param name: what it is the address of, for the message
    :raises ControlHubConfigurationError: if it is none
    """
    text = url.strip()
    parts = _split(text if "://" in text else f"https://{text}")
    if parts is None or any(c.isspace() for c in text):
        raise ControlHubConfigurationError(
            f"'{_without_credentials(text)}' is no address for the {name}. "
            "It should look like https://na01.hub.streamsets.com."
        )
    if "@" not in parts.netloc:
        _check_is_root(parts, name)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ControlHubConfigurationError(
            f"The address of the {name} must hold a host and perhaps a path only, without credentials, query or "
            "fragment. The credential belongs into the fields for credential id and token."
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _check_is_root(parts: SplitResult, name: str) -> None:
    """Raise if an address is that of a page of the web UI, or of the REST API, below the one to be given."""
    for pattern, what in ((_PAGE, "a page of the web UI"), (_API, "the address of the REST API")):
        below = pattern.search(parts.path)
        if below:
            root = urlunsplit((parts.scheme, parts.netloc, parts.path[: below.start()], "", ""))
            raise ControlHubConfigurationError(
                f"'{parts.netloc}{parts.path}' is {what}, not the address of the {name}: use {root} instead."
            )


def _split(url: str) -> SplitResult | None:
    """Return the parts of an http(s) address, None if it is none or if parsers could differ about its host."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not (_HOST_NAME.fullmatch(host) or _is_ip_address(host)):
        return None
    return parts


def _without_credentials(text: str) -> str:
    return text.rpartition("@")[2]


def trusted_redirect(current: str, location: str) -> str | None:
    """
    Return the address an organization has moved to, or None if it must not be sent the credential.

    Control Hub answers 308 and names the new place (contract, section 1.8). The new address is trusted over https
    on the same host or on a sibling of it, such as ``eu01.hub.streamsets.com`` for ``na01.hub.streamsets.com``; plain
    http is trusted only where it was used before, on the same host.

    :param current: address used so far
    :param location: the ``Location`` header
    """
    old, new = urlsplit(current), _split(location)
    if new is None or "@" in new.netloc or not new.netloc.isascii():
        return None
    new_host = new.hostname or ""
    same_host = new_host == old.hostname
    if new.scheme == "http" and not (same_host and old.scheme == "http"):
        return None
    if not same_host and not _are_siblings(old.hostname or "", new_host):
        return None
    return urlunsplit((new.scheme, new.netloc, "", "", ""))


def _are_siblings(one: str, other: str) -> bool:
    if _is_ip_address(one) or _is_ip_address(other):
        return False
    parent, other_parent = one.partition(".")[2], other.partition(".")[2]
    # A parent of two labels could be a public suffix such as co.uk, whose children have different owners.
    return parent == other_parent and parent.count(".") >= 2


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
