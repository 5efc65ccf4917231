"""Validation of base URLs, and of redirects that may receive the credential."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit, urlunsplit

from airflow_provider_streamsets.control_hub.errors import ControlHubConfigurationError
from airflow_provider_streamsets.control_hub.services import Service

_HOST_NAME = re.compile(r"[\w-]{1,63}(\.[\w-]{1,63})*\.?")
# Paths below the base URL: pages of the web UI, and the REST API.
_PAGE = re.compile(r"^/+sch(?=/|$)")
_API = re.compile(rf"/+({'|'.join(service.value.partition('/')[0] for service in Service)})/(public-)?rest(?=/|$)")


def normalize_hub_url(url: str) -> str:
    """
    Return the URL of Control Hub without a trailing slash; see :func:`normalize_base_url`.

    :param url: URL; https if it has no scheme
    :raises ControlHubConfigurationError: if it is invalid, or that of the login service
    """
    parts = _split_with_scheme(url)
    if parts is not None and "login" in (parts.hostname or "").split("."):
        raise ControlHubConfigurationError(
            f"The Control Hub URL is invalid: '{parts.hostname}' is the login service. Use the host that the browser "
            "shows after the login, such as https://na01.hub.streamsets.com, or none: it is then looked up."
        )
    return normalize_base_url(url, "Control Hub URL")


def normalize_base_url(url: str, name: str) -> str:
    """
    Return an http(s) URL without a trailing slash.

    :param url: URL; https if it has no scheme
    :param name: name of the URL, for messages
    :raises ControlHubConfigurationError: if it is invalid
    """
    text = url.strip()
    parts = _split_with_scheme(url)
    if parts is None or any(c.isspace() for c in text):
        raise ControlHubConfigurationError(
            f"The {name} is invalid: '{_without_credentials(text)}'. "
            "Expected a URL such as https://na01.hub.streamsets.com."
        )
    if "@" not in parts.netloc:
        _check_is_root(parts, name)
    base = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    if "@" in parts.netloc:
        raise ControlHubConfigurationError(
            f"The {name} must not contain credentials. Set Credential ID and Token in their own fields."
        )
    if parts.query or parts.fragment:
        raise ControlHubConfigurationError(f"The {name} must not have a query or fragment. Use {base} instead.")
    return base


def _check_is_root(parts: SplitResult, name: str) -> None:
    """Raise if a URL is that of a web UI page or of the REST API below the base URL."""
    for pattern, what in ((_PAGE, "a page of the web UI"), (_API, "part of the REST API")):
        below = pattern.search(parts.path)
        if below:
            root = urlunsplit((parts.scheme, parts.netloc, parts.path[: below.start()], "", ""))
            raise ControlHubConfigurationError(
                f"The {name} is invalid: '{parts.netloc}{parts.path}' is {what}. Use {root} instead."
            )


def _split_with_scheme(url: str) -> SplitResult | None:
    text = url.strip()
    return _split(text if "://" in text else f"https://{text}")


def _split(url: str) -> SplitResult | None:
    """Return the parts of an http(s) URL; None if it is invalid, or if parsers could disagree about its host."""
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
    Return the base URL an organization has moved to; None if it must not receive the credential.

    Control Hub redirects moved organizations with a 308 (contract section 1.8). https is trusted on the same host or a
    sibling of it, such as ``eu01.hub.streamsets.com`` for ``na01.hub.streamsets.com``; http is trusted only on the same
    host, if it was used before.

    :param current: URL used so far
    :param location: ``Location`` header
    """
    old, new = urlsplit(current), _split(location)
    if new is None or "@" in new.netloc or not new.netloc.isascii():
        return None
    new_host = new.hostname or ""
    same_host = new_host == old.hostname
    if new.scheme == "http" and not (same_host and old.scheme == "http"):
        return None
    if not same_host and not _are_sibling_hosts(old.hostname or "", new_host):
        return None
    return urlunsplit((new.scheme, new.netloc, "", "", ""))


def _are_sibling_hosts(one: str, other: str) -> bool:
    if _is_ip_address(one) or _is_ip_address(other):
        return False
    parent, other_parent = one.partition(".")[2], other.partition(".")[2]
    # A parent of two labels can be a public suffix such as co.uk, whose subdomains have different owners.
    return parent == other_parent and parent.count(".") >= 2


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
