"""Weights that open_clip downloads from an address: whole or not at all, and never waiting forever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features import open_clip_encoder
from genlangsplat_ns.features.settings import OpenClipSettings
from tests.utils.file_server import serving, silent_server

open_clip = pytest.importorskip("open_clip")
NAME = "tiny.pt"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder where open_clip keeps downloads."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".cache" / "clip"


def publish(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *names: {"url": url})


def test_the_file_gets_its_name_when_it_is_whole(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(b"weights") as server:
        publish(monkeypatch, server.url + NAME)
        open_clip_encoder._download_from_url(OpenClipSettings())
    assert [path.name for path in home.iterdir()] == [NAME]
    assert (home / NAME).read_bytes() == b"weights"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun"])
def test_a_silent_server_is_given_up_and_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr("genlangsplat_ns.utils.downloads.TIMEOUT", 0.3)
    with silent_server(answer) as url:
        publish(monkeypatch, url.removesuffix("file") + NAME)
        with pytest.raises(GenLangSplatError, match=r"could not be downloaded .*timed out"):
            open_clip_encoder._download_model(OpenClipSettings(), {})
    assert list(home.iterdir()) == []


def test_a_refused_connection_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_server(b"") as url:
        publish(monkeypatch, url)
    with pytest.raises(GenLangSplatError, match=r"could not be downloaded .*refused"):
        open_clip_encoder._download_model(OpenClipSettings(), {})
