"""File names, and checks of files before long work."""

from __future__ import annotations

from pathlib import Path

import pytest

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.files import check_new_file, safe_name


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
