"""Permissions on jobs."""

from __future__ import annotations

from tests.unit.fakes.sandbox_app import JR, T0


def test_permissions_are_stored(hub):
    path = f"{JR}/job/{hub.id('Quick check')}/acl"
    acl = hub.get(path)
    acl["permissions"].append({"subjectId": "all@org", "subjectType": "GROUP", "actions": ["READ"]})
    hub.clock.advance(1)
    changed = hub.http.post(path, json=acl).json()
    assert changed == hub.get(path)
    assert [entry["actions"] for entry in changed["permissions"]] == [["READ", "WRITE", "EXECUTE"], ["READ"]]
    assert changed["lastModifiedOn"] == T0 + 1000
    for invalid in ({}, {"permissions": [{"subjectId": "a", "subjectType": "DOG"}]},
                  {"permissions": [{"subjectId": "a", "subjectType": "USER", "actions": ["FLY"]}]}):  # fmt: skip
        assert hub.http.post(path, json=invalid).status_code == 400
