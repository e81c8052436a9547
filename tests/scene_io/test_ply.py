"""Reading and writing Gaussians in PLY files."""

from __future__ import annotations

import importlib
import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import plyfile
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.ply import read_offset, read_ply, write_ply
from tests.scene_io.gaussian_fakes import make_gaussians, same_bits

REQUIRED = [
    *("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
]


def write_columns(path: Path, columns: dict[str, Any], text: bool = False, byte_order: str = "<") -> Path:
    """Writes a PLY file with the given columns; each has the type of its array."""
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    rows = np.zeros(len(next(iter(arrays.values()))), dtype=[(name, a.dtype.str) for name, a in arrays.items()])
    for name, values in arrays.items():
        rows[name] = values
    vertices = plyfile.PlyElement.describe(rows, "vertex")
    plyfile.PlyData([vertices], text=text, byte_order="=" if text else byte_order).write(str(path))
    return path


def columns_of(degree: int, count: int = 5, **changes: Any) -> dict[str, Any]:
    """The columns of a valid file, with changes; None removes a column."""
    names = [*REQUIRED, *(f"f_rest_{number}" for number in range(3 * ((degree + 1) ** 2 - 1)))]
    values = np.random.default_rng(0).standard_normal((len(names), count)).astype(np.float32)
    columns = {**dict(zip(names, values, strict=True)), **changes}
    return {name: column for name, column in columns.items() if column is not None}


@given(count=st.integers(1, 40), degree=st.integers(0, 3), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_written_gaussians_are_read_back_bit_for_bit(tmp_path_factory: Any, count: int, degree: int, seed: int) -> None:
    path = tmp_path_factory.mktemp("ply") / "scene.ply"
    gaussians = make_gaussians(count, degree, seed)
    write_ply(path, gaussians)
    back = read_ply(path)
    assert same_bits(back, gaussians) and back.sh_degree == degree
    again = path.with_name("again.ply")
    write_ply(again, back)
    assert again.read_bytes() == path.read_bytes()


def test_denormal_and_huge_numbers_survive(tmp_path: Path) -> None:
    gaussians = make_gaussians(4, 1)
    means = torch.tensor([[1e-42, 3.4e38, -0.0], [0.1, -1e-30, 1e30], [1 / 3, 7.0, 1e-7], [0.0, 1.0, 2.0]])
    write_ply(tmp_path / "scene.ply", replace(gaussians, means=means))
    assert read_ply(tmp_path / "scene.ply").means.numpy().tobytes() == means.numpy().tobytes()


def test_the_layout_is_that_of_inrias_program(tmp_path: Path) -> None:
    gaussians = make_gaussians(7, 2)
    write_ply(tmp_path / "scene.ply", gaussians)
    header = (tmp_path / "scene.ply").read_bytes().partition(b"end_header\n")[0].decode().splitlines()
    assert header[:2] == ["ply", "format binary_little_endian 1.0"]
    names = [line.split()[-1] for line in header if line.startswith("property")]
    assert names == [
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
        *(f"f_rest_{number}" for number in range(24)),
        *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    ]
    assert all(line.split()[1] == "float" for line in header if line.startswith("property"))
    vertices = plyfile.PlyData.read(str(tmp_path / "scene.ply"))["vertex"]
    # Ordered by channel: the second harmonic of green follows all eight of red and the first of green.
    assert np.array_equal(vertices["f_rest_9"], gaussians.features_rest[:, 1, 1])


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_text_and_any_order_of_properties_are_read(tmp_path: Path, text: bool, byte_order: str) -> None:
    columns = columns_of(1)
    shuffled = dict(sorted(columns.items(), key=lambda item: hash_of(item[0])))
    path = write_columns(tmp_path / "scene.ply", shuffled, text, byte_order)
    gaussians = read_ply(path)
    assert gaussians.sh_degree == 1
    assert np.array_equal(gaussians.means, np.stack([columns[axis] for axis in "xyz"], axis=1))
    assert np.array_equal(gaussians.quats[:, 3], columns["rot_3"])
    assert np.array_equal(gaussians.features_rest[:, 2, 1], columns["f_rest_5"])
    assert np.array_equal(gaussians.opacities[:, 0], columns["opacity"])


def hash_of(name: str) -> int:
    return sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 97


def test_double_precision_becomes_single(tmp_path: Path) -> None:
    columns = columns_of(0, x=np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert np.array_equal(read_ply(write_columns(tmp_path / "a.ply", columns)).means[:, 0], np.float32(columns["x"]))


def test_other_properties_are_ignored_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    columns = columns_of(0, nx=np.zeros(5, np.float32), red=np.zeros(5, np.uint8), confidence=np.ones(5))
    read_ply(write_columns(tmp_path / "a.ply", columns))
    assert "red, confidence are ignored" in caplog.text and "nx" not in caplog.text


def test_gaussians_that_cannot_be_rendered_are_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    columns = columns_of(1, count=6)
    columns["x"][0], columns["f_rest_8"][1], columns["scale_1"][2] = np.nan, np.inf, -np.inf
    for number in range(4):
        columns[f"rot_{number}"][3] = 0
    gaussians = read_ply(write_columns(tmp_path / "a.ply", columns))
    assert np.array_equal(gaussians.means[:, 1], columns["y"][4:])
    assert "4 of 6 Gaussians are dropped" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None, "rot_2": None}, "lacks the properties x, rot_2"),
        ({"f_dc_0": None, "red": np.zeros(5, np.uint8)}, "ply-color-mode rgb"),
        ({"f_rest_8": None}, "8 properties f_rest"),
        ({"f_rest_8": None, "f_rest_9": np.zeros(5)}, "without f_rest_8"),
        ({"f_rest_9": np.zeros(5)}, "10 properties f_rest"),
        ({"opacity": np.full(5, np.nan)}, "None of the 5 Gaussians"),
    ],
)
def test_files_without_valid_gaussians_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_columns(tmp_path / "scene.ply", columns_of(1, **changes))
    with pytest.raises(GenLangSplatError, match=message):
        read_ply(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="no file"):
        read_ply(tmp_path / "nowhere.ply")
    with pytest.raises(GenLangSplatError, match="contains no Gaussians"):
        read_ply(write_columns(tmp_path / "empty.ply", columns_of(0, count=0)))
    faces = plyfile.PlyElement.describe(np.zeros(2, dtype=[("a", "f4")]), "face")
    plyfile.PlyData([faces]).write(str(tmp_path / "faces.ply"))
    with pytest.raises(GenLangSplatError, match="no element called vertex"):
        read_ply(tmp_path / "faces.ply")
    lists = np.empty(1, dtype=[*((name, "f4") for name in REQUIRED if name != "x"), ("x", "O")])
    lists["x"][0] = np.arange(2, dtype=np.float32)
    plyfile.PlyData([plyfile.PlyElement.describe(lists, "vertex")]).write(str(tmp_path / "lists.ply"))
    with pytest.raises(GenLangSplatError, match="property x of"):
        read_ply(tmp_path / "lists.ply")


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scene.ply"
    write_ply(path, make_gaussians(50, 3))
    whole = path.read_bytes()
    for size in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(GenLangSplatError, match="cannot be read as a PLY"):
            read_ply(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means": torch.full((5, 3), torch.nan)}, "means.*NaN"),
        ({"scales": torch.zeros(5, 3, dtype=torch.float64)}, "float64"),
        ({"opacities": torch.zeros(4, 1)}, r"\(4, 1\)"),
        ({"quats": torch.zeros(5, 4)}, "zero quaternions"),
        ({"features_rest": torch.zeros(5, 4, 3)}, "0, 3, 8 or 15"),
    ],
)
def test_invalid_gaussians_are_not_written(tmp_path: Path, changes: dict[str, torch.Tensor], message: str) -> None:
    path = tmp_path / "scene.ply"
    path.write_text("what was there")
    gaussians = make_gaussians(5, 1)
    for name, value in changes.items():
        # Bypasses the shape checks, which are active only in tests.
        object.__setattr__(gaussians, name, value)
    with pytest.raises(GenLangSplatError, match=message):
        write_ply(path, gaussians)
    assert path.read_text() == "what was there" and len(list(tmp_path.iterdir())) == 1


def test_an_empty_scene_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="no Gaussians"):
        write_ply(tmp_path / "scene.ply", make_gaussians(0, 1))
    assert not list(tmp_path.iterdir())


def test_nerfstudios_exporter_and_this_one_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of ns-export has the model's parameters, and `write_ply` writes the same rows."""
    for name in [name for name in sys.modules if "exporter" in name]:
        monkeypatch.delitem(sys.modules, name)
    # open3d needs system libraries, and the export of splats does not use it.
    monkeypatch.setitem(sys.modules, "open3d", ModuleType("open3d"))
    exporter = importlib.import_module("nerfstudio.scripts.exporter")
    from nerfstudio.models.splatfacto import SplatfactoModel, SplatfactoModelConfig

    gaussians = make_gaussians(30, 3)
    model = SplatfactoModel.__new__(SplatfactoModel)
    torch.nn.Module.__init__(model)
    model.config = SplatfactoModelConfig(sh_degree=3)
    model.gauss_params = torch.nn.ParameterDict(gaussians.tensors())
    monkeypatch.setattr(exporter, "eval_setup", lambda *args, **kwargs: (None, SimpleNamespace(model=model), None, 0))
    exporter.ExportGaussianSplat(load_config=tmp_path / "config.yml", output_dir=tmp_path).main()
    assert same_bits(read_ply(tmp_path / "splat.ply"), gaussians)
    write_ply(tmp_path / "ours.ply", gaussians)
    rows = [(tmp_path / name).read_bytes().partition(b"end_header\n")[2] for name in ("splat.ply", "ours.ply")]
    assert rows[0] == rows[1]


def test_a_real_scene_of_inrias_program_is_reproduced_byte_for_byte(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "splat_ply_small" / "point_cloud.ply"
    if not source.is_file():
        pytest.skip(f"needs {source}, which is not part of the project")
    gaussians = read_ply(source)
    assert len(gaussians) == 9080 and gaussians.sh_degree == 3
    write_ply(tmp_path / "copy.ply", gaussians)
    header, _, rows = source.read_bytes().partition(b"end_header\n")
    copied_header, _, copied = (tmp_path / "copy.ply").read_bytes().partition(b"end_header\n")
    assert copied == rows
    assert copied_header == header


def test_extra_properties_are_written_and_ignored_by_the_reader(tmp_path: Path) -> None:
    gaussians = make_gaussians(6, 1)
    write_ply(tmp_path / "scene.ply", gaussians, {"latent_whole_0": torch.arange(6.0)})
    assert same_bits(read_ply(tmp_path / "scene.ply"), gaussians)
    vertices = plyfile.PlyData.read(str(tmp_path / "scene.ply"))["vertex"]
    assert np.array_equal(vertices["latent_whole_0"], np.arange(6.0))


def test_an_offset_is_written_as_a_comment_and_found_again(tmp_path: Path) -> None:
    gaussians, offset = make_gaussians(4, 1), (500_000.25, -4_649_776.0, 0.1)
    write_ply(tmp_path / "far.ply", gaussians, offset=offset)
    assert read_offset(tmp_path / "far.ply").tolist() == list(offset)
    assert b"comment offset 500000.25 -4649776.0 0.1" in (tmp_path / "far.ply").read_bytes()
    assert same_bits(read_ply(tmp_path / "far.ply"), gaussians)


@pytest.mark.parametrize("comment", ["offset", "offset a b c", "Offset of the lens 1 2 3", "offset 1 2"])
def test_other_comments_are_no_offset(tmp_path: Path, comment: str) -> None:
    vertices = plyfile.PlyElement.describe(np.zeros(1, dtype=[("x", "f4")]), "vertex")
    plyfile.PlyData([vertices], comments=[comment]).write(str(tmp_path / "a.ply"))
    assert read_offset(tmp_path / "a.ply").tolist() == [0, 0, 0]
