"""File names, and checks of files before long work."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils import unfinished
from genlangsplat_ns.utils.files import (
    atomic_folder,
    atomic_path,
    check_new_file,
    check_new_folder,
    is_file,
    safe_name,
    write_state,
    write_tensors,
)


def test_files_of_tensors_have_the_permissions_of_other_files(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)}, {"b": "c"})
    (tmp_path / "other").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert load_file(tmp_path / "x.safetensors")["a"].tolist() == [1, 1]


def test_equal_tensors_and_metadata_give_equal_files_in_every_process(tmp_path: Path) -> None:
    """safetensors itself writes the metadata in an order that differs between processes."""
    code = (
        "import sys, torch; from pathlib import Path; from genlangsplat_ns.utils.files import write_tensors\n"
        "write_tensors(Path(sys.argv[1]), {'b': torch.ones(3), 'a': torch.arange(2)}, dict.fromkeys('qwertz', 'ü'))"
    )
    for number in range(3):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / f"{number}.safetensors")], check=True)
    contents = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == 1
    found = load_file(tmp_path / "0.safetensors")
    assert found["a"].tolist() == [0, 1] and found["b"].tolist() == [1, 1, 1]
    with safe_open(tmp_path / "0.safetensors", "pt") as file:
        assert file.metadata() == dict.fromkeys("qwertz", "ü")


def test_a_new_file_gets_its_folder(tmp_path: Path) -> None:
    check_new_file(tmp_path / "deep" / "down" / "x.json", overwrite=False)
    assert (tmp_path / "deep" / "down").is_dir()


def test_an_existing_file_needs_leave_to_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.json").touch()
    check_new_file(tmp_path / "x.json", overwrite=True)
    with pytest.raises(GenLangSplatError, match="--overwrite"):
        check_new_file(tmp_path / "x.json", overwrite=False)


def test_a_folder_without_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *arguments: False)
    with pytest.raises(GenLangSplatError, match="no permission"):
        check_new_file(tmp_path / "x.json", overwrite=False)


@pytest.mark.parametrize(
    ("text", "short", "kept"),
    [
        ("A red Café, please!", "a-red-café-please", "A_red_Caf_please_"),
        (".hidden v1.2", "hidden-v1-2", "hidden_v1.2"),
        ("frame_00001", "frame_00001", "frame_00001"),
        ("../..", "text", "_.."),
        ("", "text", "_"),
        ("x" * 50, "x" * 40, "x" * 50),
    ],
)
def test_names_become_parts_of_file_names(text: str, short: str, kept: str) -> None:
    assert safe_name(text) == short
    assert safe_name(text, keep_case=True) == kept


@pytest.mark.parametrize("at_once", [True, False])
def test_a_folder_is_replaced_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    """At once as on Linux, and by renames as elsewhere."""
    if not at_once:
        monkeypatch.setattr(unfinished, "exchange_at_once", lambda *names: False)
    folder = tmp_path / "run"
    with atomic_folder(folder) as new:
        (new / "old").touch()
    with pytest.raises(GenLangSplatError, match="--overwrite"):
        check_new_folder(folder, overwrite=False)
    with atomic_folder(folder, overwrite=True) as new:
        (new / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    rename = Path.rename

    def fail_once(self: Path, target: Path) -> Path:
        if target == folder and (self / "newer").exists():
            raise OSError("no space")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    monkeypatch.setattr(unfinished, "exchange_at_once", lambda *names: False)
    with pytest.raises(OSError, match="no space"), atomic_folder(folder, overwrite=True) as new:
        (new / "newer").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and (folder / "new").exists()


def test_a_file_appears_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.json"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "whole" and [found.name for found in path.parent.iterdir()] == ["x.json"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("make", [atomic_path, atomic_folder])
def test_a_full_disk_is_told_with_the_name_that_was_asked_for(tmp_path: Path, make: Any) -> None:
    with pytest.raises(OSError, match="No space left") as full, make(tmp_path / "x.ply"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(tmp_path / "x.ply")
    with pytest.raises(FileNotFoundError) as other, make(tmp_path / "x.ply"):
        (tmp_path / "source").read_bytes()
    assert other.value.filename == str(tmp_path / "source")


def test_data_are_on_the_disk_before_they_get_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    with atomic_path(tmp_path / "x.json") as temporary:
        temporary.write_text("whole")
    assert calls == ["fsync", "replace"]


WRITER = """
import sys, time
from pathlib import Path
from genlangsplat_ns.utils.files import atomic_folder, atomic_path
make = atomic_folder if sys.argv[2] == "folder" else atomic_path
with make(Path(sys.argv[1])) as temporary:
    (temporary / "x" if sys.argv[2] == "folder" else temporary).write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_kept(tmp_path: Path, kind: str) -> None:
    words = [sys.executable, "-c", WRITER, str(tmp_path / "x.json"), kind]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"writing\n"
        unfinished.remove_abandoned(tmp_path)
        (left,) = tmp_path.iterdir()
        process.kill()
        process.wait()
        (tmp_path / ".x-0123abcd.json").touch()
        unfinished.remove_abandoned(tmp_path)
    assert not left.exists() and [path.name for path in tmp_path.iterdir()] == [".x-0123abcd.json"]


def test_a_full_disk_is_told_by_files_of_torch(tmp_path: Path) -> None:
    """torch itself only says that its writer failed."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match="File too large"):
            write_state(tmp_path / "x.ckpt", {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    write_state(tmp_path / "x.ckpt", {"weights": torch.ones(3)})
    assert torch.load(tmp_path / "x.ckpt", weights_only=True)["weights"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "missing", "."])
def test_names_that_no_file_has_are_no_files(tmp_path: Path, name: str) -> None:
    assert not is_file(tmp_path / name)
    (tmp_path / "there").touch()
    assert is_file(tmp_path / "there")
