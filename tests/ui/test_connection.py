from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from airflow_provider_streamsets.connection_form import CONN_FIELDS, HOOK_NAME, PLACEHOLDERS, RELABELING
from dev.local_airflow import LocalAirflow
from tests.ui.scene import CONNECTION_ID

REJECTED_ID = "streamsets_rejected"


@pytest.fixture
def form(page: Page) -> Locator:
    """The form of a new connection of type StreamSets."""
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.get_by_role("combobox", name="Connection Type").click()
    page.get_by_role("option", name=HOOK_NAME).click()
    return form


@pytest.fixture
def rejected(airflow: LocalAirflow) -> Iterator[str]:
    """The id of a connection that is deleted at the end."""
    yield REJECTED_ID
    airflow.api("DELETE", f"/connections/{REJECTED_ID}")


def row_of(page: Page, conn_id: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("cell", name=conn_id, exact=True))


def run_test(page: Page, conn_id: str) -> Locator:
    """Click the button of a connection and return the message."""
    row_of(page, conn_id).get_by_role("button", name="Test Connection").click()
    return page.get_by_role("status").filter(has_text="Test Connection")


def test_form_labels_all_fields(form):
    for field, label in RELABELING.items():
        expect(form.get_by_role("textbox", name=label)).to_have_attribute("placeholder", PLACEHOLDERS[field])
    for label in ("Host", "Login", "Password", "Port", "Schema"):
        expect(form.get_by_role("textbox", name=label, exact=True)).to_have_count(0)
    for section, is_expert in (("Extra Fields", False), ("Expert settings", True)):
        form.get_by_role("button", name=section, exact=True).click()
        for field in CONN_FIELDS.values():
            label = form.get_by_text(field["label"], exact=True)
            if ("section" in field["schema"]) is is_expert:
                expect(label).to_be_visible()
                expect(form.get_by_text(field["description"], exact=True)).to_be_visible()
            else:
                expect(label).to_be_hidden()


def test_test_button_reports_login(page, sandbox):
    page.goto("/connections")
    message = run_test(page, CONNECTION_ID)
    expect(message).to_contain_text("Test Connection Successful")
    expect(message).to_contain_text(
        f"Logged in to {sandbox.url} as Airflow service account of organization Example org."
    )


def test_test_button_reports_rejected_token(page, sandbox, airflow, rejected):
    # Airflow 3.3 refuses to test a stored connection without a port.
    body = {"connection_id": rejected, "conn_type": "streamsets", "port": 0, "host": sandbox.url, "login": "unknown"}
    airflow.api("POST", "/connections", {**body, "password": "a.b."})
    page.goto("/connections")
    message = run_test(page, rejected)
    expect(message).to_contain_text("Test Connection Failed")
    expect(message).to_contain_text("401")


def test_form_saves_connection(form, page, sandbox, airflow, rejected):
    form.get_by_role("textbox", name="Connection ID").fill(rejected)
    form.get_by_role("textbox", name="Control Hub URL").fill(sandbox.url)
    form.get_by_role("textbox", name="Credential ID").fill("unknown")
    form.get_by_role("textbox", name="Token").fill("a.b.")
    form.get_by_role("button", name="Save").click()
    expect(row_of(page, rejected)).to_be_visible()
    stored = airflow.api("GET", f"/connections/{rejected}")
    assert (stored["host"], stored["login"], stored["password"]) == (sandbox.url, "unknown", "***")
