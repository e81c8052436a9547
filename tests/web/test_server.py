"""The server of the page, asked in this process."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.splat_files import read_splats
from genlangsplat_ns.web.clicks import CLICKED
from genlangsplat_ns.web.live_scene import LiveScene
from genlangsplat_ns.web.protocol import unpack
from genlangsplat_ns.web.requests import MAX_JSON, MAX_TEXTS
from tests.scene.language_scenes import NUM_GAUSSIANS
from tests.web.pages import BINARY, HOST, JSON, Answer, app_of, ask, built_page, get, live_scene, page_scene, post

CLICK = {"page": "a", "request": 1, "origin": [-0.7, 0.0, 3.0], "direction": [0.0, 0.0, -2.0], "level": "mean"}
"""A click on the left cloud."""


@pytest.fixture(scope="module")
def live() -> Iterator[LiveScene]:
    """Two clouds of Gaussians behind a page."""
    live = live_scene(texts=("left",))
    yield live
    live.stop()


@pytest.fixture(scope="module")
def app(live: LiveScene, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return app_of(live, page=built_page(tmp_path_factory.mktemp("page")))


def texts(*words: str, page: str = "a", request: int = 1, **others: Any) -> dict[str, Any]:
    """The body of a request for texts."""
    return {"page": page, "request": request, "texts": list(words), **others}


# The page and the scene


def test_the_files_of_the_page_are_served_with_their_types(app: Any) -> None:
    kinds = {"/": "text/html", "/index.html": "text/html", "/app.js": "text/javascript", "/style.css": "text/css"}
    for path, kind in kinds.items():
        answer = get(app, path)
        assert answer.status == 200 and answer.headers["content-type"].startswith(kind) and answer.body


def test_without_a_built_page_the_server_says_what_to_run(live: LiveScene, tmp_path: Path) -> None:
    assert b"make page" in get(app_of(live, page=tmp_path), "/").body


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "//etc/passwd",
        "/thumbnails/../scene.json",
        "/thumbnails/-1.jpg",
        "/thumbnails/2.jpg",
        "/thumbnails/99999999999999999999.jpg",
        "/thumbnails/0000.png",
        "/sources.json",
        "/scene.json/",
        "/api",
        "/api/nothing",
    ],
)
def test_nothing_but_the_listed_files_is_served(live: LiveScene, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    answer = get(app_of(live, page=built_page(tmp_path / "page")), path)
    assert answer.status == 404 and answer.error and b"secret<" not in answer.body


def test_the_description_names_what_the_page_needs(app: Any) -> None:
    found = get(app, "/scene.json").json()
    assert found["format"] == "genlangsplat-page-1" and found["live"] and found["name"] == "clouds"
    assert found["splats"] == {"file": "scene.spz", "count": NUM_GAUSSIANS}
    assert found["texts"] == ["left"] and found["config"] == "RUN/config.yml"
    assert found["query"]["threshold"] == 0.8 and found["query"]["negatives"][0] == "object"
    assert [view["name"] for view in found["views"]] == ["train.png", "eval.png"]
    (first, _) = found["views"]
    assert first["position"] == [0.0, 0.0, 3.0] and np.allclose(first["rotation"], np.eye(3))
    assert math.isclose(first["fov_y"], 2 * math.degrees(math.atan(16 / 33.6)), rel_tol=1e-5)
    assert get(app, f"/{first['thumbnail']}").headers["content-type"] == "image/jpeg"


def test_the_splats_are_those_of_the_run(app: Any, live: LiveScene, tmp_path: Path) -> None:
    (tmp_path / "scene.spz").write_bytes(get(app, "/scene.spz").body)
    read, field = read_splats(tmp_path / "scene.spz").gaussians, live.scene.field
    assert torch.allclose(read.means, field.means, atol=1e-5)
    assert (read.opacities[:, 0].sigmoid() - field.opacities).abs().max() < 0.6 / 255


def test_every_answer_has_the_headers_of_a_closed_page(app: Any) -> None:
    for answer in (get(app, "/"), get(app, "/scene.json"), get(app, "/nothing"), post(app, "/api/texts", {})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


# Texts


def test_texts_are_answered_with_the_cosines_of_every_level(app: Any) -> None:
    answer = post(app, "/api/texts", texts("left", "object"))
    kind, scores = unpack(answer.body)
    assert answer.status == 200 and answer.headers["content-type"] == "application/octet-stream"
    assert kind == "cosines" and [each.text for each in scores] == ["left", "object"]
    left = torch.from_numpy(scores[0].values()[2])
    half = NUM_GAUSSIANS // 2
    assert left[:half].mean() > 0.9 > 0.5 > left[half:][~left[half:].isnan()].mean()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (texts("x" * 10_000), "10,000 characters"),
        (texts(" "), "blank text"),
        (texts(), "no text"),
        (texts(*["left"] * (MAX_TEXTS + 1)), f"at most {MAX_TEXTS}"),
        ({"page": "a", "request": 1, "texts": "left"}, "list of texts"),
        ({"page": "a", "request": 1, "texts": [1]}, "list of texts"),
        (texts("left", page=""), '"page"'),
        (texts("left", page="x" * 1000), '"page"'),
        (texts("left", request="1"), '"request"'),  # type: ignore[arg-type]
        (texts("left", request=True), '"request"'),
        (texts("left", prompts="no"), '"prompts"'),
        ([1, 2], "list; expected an object"),
        (b"\xff{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_bad_requests_are_refused_with_a_sentence(app: Any, document: Any, message: str) -> None:
    answer = post(app, "/api/texts", document)
    assert answer.status == 400 and message in answer.error


def test_scripts_in_texts_come_back_as_they_are_in_a_file_that_is_no_page(app: Any) -> None:
    text = "</script><script>alert(1)</script>\"'"
    answer = post(app, "/api/texts", texts(text))
    assert unpack(answer.body)[1][0].text == text and answer.headers["x-content-type-options"] == "nosniff"


def test_bodies_are_bounded_whatever_their_header_says(app: Any) -> None:
    blocks = [b"[" + b" " * 100_000] * 20
    for headers in (JSON, JSON | {"content-length": "10"}):
        answer = asyncio.run(ask(app, "/api/texts", blocks, headers))
        assert answer.status == 413 and f"{MAX_JSON:,} bytes" in answer.error


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_foreign_page_could_send_unasked_is_refused(app: Any, kind: str) -> None:
    for path in ("/api/texts", "/api/here", "/api/like", "/api/export?format=ply"):
        assert post(app, path, texts("left"), {"content-type": kind}).status == 415


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "GET"])
def test_other_methods_are_refused(app: Any, method: str) -> None:
    assert asyncio.run(ask(app, "/api/texts", method=method)).status == 405


def held(live: LiveScene) -> threading.Event:
    """Keeps the model busy until the event is set."""
    gate = threading.Event()
    live.model_thread.submit(gate.wait, 10)
    return gate


def test_an_outdated_request_is_dropped_and_another_page_is_answered(app: Any, live: LiveScene) -> None:
    gate = held(live)

    async def scenario() -> list[Answer]:
        def start(document: dict[str, Any]) -> asyncio.Task[Answer]:
            return asyncio.create_task(ask(app, "/api/texts", json.dumps(document).encode(), JSON))

        tasks = [start(texts("first", page="b")), start(texts("old")), start(texts("other", page="c"))]
        await asyncio.sleep(0.05)
        tasks.append(start(texts("new", request=2)))
        await asyncio.wait([tasks[1]], timeout=5)
        assert tasks[1].done() and not gate.is_set()
        gate.set()
        return await asyncio.gather(*tasks)

    first, old, other, new = asyncio.run(scenario())
    assert old.status == 409 and "newer" in old.error
    assert [unpack(each.body)[1][0].text for each in (first, other, new)] == ["first", "other", "new"]


def test_nothing_is_scored_for_a_page_that_is_gone(app: Any, live: LiveScene) -> None:
    answer = asyncio.run(ask(app, "/api/texts", json.dumps(texts("nobody waits for this")).encode(), JSON, gone=True))
    assert answer.status == 409 and ("nobody waits for this", False) not in live.answers._known


def test_an_encoder_that_fails_is_reported_to_the_page() -> None:
    scene = page_scene()

    def fail() -> Any:
        raise GenLangSplatError("The weights are missing. Get them.")

    manager: Any = scene.datamanager
    manager.extractor.load_text_encoder = fail
    answer = post(app_of(live_scene(scene)), "/api/texts", texts("left"))
    assert answer.status == 400 and answer.error == "The weights are missing. Get them."


def test_a_fault_of_the_program_is_a_sentence_too(live: LiveScene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(live.answers, "cosines", fail)
    with pytest.raises(ZeroDivisionError):
        # Starlette answers, and hands the fault on to the server's log.
        post(app_of(live), "/api/texts", texts("left"))


# Clicks


def test_a_click_is_named_and_placed(app: Any) -> None:
    found = post(app, "/api/here", CLICK).json()
    assert len(found["names"]) == 5
    assert [item["score"] for item in found["names"]] == sorted(
        (item["score"] for item in found["names"]), reverse=True
    )
    x, y, z = found["point"]
    assert (x, y) == pytest.approx((-0.7, 0.0), abs=1e-3) and -1 < z < 1.5


def test_a_click_finds_what_looks_like_it(app: Any) -> None:
    kind, (scores,) = unpack(post(app, "/api/like", CLICK).body)
    values = np.nan_to_num(scores.values()[0])
    half = NUM_GAUSSIANS // 2
    assert kind == "relevancy" and scores.text == CLICKED and scores.limits == ((0.0, 1.0),)
    assert values[:half].mean() > 0.5 > values[half:].mean()


def test_a_click_into_nothing_says_so(app: Any) -> None:
    for path in ("/api/here", "/api/like"):
        assert "No region was ever seen there" in post(app, path, CLICK | {"direction": [0, 0, 1]}).error


@pytest.mark.parametrize(
    "change",
    [
        {"origin": [0, 0]},
        {"origin": None},
        {"origin": [0, 0, "0"]},
        {"origin": [0, 0, 1e30]},
        {"origin": [0, 0, 10**400]},
        {"direction": [0, 0, 0]},
        {"direction": [0, 0, float("nan")]},
        {"level": "medium"},
        {"level": ["mean"]},
    ],
)
def test_bad_clicks_are_refused(app: Any, change: dict[str, Any]) -> None:
    for path in ("/api/here", "/api/like"):
        answer = post(app, path, CLICK | change)
        assert answer.status == 400 and answer.error.startswith("Found")


# Downloads


@pytest.mark.parametrize("ending", ["ply", "spz"])
def test_a_selection_is_downloaded_in_the_frame_of_the_run(
    app: Any, live: LiveScene, tmp_path: Path, ending: str
) -> None:
    keep = np.zeros(NUM_GAUSSIANS, bool)
    keep[10:150] = True
    answer = post(app, f"/api/export?format={ending}", np.packbits(keep).tobytes(), BINARY)
    assert answer.headers["content-disposition"] == f'attachment; filename="selection.{ending}"'
    (tmp_path / f"a.{ending}").write_bytes(answer.body)
    written = read_splats(tmp_path / f"a.{ending}").gaussians
    assert np.allclose(written.means.numpy(), live.scene.field.means.numpy()[keep], atol=1e-5)


@pytest.mark.parametrize("size", [0, 1, 74, 76, 10_000_000])
def test_a_mask_of_another_size_is_refused(app: Any, size: int) -> None:
    answer = post(app, "/api/export?format=ply", b"\xff" * size, BINARY)
    assert answer.status in (400, 413) and "75" in answer.error


def test_an_empty_mask_and_another_format_are_refused(app: Any) -> None:
    assert "empty selection" in post(app, "/api/export?format=ply", bytes(75), BINARY).error
    assert "ply, spz" in post(app, "/api/export?format=../x", b"\xff" * 75, BINARY).error


# Who may ask


def test_other_hosts_and_origins_are_refused_and_the_page_is_not(app: Any) -> None:
    assert get(app, "/scene.json", origin=f"http://{HOST}").status == 200
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        answer = asyncio.run(ask(app, "/scene.json", headers=headers))
        assert answer.status == 403 and answer.error.startswith("Found") and "frame-ancestors" in str(answer.headers)


def test_the_token_is_taken_from_the_header_or_the_address(live: LiveScene) -> None:
    app = app_of(live, "a-token")
    assert get(app, "/").status == 200
    assert get(app, "/scene.json").status == get(app, "/scene.json?token=other").status == 403
    assert get(app, "/scene.json?token=a-token").status == 200
    assert get(app, "/scene.json", x_token="a-token", host="workstation:7008").status == 200
    assert post(app, "/api/texts", texts("left")).status == 403
    assert post(app, "/api/texts", texts("left"), JSON | {"x-token": "a-token"}).status == 200


# What happens to the run


def test_the_photographs_may_vanish_while_the_page_is_open(tmp_path: Path) -> None:
    scene = page_scene()

    def gone(split: str, index: int) -> Any:
        raise GenLangSplatError("train.png cannot be read.")

    manager: Any = scene.datamanager
    live = live_scene(scene)
    app = app_of(live)
    assert get(app, "/thumbnails/0000.jpg").status == 200
    manager.image.side_effect = gone
    assert get(app, "/thumbnails/0000.jpg").status == 200
    answer = get(app, "/thumbnails/0001.jpg")
    assert answer.status == 404 and "cannot be read" in answer.error
    assert post(app, "/api/texts", texts("left")).status == 200


def test_after_the_server_has_stopped_nothing_is_begun() -> None:
    live = live_scene()
    live.stop()
    with pytest.raises(RuntimeError):
        live.model_thread.submit(print)
