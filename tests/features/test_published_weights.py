"""Published weights: what is on this machine, and fetching from the network or from a mirror."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from open_clip import get_pretrained_cfg

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features import published_weights as published
from genlangsplat_ns.features.open_clip_encoder import find_weights
from genlangsplat_ns.features.published_weights import fetch_weights, published_weights, source_of, weights_mirror
from genlangsplat_ns.features.sam_weights import (
    OFFICIAL_CHECKPOINTS,
    OfficialCheckpoint,
    find_checkpoint,
    weights_folder,
)
from genlangsplat_ns.features.settings import OpenClipSettings, SamSettings
from tests.end_to_end.commands import gen_langsplat
from tests.utils.file_server import FileServer, serving

CONTENT = b"the weights of a model" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CLIP = "open_clip_model.safetensors"
SAM = "sam_vit_h_4b8939.pth"


@pytest.fixture
def server(monkeypatch, empty_machine, tmp_path) -> Iterator[FileServer]:
    """A server that plays Meta's and the hub, with small files that take the place of the published ones."""
    with serving(CONTENT) as server:
        monkeypatch.setitem(OFFICIAL_CHECKPOINTS, "vit_h", OfficialCheckpoint(SAM, SHA256, 0.01, server.url))
        monkeypatch.setattr(published, "CLIP_FILES", {CLIP: SHA256, "open_clip_pytorch_model.bin": "0" * 64})
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url.rstrip("/"))
        monkeypatch.delenv(published.MIRROR_VARIABLE, raising=False)
        yield server


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def found_by_the_models() -> list[Path | None]:
    """What masks and encoder take."""
    return [find_checkpoint(SamSettings()), find_weights(OpenClipSettings())]


# The functions


def test_the_clip_file_is_that_of_the_default_settings():
    settings = OpenClipSettings()
    entry = get_pretrained_cfg(settings.model, settings.weights)["hf_hub"]
    assert entry.strip("/") == published.CLIP_REPOSITORY
    assert published_weights("openclip").url == (
        f"https://huggingface.co/{published.CLIP_REPOSITORY}/resolve/{published.CLIP_REVISION}/{CLIP}"
    )


def test_fetched_files_are_those_that_masks_and_encoder_take(server):
    assert found_by_the_models() == [None, None]
    paths = [fetch_weights(published_weights(name)) for name in ("sam", "openclip")]
    assert found_by_the_models() == paths
    assert paths[0] == weights_folder() / SAM
    assert [path for path, _ in server.asked] == [
        f"/{SAM}",
        f"/{published.CLIP_REPOSITORY}/resolve/{published.CLIP_REVISION}/{CLIP}",
    ]


def test_files_that_are_there_are_not_fetched_again(server):
    for name in ("sam", "openclip"):
        fetch_weights(published_weights(name))
    server.asked.clear()
    for name in ("sam", "openclip"):
        weights = published_weights(name)
        assert weights.is_whole
        assert fetch_weights(weights) == weights.found
    assert server.asked == []


def test_clip_joins_the_revision_that_the_cache_of_the_hub_takes(server, tmp_path):
    folder = tmp_path / "hub-cache" / "models--laion--CLIP-ViT-B-16-laion2B-s34B-b88K"
    put(folder / "refs" / "main", b"abc")
    put(folder / ".no_exist" / "abc" / CLIP, b"")
    path = fetch_weights(published_weights("openclip"))
    assert path == folder / "snapshots" / "abc" / CLIP
    assert find_weights(OpenClipSettings()) == path
    assert (folder / "refs" / "main").read_bytes() == b"abc"


def test_damaged_files_are_told_and_replaced(server, tmp_path):
    of_torch = put(tmp_path / "hub" / "checkpoints" / SAM, b"damaged")
    weights = published_weights("sam")
    assert weights.found == of_torch and not weights.is_whole
    assert fetch_weights(weights).read_bytes() == CONTENT
    assert published_weights("sam").is_whole and of_torch.read_bytes() == b"damaged"


def test_each_file_of_clip_has_its_own_hash(server, monkeypatch):
    other = b"the same weights, pickled"
    monkeypatch.setattr(
        published, "CLIP_FILES", {CLIP: SHA256, "open_clip_pytorch_model.bin": hashlib.sha256(other).hexdigest()}
    )
    folder = published_weights("openclip").target.parent
    put(folder.parents[1] / "refs" / "main", folder.name.encode())
    put(folder / "open_clip_pytorch_model.bin", other)
    assert published_weights("openclip").is_whole
    put(folder / "open_clip_pytorch_model.bin", CONTENT)
    assert not published_weights("openclip").is_whole


def test_an_interrupted_download_is_seen(server):
    server.cut_after = 1000
    with pytest.raises(GenLangSplatError, match="cut"):
        fetch_weights(published_weights("sam"))
    assert published_weights("sam").received == 1000
    assert published_weights("openclip").received == 0


def test_a_mirror_replaces_the_network(server, tmp_path, monkeypatch):
    mirror = put(tmp_path / "mirror" / SAM).parent
    assert fetch_weights(published_weights("sam"), weights_mirror(mirror)) == weights_folder() / SAM
    with pytest.raises(GenLangSplatError, match=rf"mirror has no {CLIP}.*from {server.url}.*--mirror"):
        fetch_weights(published_weights("openclip"), weights_mirror(mirror))
    monkeypatch.setenv(published.MIRROR_VARIABLE, str(mirror))
    put(mirror / CLIP)
    assert source_of(published_weights("openclip"), weights_mirror()).startswith("file://")
    fetch_weights(published_weights("openclip"), weights_mirror())
    assert None not in found_by_the_models()
    assert server.asked == []


def test_a_mirror_that_is_no_folder_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv(published.MIRROR_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(GenLangSplatError, match=rf"gone is not a folder.*{published.MIRROR_VARIABLE}"):
        weights_mirror()


def test_an_unknown_model_of_sam_is_answered_with_the_known_ones():
    with pytest.raises(GenLangSplatError, match=r"'vit_x'.*vit_h, vit_l, vit_b"):
        published_weights("sam", "vit_x")


# The command


@pytest.fixture
def words(capsys):
    """Runs the command, and returns what it printed without line breaks."""

    def run(*arguments: str | Path, expect: int = 0) -> str:
        gen_langsplat("fetch-weights", *arguments, expect=expect)
        return " ".join(capsys.readouterr().out.split())

    return run


class Terminal:
    """An input at which somebody answers."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    def isatty(self) -> bool:
        return True

    def readline(self, *_: int) -> str:
        return f"{self._answer}\n"


def test_the_command_shows_sizes_and_places_and_asks(server, words, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal("n"))
    shown = words()
    for part in ("SAM vit_h", "0.01", "missing", str(weights_folder() / SAM), f"{server.url}{SAM}", "Fetch 0.61 GB?"):
        assert part in shown
    assert "Nothing was fetched." in shown and server.asked == [] and found_by_the_models() == [None, None]
    monkeypatch.setattr(sys, "stdin", Terminal("y"))
    assert str(weights_folder() / SAM) in words("sam")
    assert [path for path, _ in server.asked] == [f"/{SAM}"]


def test_without_a_terminal_the_command_needs_yes(server, words, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal("y"))
    monkeypatch.setattr(Terminal, "isatty", lambda self: False)
    assert "Add --yes." in words("sam", expect=1)
    assert server.asked == []
    words("--yes")
    assert None not in found_by_the_models()
    shown = words()
    assert shown.count("is there") == 2 and "All of them are on this machine" in shown


def test_the_command_continues_and_tells_damage(server, words):
    put(weights_folder() / SAM, b"damaged")
    server.cut_after = 11_000
    assert "continues from there" in words("sam", "--yes", expect=1)
    server.cut_after = None
    shown = words("sam", "--yes")
    assert "damaged" in shown and "0.00 GB of it received" in shown
    assert server.asked[-1] == (f"/{SAM}", "bytes=11000-")
    assert published_weights("sam").is_whole


def test_a_mirror_is_named_before_the_question(server, words, tmp_path):
    mirror = put(tmp_path / "mirror" / SAM).parent
    assert (mirror / SAM).as_uri() in words("sam", "--mirror", mirror, "--yes")
    assert published_weights("sam").is_whole and server.asked == []
