"""The HTML pages."""

from __future__ import annotations


def test_pages_escape_values(hub):
    overview = hub.http.get("/").text
    assert "Orders to warehouse" in overview
    hub.do("Quick check", "start", {"X": "<script>alert(1)</script>"})
    page = hub.http.get(f"/sch/jobs/detail/{hub.id('Quick check')}").text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    missing = hub.http.get("/sch/jobs/detail/<b>no")
    assert missing.status_code == 404
    assert "<b>no" not in missing.text
    for job in hub.backend.jobs.values():
        assert hub.http.get(f"/sch/jobs/detail/{job.id}").status_code == 200
