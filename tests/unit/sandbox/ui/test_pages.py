"""The HTML pages."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from fastapi.testclient import TestClient

from tests.unit.fakes.sandbox_app import T0, Hub


class Page(HTMLParser):
    """A page as its users meet it: the text of its table rows and of the page, its buttons and its references."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[str] = []
        self.text = ""
        self.cells: list[dict[str, str | None]] = []
        self.buttons: list[str | None] = []
        self.references: list[str | None] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "tr":
            self.rows.append("")
        elif tag == "td":
            self.cells.append(values)
        elif tag == "button":
            self.buttons.append(values["aria-label"])
        self.references += [values[name] for name in ("src", "href", "xlink:href") if name in values]

    def handle_data(self, data):
        self.text += f" {data.strip()}" if data.strip() else ""
        if self.rows and data.strip():
            self.rows[-1] += f" {data.strip()}"

    def row(self, name: str) -> str:
        return next(row for row in self.rows if row.startswith(f" {name} "))


def job_path(hub: Hub, name: str) -> str:
    return f"/sch/jobs/detail/{hub.id(name)}"


def job_page(hub: Hub, name: str) -> Page:
    return Page(hub.http.get(job_path(hub, name)).text)


def overview(hub: Hub) -> Page:
    return Page(hub.http.get("/").text)


def as_json(hub: Hub, path: str):
    return hub.get(path, format="json")


def throughput(hub: Hub, name: str):
    return as_json(hub, job_path(hub, name))["throughput"]


def test_pages_escape_values(hub):
    assert "Orders to warehouse" in overview(hub).text
    hub.do("Quick check", "start", {"X": "<script>alert(1)</script>"})
    page = hub.http.get(job_path(hub, "Quick check")).text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    missing = hub.http.get("/sch/jobs/detail/<b>no")
    assert missing.status_code == 404
    assert "<b>no" not in missing.text
    for job in hub.backend.jobs.values():
        assert hub.http.get(f"/sch/jobs/detail/{job.id}").status_code == 200


def test_outcomes_are_words(hub):
    page = overview(hub)
    for name, words in {
        "Orders to warehouse": "succeeded INACTIVE Start 3",
        "Clickstream to lake": "stopped INACTIVE",
        "Customers nightly": "failed INACTIVE",
        "Ledger export": "failed INACTIVE_ERROR Acknowledge",
        "Web logs to lake": "running ACTIVE Stop",
        "Quick check": "never run Start",
        "Regional orders": "job template",
        "http://sdc-prod.example.com:18630": "responding",
    }.items():
        assert page.row(name).startswith(f" {name} {words} ")
    past = [row for row in job_page(hub, "Orders to warehouse").rows if "INACTIVE" in row and "Job" not in row]
    outcomes = [re.match(r" (\d) (\w+) INACTIVE", row) for row in past]
    assert [match.groups() for match in outcomes if match] == [("3", "succeeded"), ("2", "failed"), ("1", "succeeded")]


def test_lost_engine_is_reported_in_words(hub):
    hub.do("Legacy feed", "start")
    hub.clock.advance(60)
    page = overview(hub)
    assert "engine not responding ACTIVE Stop" in page.row("Legacy feed")
    assert " not responding " in page.row("http://sdc-field.example.com:18630")


def test_buttons_follow_state(hub):
    assert job_page(hub, "Regional orders").buttons == []
    assert job_page(hub, "Quick check").buttons == ["Start Quick check"]
    hub.do("Quick check", "start")
    assert job_page(hub, "Quick check").buttons == []
    assert job_page(hub, "Web logs to lake").buttons == ["Stop Web logs to lake"]
    assert job_page(hub, "Ledger export").buttons == ["Acknowledge Ledger export"]
    assert {"Start Orders to warehouse", "Stop Web logs to lake"} <= set(overview(hub).buttons)


@pytest.mark.parametrize(
    ("name", "action", "message"),
    [
        ("Quick check", "start", "Job 'Quick check' run 1: ACTIVATING, starting."),
        ("Web logs to lake", "stop", "Job 'Web logs to lake' run 2: DEACTIVATING, stopping."),
        ("Ledger export", "acknowledge", "Job 'Ledger export' run 1: INACTIVE, failed."),
    ],
)
def test_buttons_act_without_credential(hub, name, action, message):
    headers = {"X-Requested-By": "sandbox page", "X-Sandbox-Caller": "sandbox page"}
    before = hub.get("/sandbox/v1/requests")["total"]
    response = TestClient(hub.app, headers=headers).post(f"{job_path(hub, name)}/{action}")
    assert (response.status_code, response.json()) == (200, {"message": message})
    assert hub.get("/sandbox/v1/requests")["total"] == before
    logged = [*hub.get("/sandbox/v1/starts"), *hub.get("/sandbox/v1/stops")]
    assert [entry["caller"] for entry in logged] == ["sandbox page"] * (action != "acknowledge")


def test_pages_of_other_sites_cannot_act(hub):
    # What a form on another site can send.
    response = TestClient(hub.app).post(f"{job_path(hub, 'Quick check')}/start", data={"X-Requested-By": "x"})
    assert response.status_code == 403
    preflight = TestClient(hub.app).options(f"{job_path(hub, 'Quick check')}/start", headers={"Origin": "http://other"})
    assert preflight.status_code == 403
    assert not {name for name in preflight.headers if name.startswith("access-control")}
    assert hub.get("/sandbox/v1/starts") == []


def test_refused_action_is_explained(hub):
    def problem(path: str) -> tuple[int, str]:
        response = hub.http.post(path)
        return response.status_code, response.json()["ISSUES"][0]["message"]

    assert problem(f"{job_path(hub, 'Web logs to lake')}/start") == (
        400,
        "Job 'Web logs to lake' cannot be started: it is ACTIVE",
    )
    assert problem("/sch/jobs/detail/no:no/start") == (404, "Job 'no:no' does not exist")
    assert problem(f"{job_path(hub, 'Quick check')}/delete")[0] == 404


def test_pages_are_available_as_json(hub):
    page = as_json(hub, "/")
    assert page["now"] == T0
    jobs = {job["name"]: job for job in page["jobs"]}
    assert (jobs["Ledger export"]["outcome"], jobs["Ledger export"]["action"]) == ("failed", "acknowledge")
    assert [engine["responding"] for engine in page["engines"]] == [True, True, True]
    job = as_json(hub, job_path(hub, "Orders to warehouse"))
    assert [run["outcome"] for run in job["runs"]] == ["succeeded", "failed", "succeeded"]
    assert job["runs"][1]["saved_counts"]["input"] == 21_000
    assert hub.app.state.context.credential.token not in json.dumps([page, job])
    for path in ("/", job_path(hub, "Orders to warehouse")):
        assert "?format=json" in Page(hub.http.get(path).text).references
    missing = hub.http.get("/sch/jobs/detail/no:no?format=json")
    assert (missing.status_code, missing.json()["error"]) == (404, "No job has the id no:no.")


def test_run_without_saved_metrics_has_no_counts(hub):
    hub.do("Orders to warehouse", "start")
    running, previous, *_ = as_json(hub, job_path(hub, "Orders to warehouse"))["runs"]
    assert (running["saved_counts"], previous["saved_counts"]["output"]) == (None, 59_700)
    assert "none saved" in job_page(hub, "Orders to warehouse").text


def test_throughput_of_finished_run(hub):
    intervals = throughput(hub, "Orders to warehouse")
    duration = (intervals[-1]["end"] - intervals[0]["begin"]) / 1000
    assert (len(intervals), duration) == (60, 15.0)
    assert {interval["records_per_second"] for interval in intervals} == {4000.0}
    assert [interval["begin"] for interval in intervals[1:]] == [interval["end"] for interval in intervals[:-1]]
    page = hub.http.get(job_path(hub, "Orders to warehouse")).text
    assert "Input: 4,000 records per second on average, at most 4,000, in 15.0 s." in page
    (path,) = re.findall(r'<path d="([^"]+)"', page)
    # 4,000 of 5,000 records per second, over the full width.
    assert path.startswith("M0 100V20.0H10.0V20.0H20.0")
    assert path.endswith("H600.0V100Z")


def test_throughput_drops_while_engine_is_lost(hub):
    hub.do("Sensors archive", "start")
    hub.clock.advance(8)
    rates = [interval["records_per_second"] for interval in throughput(hub, "Sensors archive")]
    assert rates[0] > 0
    assert rates[-1] == 0


def test_no_throughput_without_running_pipeline(hub):
    assert throughput(hub, "Quick check") == []
    hub.do("Quick check", "start")
    assert throughput(hub, "Quick check") == []
    assert "<svg" not in hub.http.get(job_path(hub, "Quick check")).text
    hub.do("Invoices import", "start")
    hub.clock.advance(60)
    assert throughput(hub, "Invoices import") == []


def test_throughput_of_young_run_counts_whole_records(hub):
    hub.do("Clickstream to lake", "start", {"RATE": "10"})
    hub.clock.advance(4)
    rates = [interval["records_per_second"] for interval in throughput(hub, "Clickstream to lake")]
    assert rates == [10.0]


def test_narrow_pages_label_cells(hub):
    for page in (overview(hub), job_page(hub, "Orders to warehouse"), job_page(hub, "Clickstream to lake")):
        assert page.cells
        # Empty cells are hidden.
        assert {bool(cell) for cell in page.cells if cell.get("data-label") is None} <= {False}


def test_pages_reference_no_other_host(hub):
    for page in (overview(hub), job_page(hub, "Orders to warehouse")):
        assert [url for url in page.references if not url.startswith(("/", "?", "data:"))] == []
