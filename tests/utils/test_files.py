"""File names, and checks of files before long work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.files import atomic_folder, check_new_file, check_new_folder, safe_name, write_tensors


def test_files_of_tensors_have_the_permissions_of_other_files(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)}, {"b": "c"})
    (tmp_path / "other").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert load_file(tmp_path / "x.safetensors")["a"].tolist() == [1, 1]


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


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        if target == folder and self.name != "run" and (self / "newer").exists():
            raise OSError("no space")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(OSError, match="no space"), atomic_folder(folder, overwrite=True) as new:
        (new / "newer").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and (folder / "new").exists()
