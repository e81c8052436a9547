"""Downloads: whole files, interrupted ones, wrong ones, and disks that are full."""

from __future__ import annotations

import hashlib
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.downloads import download, partial_path
from tests.utils.file_server import FileServer, serving, silent_server

CONTENT = bytes(range(256)) * 40_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(CONTENT) as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "weights" / "model.pth"


def test_a_file_arrives_whole_and_alone(server: FileServer, target: Path) -> None:
    assert download(f"{server.url}model.pth", target, SHA256) == target
    assert target.read_bytes() == CONTENT
    assert server.asked == [("/model.pth", None)]
    assert list(target.parent.iterdir()) == [target]


def test_a_cut_download_continues_where_it_ended(server: FileServer, target: Path) -> None:
    server.cut_after = 3_000_001
    with pytest.raises(GenLangSplatError, match=r"was cut \(3,000,001 of 10,240,000 bytes.*continues"):
        download(server.url, target, SHA256)
    assert not target.exists()
    assert partial_path(target, SHA256).read_bytes() == CONTENT[:3_000_001]
    server.cut_after = None
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=3000001-"]


def test_an_address_that_is_none_is_named(target: Path) -> None:
    with pytest.raises(GenLangSplatError, match=r"hub/model\.pth could not be downloaded \(unknown url type"):
        download("hub/model.pth", target, SHA256)


def test_a_server_without_ranges_sends_everything_again(server: FileServer, target: Path) -> None:
    put(partial_path(target, SHA256), CONTENT[:1000])
    server.ranges = False
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT


def test_a_process_killed_before_the_check_finds_all_bytes_there(server: FileServer, target: Path) -> None:
    put(partial_path(target, SHA256), CONTENT)
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("before", [b"", b"bytes of another file", CONTENT + b"too long"])
def test_a_wrong_hash_is_named_and_nothing_of_the_file_is_kept(server: FileServer, target: Path, before: bytes) -> None:
    if before:
        put(partial_path(target, SHA256), before)
    else:
        server.content = b"<html>Log in first</html>"
    with pytest.raises(GenLangSplatError, match=rf"expected {SHA256[:12]}.*deleted.*again"):
        download(server.url, target, SHA256)
    assert not target.exists() and not partial_path(target, SHA256).exists()
    server.content = CONTENT
    assert download(server.url, target, SHA256).read_bytes() == CONTENT


def test_a_file_of_another_hash_does_not_continue_this_one(target: Path) -> None:
    assert partial_path(target, SHA256) != partial_path(target, SHA256[::-1])


def test_a_damaged_file_is_replaced_only_by_a_whole_one(server: FileServer, target: Path) -> None:
    put(target, b"damaged")
    server.cut_after = 10
    with pytest.raises(GenLangSplatError, match="cut"):
        download(server.url, target, SHA256)
    assert target.read_bytes() == b"damaged"
    server.cut_after = None
    assert download(server.url, target, SHA256).read_bytes() == CONTENT


def test_a_missing_file_and_a_missing_server_say_where_the_file_belongs(server: FileServer, target: Path) -> None:
    server.status = 404
    with pytest.raises(GenLangSplatError, match=rf"404.*{target.parent}"):
        download(f"{server.url}gone.pth", target, SHA256)
    with pytest.raises(GenLangSplatError, match=rf"refused.*{target.parent}"):
        download("http://127.0.0.1:9/model.pth", target, SHA256)
    assert not target.exists()


def test_too_little_room_is_noticed_before_the_download(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(partial_path(target, SHA256), CONTENT[:240_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=9_999_999))
    with pytest.raises(GenLangSplatError, match=r"0\.01 GB of free disk space.*10,000,000 bytes"):
        download(server.url, target, SHA256)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000_000))
    assert download(server.url, target, SHA256) == target


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device of Linux that is always full")
def test_a_disk_that_fills_up_is_an_error_of_the_disk(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    partial_path(target, SHA256).symlink_to("/dev/full")
    with pytest.raises(GenLangSplatError, match=rf"{target} cannot be written: No space left.*make room"):
        download(server.url, target, SHA256)
    assert not target.exists()


def test_a_folder_that_cannot_be_made_is_named(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GenLangSplatError, match=r"model\.pth cannot be written"):
        download(server.url, tmp_path / "file" / "model.pth", SHA256)
    assert server.asked == []


def test_two_at_once_download_once(server: FileServer, target: Path) -> None:
    with ThreadPoolExecutor(max_workers=2) as executor:
        done = list(executor.map(lambda _: download(server.url, target, SHA256), range(2)))
    assert done == [target, target] and target.read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_file_of_this_machine_is_copied_and_checked(tmp_path: Path, target: Path) -> None:
    source = put(tmp_path / "mirror" / "a model.pth", CONTENT)
    assert download(source.as_uri(), target, SHA256).read_bytes() == CONTENT
    target.unlink()
    put(source, b"another file")
    with pytest.raises(GenLangSplatError, match="another file"):
        download(source.as_uri(), target, SHA256)


def put(path: Path, content: bytes) -> Path:
    """Writes a file, and the folder for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "could not be downloaded .*timed out"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun", "was cut .*timed out"),
    ],
)
def test_a_server_that_falls_silent_is_given_up(
    target: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, sentence: str
) -> None:
    monkeypatch.setattr("genlangsplat_ns.utils.downloads.TIMEOUT", 0.3)
    with silent_server(answer) as url, pytest.raises(GenLangSplatError, match=sentence):
        download(url, target, "0" * 64)
    assert not target.exists()
    left = {path.suffix for path in target.parent.iterdir()}
    # The lock is free: its file is empty, and another process may already wait for it.
    assert left == ({".lock", ".part"} if answer else {".lock"})
    with FileLock(partial_path(target, "0" * 64).with_suffix(".lock"), timeout=0):
        pass


def test_a_refused_connection_is_told_at_once(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(GenLangSplatError, match=r"could not be downloaded .*refused"):
        download(f"http://127.0.0.1:{port}/file", target, "0" * 64)
    assert not target.exists()
