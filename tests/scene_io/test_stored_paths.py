"""Paths in config.yml from other machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io import stored_paths
from genlangsplat_ns.scene_io.stored_paths import (
    allow_paths_of_other_systems,
    find_moved,
    nerfstudio_command,
    opened_config,
)

RUN = Path("outputs", "fox", "gen-langsplat", "now")


@pytest.mark.parametrize("loader", [yaml.Loader, yaml.UnsafeLoader])
@pytest.mark.parametrize(
    ("tag", "parts", "expected"),
    [
        ("pathlib.PosixPath", ["/", "data", "fox"], "/data/fox"),
        ("pathlib.PosixPath", [], "."),
        ("pathlib._local.PosixPath", ["/data/fox"], "/data/fox"),
        ("pathlib.WindowsPath", ["data", "fox"], "data/fox"),
        ("pathlib._local.WindowsPath", ["data\\fox"], "data/fox"),
        ("pathlib.WindowsPath", ["C:\\", "Users", "me", "fox"], "C:/Users/me/fox"),
        ("pathlib.PureWindowsPath", ["D:\\", "fox"], "D:/fox"),
        ("pathlib.WindowsPath", ["\\\\server\\share\\", "fox"], "//server/share/fox"),
    ],
)
def test_paths_of_every_system_become_paths_of_this_one(loader: type, tag: str, parts: list, expected: str) -> None:
    allow_paths_of_other_systems()
    text = f"!!python/object/apply:{tag} {json.dumps(parts)}"
    assert yaml.load(text, Loader=loader) == Path(expected)


@pytest.mark.parametrize("value", ["3", "{args: [a]}"])
def test_a_path_without_parts_is_a_yaml_error(value: str) -> None:
    allow_paths_of_other_systems()
    with pytest.raises(yaml.YAMLError, match="parts"):
        yaml.load(f"!!python/object/apply:pathlib.PosixPath {value}", Loader=yaml.Loader)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("/bin/ns-eval --load-config RUN/config.yml", "RUN/config.yml"),
        ("ns-viewer.exe --viewer.websocket-port 7007 --load-config=RUN/config.yml", "RUN/config.yml"),
        ("ns-render dataset --load_config RUN/config.yml --split test", "RUN/config.yml"),
        ("/lib/nerfstudio/scripts/eval.py --load-config RUN/config.yml", "RUN/config.yml"),
        ("ns-eval --output-path x.json", None),
        ("ns-eval --load-config", None),
        ("ns-train gen-langsplat --load-config RUN/config.yml", None),
        ("/lib/nerfstudio/scripts/train.py gen-langsplat --load-config RUN/config.yml", None),
        ("gen-langsplat query --load-config RUN/config.yml", None),
        ("", None),
    ],
)
def test_the_config_on_the_command_line_of_nerfstudio(words: str, expected: str | None) -> None:
    assert opened_config(words.split()) == (None if expected is None else Path(expected))


def test_the_names_of_nerfstudio_commands() -> None:
    assert nerfstudio_command(["/bin/ns-viewer"]) == "viewer"
    assert nerfstudio_command(["/lib/nerfstudio/scripts/viewer/run_viewer.py"]) == "viewer"
    assert nerfstudio_command(["pytest"]) is None


def folders(root: Path, *names: str | Path) -> None:
    for name in names:
        (root / name).mkdir(parents=True)


def test_data_are_where_the_path_leads_from_the_folder_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders(tmp_path, "project/data", "other/data", "project" / RUN)
    monkeypatch.chdir(tmp_path / "other")
    assert find_moved(Path("data"), tmp_path / "project" / RUN, RUN) == tmp_path / "project" / "data"


def test_data_stay_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path, "project/data", "best", "data")
    monkeypatch.chdir(tmp_path / "project")
    assert find_moved(Path("data"), tmp_path / "best", RUN) == Path("data")


def test_data_are_found_in_a_folder_around_a_renamed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path, "project/data/fox", "project/models/best", "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = tmp_path / "project" / "models" / "best"
    assert find_moved(Path("data/fox"), run, RUN) == tmp_path / "project" / "data" / "fox"


def test_a_folder_of_runs_is_not_taken_for_data_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders(tmp_path, "outputs/fox/gen-langsplat/best", "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = tmp_path / "outputs" / "fox" / "gen-langsplat" / "best"
    assert find_moved(Path("fox"), run, RUN) == Path("fox")


def test_data_far_above_the_run_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path, "data", "1/2/3/4/near", "1/2/3/4/5/far", "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_moved(Path("data"), tmp_path / "1/2/3/4/near", RUN) == tmp_path / "data"
    assert find_moved(Path("data"), tmp_path / "1/2/3/4/5/far", RUN) == Path("data")


def test_several_folders_are_ambiguous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path, "data", "project/data", "project/best", "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(GenLangSplatError, match=r"several: .*project/data, .*--data"):
        find_moved(Path("data"), tmp_path / "project" / "best", RUN)


def test_an_absolute_path_is_not_searched_for(tmp_path: Path) -> None:
    folders(tmp_path, "data", "best")
    assert find_moved(Path("/nowhere/data"), tmp_path / "best", RUN) == Path("/nowhere/data")


def test_files_of_other_users_count_as_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    assert not stored_paths.exists(tmp_path)
