"""What a wheel and an sdist must contain, and must not."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from release import check_distributions
from release.check_distributions import DATA, ENTRY_POINTS, MODULES, SOURCES, main, sdist_faults, wheel_faults
from tests.release.project import ROOT, project

INFO = "genlangsplat_ns-1.0.dist-info/"

KERNELS = [f"genlangsplat_ns/rasterization/_kernels_{name}.cpython-311.so" for name in ("avx512", "avx2", "baseline")]

WHEEL = [*DATA, *MODULES, *KERNELS, f"{INFO}METADATA", f"{INFO}entry_points.txt", f"{INFO}licenses/LICENSE"]


def write_wheel(folder: Path, names: Iterable[str], points: str = "\n".join(ENTRY_POINTS), tag: str = "x86_64") -> Path:
    path = folder / f"genlangsplat_ns-1.0-cp311-cp311-linux_{tag}.whl"
    contents = {f"{INFO}METADATA": "Name: genlangsplat-ns\nVersion: 1.0\n", f"{INFO}entry_points.txt": points}
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, contents.get(name, "x"))
    return path


def write_sdist(folder: Path, names: Iterable[str]) -> Path:
    (folder / "x").write_text("x")
    path = folder / "genlangsplat_ns-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.add(folder / "x", f"genlangsplat_ns-1.0/{name}")
    return path


def test_a_complete_wheel_has_no_faults(tmp_path: Path) -> None:
    assert list(wheel_faults(write_wheel(tmp_path, WHEEL))) == []
    assert main([tmp_path / "genlangsplat_ns-1.0-cp311-cp311-linux_x86_64.whl"]) == 0


@pytest.mark.parametrize("name", [*DATA, *MODULES, *KERNELS, f"{INFO}licenses/LICENSE"])
def test_every_part_of_a_wheel_is_missed(tmp_path: Path, name: str) -> None:
    (fault,) = wheel_faults(write_wheel(tmp_path, set(WHEEL) - {name}))
    assert "missing" in fault
    assert main([tmp_path / "genlangsplat_ns-1.0-cp311-cp311-linux_x86_64.whl"]) == 1


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("tests/test_a.py", "does not belong"),
        ("genlangsplat_ns/tests/test_a.py", "nothing needs it"),
        ("genlangsplat_ns/rasterization/kernels/kernels.cpp", "nothing needs it"),
        ("genlangsplat_ns-2.0.dist-info/METADATA", "2 folders of metadata"),
    ],
)
def test_what_does_not_belong_into_a_wheel_is_named(tmp_path: Path, name: str, fault: str) -> None:
    (found,) = wheel_faults(write_wheel(tmp_path, [*WHEEL, name]))
    assert fault in found


@pytest.mark.parametrize("point", ENTRY_POINTS)
def test_missing_entry_points_are_named(tmp_path: Path, point: str) -> None:
    points = "\n".join(each for each in ENTRY_POINTS if each != point)
    (fault,) = wheel_faults(write_wheel(tmp_path, WHEEL, points))
    assert f"entry point {point.split(' = ')[0].split()[-1]} is missing" in fault


def test_a_name_with_another_version_is_a_fault(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, WHEEL).rename(tmp_path / "genlangsplat_ns-1.1-cp311-cp311-linux_x86_64.whl")
    assert list(wheel_faults(path)) == ["the version in its metadata is not the 1.1 of its name"]


def test_other_processors_have_one_build_of_the_kernels(tmp_path: Path) -> None:
    assert list(wheel_faults(write_wheel(tmp_path, set(WHEEL) - set(KERNELS[:2]), tag="aarch64"))) == []


def test_the_size_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_distributions, "WHEEL_MEGABYTES", 0.0)
    monkeypatch.setattr(check_distributions, "SDIST_MEGABYTES", 0.0)
    for faults in (wheel_faults(write_wheel(tmp_path, WHEEL)), sdist_faults(write_sdist(tmp_path, SDIST))):
        assert [fault for fault in faults if "expected at most 0.0" in fault]


SDIST = [*DATA, *MODULES, *SOURCES]


def test_a_complete_sdist_has_no_faults(tmp_path: Path) -> None:
    assert list(sdist_faults(write_sdist(tmp_path, SDIST))) == []


@pytest.mark.parametrize("name", SDIST)
def test_every_part_of_an_sdist_is_missed(tmp_path: Path, name: str) -> None:
    assert list(sdist_faults(write_sdist(tmp_path, set(SDIST) - {name}))) == [f"{name} is missing"]


@pytest.mark.parametrize("name", ["tests/test_a.py", "genlangsplat_ns/rasterization/_kernels_avx2.cpython-311.so"])
def test_what_does_not_belong_into_an_sdist_is_named(tmp_path: Path, name: str) -> None:
    (fault,) = sdist_faults(write_sdist(tmp_path, [*SDIST, name]))
    assert fault.startswith(f"{name} is in it")


def test_distributions_without_a_wheel_are_refused(tmp_path: Path) -> None:
    assert main([write_sdist(tmp_path, SDIST)]) == 1


def test_what_is_expected_exists_in_this_project() -> None:
    assert [name for name in (*DATA, *MODULES, *SOURCES) if not (ROOT / name).is_file()] == []
    points = project()["scripts"] | project()["entry-points"]["nerfstudio.method_configs"]
    expected = "\n".join(ENTRY_POINTS)
    assert [name for name, target in points.items() if f"\n{name} = {target}" not in expected] == []
