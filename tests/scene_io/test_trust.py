"""What is said about runs of others before anything in their config.yml is created."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from nerfstudio.configs.method_configs import method_configs

from genlangsplat_ns.commands.run_settings import StoredRunSettings
from genlangsplat_ns.config import gen_langsplat, gen_langsplat_lite
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io import trust
from genlangsplat_ns.scene_io.runs import read_config
from genlangsplat_ns.scene_io.trust import foreign_names, reasons_for_distrust, require_trusted

TRAP = "!!python/object/apply:os.system ['touch trap']"


def write_config(folder: Path, trap: str = "null") -> Path:
    """The config.yml of a run of splatfacto, with a value in place of its prompt."""
    path = folder / "config.yml"
    path.write_text(yaml.dump(method_configs["splatfacto"]).replace("prompt: null", f"prompt: {trap}"))
    return path


def test_runs_of_nerfstudio_and_of_this_package_name_nothing_foreign(tmp_path: Path) -> None:
    configs = [
        method_configs["splatfacto"],
        method_configs["nerfacto"],
        gen_langsplat.config,
        gen_langsplat_lite.config,
    ]
    assert [foreign_names(yaml.dump(config)) for config in configs] == [[]] * len(configs)
    require_trusted(write_config(tmp_path))


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("!!python/object/apply:os.system ['true']", "os.system"),
        ("!!python/object/apply:pathlib.Path.unlink [a]", "pathlib.Path.unlink"),
        ("!!python/object/apply:torch.hub.load [a, b]", "torch.hub.load"),
        ("!!python/object/apply:nerfstudio.utils.scripts.run_command ['true']", "nerfstudio.utils.scripts.run_command"),
        ("!!python/object/new:subprocess.Popen [['true']]", "subprocess.Popen"),
        ("!!python/object:builtins.Exception {}", "builtins.Exception"),
        ("!!python/name:eval ''", "eval"),
        ("!!python/module:os ''", "os"),
        ("!<tag:yaml.org,2002:python/object/apply:os.system> ['true']", "os.system"),
    ],
)
def test_what_a_config_would_run_is_named_and_not_run(tmp_path: Path, tag: str, name: str) -> None:
    (reason,) = reasons_for_distrust(write_config(tmp_path, tag))
    assert reason == f"its config.yml names {name}, which opening it would run"


def test_a_prefix_of_a_tag_hides_nothing() -> None:
    assert foreign_names("%TAG !p! tag:yaml.org,2002:python/object/apply:\n---\na: !p!os.system [b]\n") == ["os.system"]


def test_the_files_of_another_user_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(tmp_path)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    found = reasons_for_distrust(path)
    # What the administrator owns is trusted.
    assert found == [] if owner == 0 else "not to you" in found[0]


def test_a_folder_of_neither_this_user_nor_the_administrator_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, stat = write_config(tmp_path), Path.stat

    def of_another(self: Path, **options: bool) -> object:
        found = stat(self, **options)
        return SimpleNamespace(st_uid=54_321, st_size=found.st_size, st_mode=found.st_mode)

    monkeypatch.setattr(Path, "stat", of_another)
    (reason,) = reasons_for_distrust(path)
    assert reason == f"{tmp_path} belongs to the user with the number 54321, not to you"


def test_safe_commands_refuse_a_run_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_config(tmp_path, TRAP)
    with pytest.raises(GenLangSplatError, match=r"refused by --safe: its config.yml names os\.system"):
        StoredRunSettings(load_config=path, safe=True)
    assert not (tmp_path / "trap").exists()
    assert StoredRunSettings(load_config=write_config(tmp_path), safe=True).safe


def test_reading_a_config_warns_of_what_it_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_config(tmp_path, "!!python/object/apply:os.path.basename ['a/b']")
    for _ in range(2):
        read_config(path)
    warnings = [record.getMessage() for record in caplog.records if "may run code of others" in record.getMessage()]
    assert len(warnings) == 1 and "names os.path.basename" in warnings[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "is no YAML"),
        (b"[" * 20_000, "more than 100 lists in each other"),
        (b"\xff\xfe\xfa", "cannot be read"),
    ],
)
def test_a_file_that_is_no_yaml_is_reported(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "config.yml").write_bytes(content)
    with pytest.raises(GenLangSplatError, match=message):
        reasons_for_distrust(tmp_path / "config.yml")


def test_a_far_too_large_file_is_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_bytes(b"#" * (trust.MAX_BYTES + 1))
    with pytest.raises(GenLangSplatError, match="that ns-train wrote, of at most"):
        reasons_for_distrust(tmp_path / "config.yml")
