"""Only the page itself may ask the server: no other site, no foreign name, nobody without the token."""

from __future__ import annotations

import pytest

from genlangsplat_ns.web.guard import Door

HERE = "127.0.0.1:7008"
DOOR = Door(7008, None, frozenset({"/", "/app.js"}))
FAR = Door(7008, "secret", frozenset({"/", "/app.js"}))


@pytest.mark.parametrize("host", [HERE, "localhost:7008", "[::1]:7008"])
def test_this_machine_may_ask_by_each_of_its_names(host: str) -> None:
    same = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    assert DOOR.refusal("/api/texts", "POST", same, "") is None
    assert DOOR.refusal("/", "GET", {"host": host, "sec-fetch-site": "none"}, "") is None
    # Programs such as curl send neither.
    assert DOOR.refusal("/scene.json", "GET", {"host": host}, "") is None


@pytest.mark.parametrize(
    "host", ["evil.example:7008", "127.0.0.1", "127.0.0.1:80", "127.0.0.1.evil.example:7008", "", f"{HERE}, {HERE}"]
)
def test_a_foreign_name_that_leads_here_is_refused(host: str) -> None:
    assert "expected one of 127.0.0.1:7008" in str(DOOR.refusal("/scene.json", "GET", {"host": host}, ""))


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:7008", "http://127.0.0.1:8888", "file://", ""]
)
def test_a_request_from_another_origin_is_refused(origin: str) -> None:
    refused = DOOR.refusal("/api/texts", "POST", {"host": HERE, "origin": origin}, "")
    assert "expected http://127.0.0.1:7008" in str(refused)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_a_request_from_another_site_is_refused_except_for_a_link_to_the_page(site: str) -> None:
    headers = {"host": HERE, "sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
    assert "another site" in str(DOOR.refusal("/thumbnails/0000.jpg", "GET", headers, ""))
    link = headers | {"sec-fetch-mode": "navigate"}
    assert DOOR.refusal("/", "GET", link, "") is None
    assert "another site" in str(DOOR.refusal("/", "POST", link, ""))
    assert "another site" in str(DOOR.refusal("/scene.json", "GET", link, ""))


def test_from_elsewhere_the_token_opens_what_belongs_to_the_scene() -> None:
    headers = {"host": "workstation:7008"}
    assert FAR.refusal("/scene.json", "GET", headers, "secret") is None
    for wrong in ("", "secre", "secrets", "SECRET", "sécret"):
        assert "whole address" in str(FAR.refusal("/scene.json", "GET", headers, wrong))
    assert FAR.refusal("/app.js", "GET", headers, "") is None
    assert "whole address" in str(FAR.refusal("/api/health", "GET", headers, ""))


def test_the_token_does_not_open_the_door_to_other_origins() -> None:
    headers = {"host": "workstation:7008", "origin": "http://evil.example"}
    assert "origin" in str(FAR.refusal("/scene.json", "GET", headers, "secret"))
