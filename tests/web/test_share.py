"""Shared pages: complete, small, inert, and written as a whole or not at all."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.scene_io.splat_files import read_splats
from genlangsplat_ns.web.protocol import unpack
from genlangsplat_ns.web.settings import ShareSettings
from genlangsplat_ns.web.share import SharedPage, check_shared_folder, make_shared_page, vocabulary_query
from tests.scene.language_scenes import NUM_GAUSSIANS
from tests.web.pages import built_page, page_scene

HOSTILE = "</script><script>alert(1)</script>\"'<!--&amp;"


def shared(
    tmp_path: Path, texts: tuple[str, ...] = ("left", "right"), name: str = "clouds", **settings: Any
) -> SharedPage:
    """A shared page of the two clouds."""
    page = built_page(tmp_path / "page", "const end = '</script><!-- </SCRIPT>';")
    return make_shared_page(
        page_scene(name, sh_degree=2), TextQuery(texts), settings=ShareSettings(**settings), page_folder=page
    )


def scores_of(page: SharedPage) -> dict[str, np.ndarray]:
    """The relevancy of each text of a page."""
    found = {}
    for answer in json.loads(page.files["scene.json"])["answers"]:
        kind, (scores,) = unpack(gzip.decompress(page.files[answer["file"]]))
        assert kind == "relevancy" and scores.text == answer["text"]
        found[answer["text"]] = np.nan_to_num(scores.values()[0])
    return found


def gaussians_of(page: SharedPage, folder: Path) -> Any:
    """The Gaussians of a page."""
    (folder / "read.spz").write_bytes(page.files["scene.spz"])
    return read_splats(folder / "read.spz").gaussians


class Elements(HTMLParser):
    """The scripts, styles and data of a page, as a browser sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.data: dict[str, str] = {}
        self.style = self.policy = ""
        self.tags: list[str] = []
        self._open: tuple[str, dict[str, str | None]] = ("", {})
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open = tag, dict(attrs)
        if self._open[1].get("http-equiv") == "Content-Security-Policy":
            self.policy = str(self._open[1]["content"])

    def handle_endtag(self, tag: str) -> None:
        self._open = ("", {})

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open
        if tag == "style":
            self.style += data
        elif tag == "script" and "data-file" in attributes:
            self.data[str(attributes["data-file"])] = data
        elif tag == "script":
            self.scripts.append(data)


def test_the_scores_are_in_the_order_of_the_splats(tmp_path: Path) -> None:
    page = shared(tmp_path)
    left = gaussians_of(page, tmp_path).means[:, 0].numpy() < 0
    scores = scores_of(page)
    assert list(scores) == ["left", "right"] and len(left) == NUM_GAUSSIANS
    seen = scores["left"] > 0
    assert scores["left"][left & seen].mean() > 0.8 > 0.5 > scores["left"][~left].mean()
    assert scores["right"][~left & seen].mean() > 0.8 > 0.5 > scores["right"][left].mean()


def test_the_page_needs_no_server_and_names_no_other_file(tmp_path: Path) -> None:
    page = shared(tmp_path)
    document = json.loads(page.files["scene.json"])
    named = {document["splats"]["file"], *(answer["file"] for answer in document["answers"])}
    assert not document["live"]
    assert set(page.files) == {"index.html", "app.js", "style.css", "licenses.txt", "scene.json", *named}


def test_thinning_and_harmonics_make_the_page_smaller(tmp_path: Path) -> None:
    whole, thinned = shared(tmp_path, sh_degree=2), shared(tmp_path, sh_degree=0, max_gaussians=200)
    assert gaussians_of(whole, tmp_path).sh_degree == 2
    few = gaussians_of(thinned, tmp_path)
    assert len(few) == 200 and few.sh_degree == 0
    assert {len(scores) for scores in scores_of(thinned).values()} == {200}
    assert thinned.sizes()["splats"] < whole.sizes()["splats"] / 3


def test_pictures_of_the_photographs_are_written_only_on_demand(tmp_path: Path) -> None:
    assert not [name for name in shared(tmp_path).files if name.endswith(".jpg")]
    page = shared(tmp_path, photographs=True)
    views = json.loads(page.files["scene.json"])["views"]
    assert all(page.files[view["thumbnail"]].startswith(b"\xff\xd8") for view in views) and len(views) == 2


def test_a_vocabulary_is_listed_apart_and_without_what_is_asked_already(tmp_path: Path) -> None:
    texts = TextQuery(("left",))
    words = vocabulary_query(("a", "Left", "object", "b"), texts)
    assert words.texts == ("a", "b")
    page = make_shared_page(page_scene(), texts, words, page_folder=built_page(tmp_path / "page"))
    answers = json.loads(page.files["scene.json"])["answers"]
    assert [(each["text"], each["list"]) for each in answers] == [
        ("left", "texts"),
        ("a", "vocabulary"),
        ("b", "vocabulary"),
    ]
    with pytest.raises(GenLangSplatError, match="no word"):
        vocabulary_query(("left", "things"), texts)


def test_the_sizes_said_before_are_those_on_disk(tmp_path: Path) -> None:
    for page, folder in ((shared(tmp_path), "folder"), (shared(tmp_path).single_file(), "single")):
        page.write(tmp_path / folder)
        written = sum(path.stat().st_size for path in (tmp_path / folder).rglob("*") if path.is_file())
        assert written == sum(page.sizes().values())


def test_one_file_has_every_file_of_the_folder(tmp_path: Path) -> None:
    page = shared(tmp_path, photographs=True)
    (name, html) = next(iter(page.single_file().files.items()))
    found = Elements(html.decode())
    assert name == "clouds.html" and "link" not in found.tags
    assert json.loads(found.data["scene.json"]) == json.loads(page.files["scene.json"])
    others = {name: data for name, data in page.files.items() if not name.endswith((".html", ".js", ".css", ".json"))}
    assert {name: base64.b64decode(text) for name, text in found.data.items() if name != "scene.json"} == others


def test_the_policy_of_one_file_allows_its_own_script_and_style_alone(tmp_path: Path) -> None:
    found = Elements(next(iter(shared(tmp_path).single_file().files.values())).decode())
    (script,) = found.scripts

    def named(text: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert f"script-src '{named(script)}';" in found.policy
    assert f"style-src '{named(found.style)}';" in found.policy
    assert "unsafe" not in found.policy and "default-src 'none'" in found.policy
    # What would end the script or hide its end is written in another way.
    assert not re.search("</script|<!--", script, re.IGNORECASE) and "const end" in script


def test_the_folder_has_a_policy_without_inline_scripts(tmp_path: Path) -> None:
    found = Elements(shared(tmp_path).files["index.html"].decode())
    assert "script-src 'self';" in found.policy and "unsafe" not in found.policy


def test_scripts_in_texts_and_in_the_name_of_the_scene_stay_text(tmp_path: Path) -> None:
    page = shared(tmp_path, texts=(HOSTILE,), name=HOSTILE.replace("/", "_"))
    (name, html) = next(iter(page.single_file().files.items()))
    found = Elements(html.decode())
    assert len(found.scripts) == 1 and "alert" not in found.scripts[0]
    document = json.loads(found.data["scene.json"])
    assert document["answers"][0]["text"] == HOSTILE and document["name"] == HOSTILE.replace("/", "_")
    assert html.decode().count("<script>") == 1 and "<!--&" not in html.decode()
    assert re.fullmatch(r"[\w-]+\.html", name)
    assert list(page.files) == [file for file in page.files if re.fullmatch(r"[\w./-]+", file)]


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, target = shared(tmp_path), tmp_path / "out"

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            page.write(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page"]
    page.write(target)
    with pytest.raises(GenLangSplatError, match="--overwrite"):
        page.write(target)
    (target / "scores" / "9.bin").write_bytes(b"old")
    page.write(target, overwrite=True)
    assert not (target / "scores" / "9.bin").exists()


def test_a_folder_with_anything_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(GenLangSplatError, match=r"thesis\.tex"):
        check_shared_folder(tmp_path, overwrite=True)
    with pytest.raises(GenLangSplatError, match="is a file"):
        check_shared_folder(tmp_path / "thesis.tex", overwrite=True)
    check_shared_folder(tmp_path / "new", overwrite=False)


@pytest.mark.parametrize("names", [("index.html",), ("index.html", "app.js", "style.css"), ("scene.json",)])
def test_somebody_elses_page_is_never_replaced(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(GenLangSplatError, match=names[-1]):
        check_shared_folder(tmp_path, overwrite=True)


def test_a_page_in_one_file_replaces_an_earlier_one(tmp_path: Path) -> None:
    page, target = shared(tmp_path).single_file(), tmp_path / "mail"
    page.write(target)
    page.write(target, overwrite=True)
    assert [path.name for path in target.iterdir()] == ["clouds.html"]
    (target / "notes.txt").write_text("mine")
    with pytest.raises(GenLangSplatError, match="gen-langsplat share"):
        page.write(target, overwrite=True)


def test_a_clone_without_the_built_page_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="make page"):
        make_shared_page(page_scene(), TextQuery(("left",)), page_folder=tmp_path)


def test_a_page_of_another_shape_is_refused(tmp_path: Path) -> None:
    page = built_page(tmp_path / "page")
    (page / "index.html").write_text("<html><head></head><body></body></html>")
    with pytest.raises(GenLangSplatError, match=r"style\.css"):
        make_shared_page(page_scene(), TextQuery(("left",)), page_folder=page)


@pytest.mark.parametrize("settings", [{"max_gaussians": 0}, {"sh_degree": 4}, {"sh_degree": -1}])
def test_bad_settings_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(GenLangSplatError, match="Found"):
        ShareSettings(**settings)  # type: ignore[arg-type]
