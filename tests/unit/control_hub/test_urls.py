from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_streamsets.control_hub import ControlHubConfigurationError
from airflow_provider_streamsets.control_hub.urls import normalize_base_url, normalize_hub_url, trusted_redirect

NA01 = "https://na01.hub.example.com/jobrunner/rest/v1/job/j:o"


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("https://na01.hub.example.com", "https://na01.hub.example.com"),
        ("https://na01.hub.example.com/", "https://na01.hub.example.com"),
        ("  https://na01.hub.example.com// \n", "https://na01.hub.example.com"),
        ("na01.hub.example.com", "https://na01.hub.example.com"),
        ("na01.hub.example.com:8443", "https://na01.hub.example.com:8443"),
        ("http://127.0.0.1:18631", "http://127.0.0.1:18631"),
        ("http://[::1]:18631", "http://[::1]:18631"),
        ("https://example.com/streamsets/", "https://example.com/streamsets"),
    ],
)
def test_base_url_is_normalized(written, address):
    assert normalize_base_url(written, "Control Hub URL") == address


@pytest.mark.parametrize(
    "written",
    [
        "",
        "  ",
        "/",
        "https://",
        "https:///path",
        "https://:443",
        "https://a host",
        "https://host:99999",
        "https://host:port",
        "https://[::1",
        "https://exa\u2100mple.com",
        "https://a..b",
        f"https://{'a' * 64}.example.com",
        "https://host\\path",
        "ftp://hub.example.com",
        "mailto://x",
    ],
)
def test_invalid_url_error_shows_example(written):
    with pytest.raises(ControlHubConfigurationError, match=r"The Control Hub URL is invalid.*https://na01"):
        normalize_base_url(written, "Control Hub URL")


@pytest.mark.parametrize(
    "written",
    [
        "https://user:pa55@host",
        "https://:@host",
        "user:pa55@host",
        "https://host?token=pa55",
        "https://host/#pa55",
        "ftp://u:pa55@host",
    ],
)
def test_rejected_url_hides_password(written):
    with pytest.raises(ControlHubConfigurationError) as caught:
        normalize_base_url(written, "login service URL")
    assert "login service" in str(caught.value)
    assert "pa55" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "address", "what"),
    [
        ("https://na01.hub.example.com/sch/jobs/detail/j:o", "https://na01.hub.example.com", "web UI"),
        ("https://na01.hub.example.com/sch/jobRunner/jobs?filter=x#y", "https://na01.hub.example.com", "web UI"),
        ("na01.hub.example.com/sch", "https://na01.hub.example.com", "web UI"),
        ("https://na01.hub.example.com//sch/", "https://na01.hub.example.com", "web UI"),
        ("http://127.0.0.1:18631/sch/login", "http://127.0.0.1:18631", "web UI"),
        ("https://na01.hub.example.com/jobrunner/rest", "https://na01.hub.example.com", "REST API"),
        ("https://na01.hub.example.com/jobrunner/rest/v1/job/j:o", "https://na01.hub.example.com", "REST API"),
        ("https://na01.hub.example.com/security/rest/v1/currentUser/", "https://na01.hub.example.com", "REST API"),
        ("https://na01.hub.example.com/security/public-rest/v1", "https://na01.hub.example.com", "REST API"),
        ("https://example.com/streamsets/timeseries/rest", "https://example.com/streamsets", "REST API"),
    ],
)
def test_deep_url_error_suggests_root(written, address, what):
    with pytest.raises(ControlHubConfigurationError, match=rf"{what}\. Use {re.escape(address)} instead\.$"):
        normalize_base_url(written, "Control Hub URL")


@pytest.mark.parametrize(
    ("written", "base_url"),
    [
        ("https://na01.hub.example.com/?page=jobs", "https://na01.hub.example.com"),
        ("na01.hub.example.com/streamsets/#/jobs", "https://na01.hub.example.com/streamsets"),
    ],
)
def test_query_or_fragment_error_suggests_base_url(written, base_url):
    with pytest.raises(
        ControlHubConfigurationError, match=rf"query or fragment\. Use {re.escape(base_url)} instead\.$"
    ):
        normalize_base_url(written, "Control Hub URL")


@pytest.mark.parametrize(
    "written",
    ["https://cloud.login.streamsets.com/login?target=x", "cloud.login.streamsets.com", "https://u:p@login.a.b"],
)
def test_login_service_is_not_control_hub(written):
    with pytest.raises(ControlHubConfigurationError, match=r"login\.[a-z.]+' is the login service\. Use the host that"):
        normalize_hub_url(written)


def test_hub_url_is_normalized():
    assert normalize_hub_url("na01.hub.example.com/") == "https://na01.hub.example.com"


@pytest.mark.parametrize("path", ["/schule", "/sch-proxy", "/gateway/sch", "/rest", "/jobrunner", "/hub/security"])
def test_other_paths_are_kept(path):
    assert normalize_base_url(f"https://example.com{path}", "Control Hub URL") == f"https://example.com{path}"


def test_job_link_may_contain_web_ui_path(make_client):
    client = make_client("https://example.com", job_link="{hub}/sch/jobs/detail/{job_id}")
    assert client.job_url("j:o") == "https://example.com/sch/jobs/detail/j:o"


@settings(deadline=None)
@given(st.text(max_size=50) | st.from_regex(r"https?://[\w.:@\[\]%/?#\\-]{0,30}", fullmatch=True))
def test_any_text_is_normalized_or_rejected(text):
    try:
        address = normalize_base_url(text, "Control Hub URL")
    except ControlHubConfigurationError:
        return
    assert address.startswith(("http://", "https://"))
    assert normalize_base_url(address, "Control Hub URL") == address


@pytest.mark.parametrize(
    ("old", "location", "new"),
    [
        (NA01, "https://eu01.hub.example.com/jobrunner/rest/v1/job/j:o", "https://eu01.hub.example.com"),
        (NA01, "https://eu01.hub.example.com", "https://eu01.hub.example.com"),
        (NA01, "https://EU01.hub.example.com:8443/x?y#z", "https://EU01.hub.example.com:8443"),
        (NA01, "https://na01.hub.example.com:8443/x", "https://na01.hub.example.com:8443"),
        ("http://127.0.0.1:1/x", "http://127.0.0.1:2/x", "http://127.0.0.1:2"),
        ("http://127.0.0.1:1/x", "https://127.0.0.1:2/x", "https://127.0.0.1:2"),
        ("http://[::1]:1/x", "http://[::1]:2/x", "http://[::1]:2"),
    ],
)
def test_redirect_to_same_or_sibling_host_is_trusted(old, location, new):
    assert trusted_redirect(old, location) == new


@pytest.mark.parametrize(
    ("old", "location"),
    [
        (NA01, "https://attacker.example.net/"),
        (NA01, "https://hub.example.com/"),
        (NA01, "https://deeper.eu01.hub.example.com/"),
        (NA01, "https://na01.hub.example.com.attacker.net/"),
        (NA01, "http://na01.hub.example.com/"),
        (NA01, "http://eu01.hub.example.com/"),
        (NA01, "https://eu01.hub.example.com@attacker.net/"),
        (NA01, "https://attacker.net@eu01.hub.example.com/"),
        (NA01, "https://:@na01.hub.example.com/"),
        # Taken for a host below hub.example.com by some parsers and for the address 127.0.0.1 by others.
        (NA01, "https://2130706433\\x.hub.example.com/"),
        (NA01, "https://2130706433%2f.hub.example.com/"),
        (NA01, "https://.hub.example.com/"),
        (NA01, "https://na01.hub.example.com:99999/"),
        (NA01, "https://[::1"),
        (NA01, "//eu01.hub.example.com/"),
        (NA01, "/jobrunner/elsewhere"),
        (NA01, "ftp://na01.hub.example.com/"),
        (NA01, ""),
        ("https://one.example.com/", "https://two.example.com/"),
        ("https://one.co.uk/", "https://two.co.uk/"),
        ("https://10.0.0.1/", "https://10.0.0.2/"),
        ("https://10.0.0.1/", "https://11.0.0.1/"),
        ("http://na01.hub.example.com/", "http://eu01.hub.example.com/"),
        ("https://localhost/", "https://other/"),
    ],
)
def test_other_redirect_targets_are_not_trusted(old, location):
    assert trusted_redirect(old, location) is None


@settings(deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"https?://[\w.:@\[\]%/?#\\-]{0,40}", fullmatch=True))
def test_any_location_yields_trusted_url_or_none(location):
    new = trusted_redirect(NA01, location)
    assert new is None or new.lower().startswith("https://")
