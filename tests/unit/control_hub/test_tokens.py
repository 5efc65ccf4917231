from __future__ import annotations

import contextlib
import json
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import ControlHubAuthenticationError, ControlHubClient
from airflow_provider_streamsets.control_hub.tokens import organization_id, validate_secret
from tests.unit.fakes.api_payloads import ORGANIZATION, SECRET, TOKEN, make_token


def _all_that_is_shown(error: BaseException) -> str:
    """Text, repr, traceback, and the exceptions that hang on an exception."""
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    link: BaseException | None = error
    while link is not None:
        shown += str(link) + repr(link) + repr(link.__dict__)
        link = link.__cause__ or link.__context__
    return shown


def test_organization_is_read_from_token():
    assert organization_id(TOKEN) == ORGANIZATION


@pytest.mark.parametrize("url_safe", [True, False], ids=["url-safe", "standard"])
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "unpadded"])
def test_both_base64_alphabets_are_decoded(url_safe, padded):
    payload = json.dumps({"o": ORGANIZATION, "s": "~~??>>\u00ff\u00fe"}, ensure_ascii=False).encode()
    token = make_token(payload, url_safe=url_safe, padded=padded)
    assert any(c in token for c in ("-_" if url_safe else "+/"))
    assert organization_id(token) == ORGANIZATION


@settings(deadline=None)
@given(
    st.text(min_size=1),
    st.dictionaries(st.text().filter(lambda key: key != "o"), st.integers() | st.text()),
    st.booleans(),
    st.booleans(),
)
def test_any_organization_is_decoded(organization, others, url_safe, padded):
    assert organization_id(make_token({**others, "o": organization}, url_safe=url_safe, padded=padded)) == organization


MALFORMED = {
    "no dot": SECRET,
    "no base64": f"head.{SECRET}!.",
    "no JSON": make_token(SECRET.encode()),
    "no text": make_token(SECRET.encode() + b"\xff\xfe\x00\xff"),
    "no object": make_token([SECRET]),
    "nested too deeply": make_token(b"[" * 100_000 + SECRET.encode()),
    "no organization": make_token({"s": SECRET}),
    "organization null": make_token({"s": SECRET, "o": None}),
    "organization a number": make_token({"s": SECRET, "o": 5}),
    "organization empty": make_token({"s": SECRET, "o": ""}),
}


@pytest.mark.parametrize("token", MALFORMED.values(), ids=MALFORMED)
def test_malformed_token_is_rejected_without_leak(token):
    with pytest.raises(ControlHubAuthenticationError, match="token is malformed") as caught:
        organization_id(token)
    shown = _all_that_is_shown(caught.value)
    assert token[:2000] not in shown
    assert SECRET not in shown
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@settings(deadline=None)
@given(st.text() | st.text(alphabet="eyJ.=AQ-_+/", max_size=40))
def test_any_token_yields_organization_or_error(token):
    with contextlib.suppress(ControlHubAuthenticationError):
        assert organization_id(token)


def test_malformed_token_is_rejected_for_hub_lookup():
    with pytest.raises(ControlHubAuthenticationError, match="malformed"):
        ControlHubClient(None, "credential-id", "not-a-token")


def test_opaque_token_is_accepted_with_base_url():
    client = ControlHubClient("https://hub.example.com", "credential-id", "opaque")
    assert client.base_url == "https://hub.example.com"


def test_secret_is_stripped():
    assert validate_secret(f" \t{TOKEN}\r\n", "token") == TOKEN


@pytest.mark.parametrize("value", [None, "", "  \n"])
@pytest.mark.parametrize("name", ["Credential ID", "Token"])
def test_missing_secret_is_named(value, name):
    values = {"credential_id": "credential-id", "token": TOKEN, name.lower().replace(" ", "_"): value}
    with pytest.raises(ControlHubAuthenticationError, match=f"The {name} is missing"):
        ControlHubClient("https://hub.example.com", **values)


@pytest.mark.parametrize("inside", [" ", "\n", "\r\n", "\t", "\x00", "\x7f", "ß", "\u200b", "\u00a0"])
def test_secret_with_invalid_characters_is_not_shown(inside):
    with pytest.raises(ControlHubAuthenticationError, match="Copy it again") as caught:
        ControlHubClient("https://hub.example.com", "credential-id", f"{SECRET}{inside}{SECRET}")
    assert SECRET not in _all_that_is_shown(caught.value)


def test_repr_hides_credential():
    client = ControlHubClient(None, "the-credential-id", TOKEN)
    assert TOKEN not in repr(client)
    assert "the-credential-id" not in repr(client)
