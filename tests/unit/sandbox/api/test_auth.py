"""Authentication of requests."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.unit.fakes.sandbox_app import JR


@pytest.mark.parametrize("missing", ["X-SS-App-Component-Id", "X-SS-App-Auth-Token", "X-Requested-By"])
def test_missing_header_returns_401(shared_hub, missing):
    headers = {name: value for name, value in shared_hub.headers.items() if name != missing}
    for path in (f"{JR}/jobs", "/security/rest/v1/currentUser", "/no/such/path", "/sandbox/v1/state"):
        response = TestClient(shared_hub.app, headers=headers).get(path)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "dpm"
        assert response.json() == {"ISSUES": [{"code": "SSO_01", "message": "User not authenticated"}]}


def test_token_has_format_of_control_hub(shared_hub):
    token = shared_hub.app.state.context.credential.token
    _, payload, signature = token.split(".")
    assert signature == ""
    assert not set(payload) & set("-_+/=")
    assert token not in repr(shared_hub.app.state.context)


def test_login_service_and_pages_need_no_credential(shared_hub):
    anyone = TestClient(shared_hub.app)
    organization = shared_hub.backend.organization
    body = anyone.get(f"/login/api/security/public/v3/orgs/{organization}/info").json()
    assert body["data"]["landingUrl"] == "http://testserver/security/public-rest/v1/aster/landing"
    assert anyone.get("/login/api/security/public/v3/orgs/other/info").status_code == 404
    assert anyone.get("/healthz").status_code == 200
    assert anyone.get("/").status_code == 200
