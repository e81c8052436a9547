"""Files of Gaussians of all formats: round trips, files of other programs, and files that are none."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import plyfile
import pytest
import torch
from scipy.spatial.transform import Rotation

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.frames import SceneFrame, half_turn, move_gaussians
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.scene_io.ply import read_ply
from genlangsplat_ns.scene_io.splat_files import SplatFormat, format_to_write, read_splats, recognize, write_splats
from tests.scene_io.gaussian_fakes import make_gaussians, picture, psnr, same_bits, trained_like

FILES = Path(__file__).parents[1] / "fixtures" / "splats"
"""Files of other programs with the same Gaussians as `scene.ply`."""

LOSSY = (".compressed.ply", ".spz", ".sog")


def matched(read: GaussianParameters, original: GaussianParameters) -> tuple[GaussianParameters, GaussianParameters]:
    """The Gaussians of a file, each with the original one at its place."""
    nearest = torch.cdist(read.means.double(), original.means.double()).argmin(dim=1)
    assert len(nearest.unique()) == len(read)
    return read, GaussianParameters(**{name: value[nearest] for name, value in original.tensors().items()})


def assert_close(read: GaussianParameters, original: GaussianParameters, harmonics: float) -> None:
    """Checks values to what the coarsest format keeps; `harmonics` is the tolerance of their mean error.

    Programs may drop the color of a Gaussian that they store with an opacity of zero.
    """
    read, original = matched(read, original)
    assert torch.allclose(read.means, original.means, atol=0.01, rtol=0.004)
    assert torch.allclose(read.scales, original.scales, atol=0.04)
    turns = (
        torch.nn.functional.normalize(read.quats, dim=1) * torch.nn.functional.normalize(original.quats, dim=1)
    ).sum(1)
    assert turns.abs().min() > 0.9999
    shown = original.opacities[:, 0].sigmoid() > 1 / 255
    assert torch.allclose(read.features_dc[shown], original.features_dc[shown], atol=0.03)
    bases = read.features_rest.shape[1]
    errors = (read.features_rest - original.features_rest[:, :bases]).abs()
    assert errors.mean() < harmonics < 0.7 * original.features_rest.abs().mean()
    assert torch.allclose(read.opacities.sigmoid(), original.opacities.sigmoid(), atol=0.006)


# Round trips


@pytest.mark.parametrize("ending", LOSSY)
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_written_file_shows_the_same_picture(ending: str, degree: int, tmp_path: Path) -> None:
    gaussians = trained_like(3000, degree)
    order = write_splats(tmp_path / f"scene{ending}", gaussians)
    read = read_splats(tmp_path / f"scene{ending}")
    assert read.gaussians.sh_degree == degree and read.format is format_to_write(tmp_path / f"scene{ending}")
    assert psnr(picture(read.gaussians), picture(gaussians)) > 42
    # The order says which Gaussian is which.
    assert torch.equal(order.sort().values, torch.arange(3000))
    assert torch.allclose(read.gaussians.means, gaussians.means[order], atol=0.05)
    assert [path.name for path in tmp_path.iterdir()] == [f"scene{ending}"]


@pytest.mark.parametrize("ending", LOSSY)
def test_few_gaussians_and_gaussians_at_one_place_are_written(ending: str, tmp_path: Path) -> None:
    for number, count in enumerate((1, 2, 257)):
        gaussians = replace(trained_like(count, 1, number), means=torch.full((count, 3), 0.25))
        write_splats(tmp_path / f"{count}{ending}", gaussians)
        read = read_splats(tmp_path / f"{count}{ending}").gaussians
        assert len(read) == count and torch.allclose(read.means, gaussians.means, atol=1e-3)


@pytest.mark.parametrize("ending", [".ply", *LOSSY])
def test_a_file_says_that_its_gaussians_are_for_antialiasing(ending: str, tmp_path: Path) -> None:
    for antialiased in (False, True):
        path = tmp_path / f"{antialiased}{ending}"
        write_splats(path, trained_like(20, 1), antialiased=antialiased)
        assert read_splats(path).antialiased is antialiased


@pytest.mark.parametrize(
    ("comments", "antialiased"),
    [
        (["SplatRenderMode: mip"], True),
        (["splatrendermode:  MIP"], True),
        (["SplatRenderMode: mip", "SplatRenderMode: default"], False),
        (["antialiased 1"], True),
        (["antialiased 0"], False),
        (["This is not SplatRenderMode: mip"], False),
    ],
)
def test_comments_of_other_programs_say_it_too(comments: list[str], antialiased: bool, tmp_path: Path) -> None:
    data = plyfile.PlyData.read(str(FILES / "scene.ply"))
    plyfile.PlyData(data.elements, byte_order="<", comments=comments).write(str(tmp_path / "scene.ply"))
    assert read_splats(tmp_path / "scene.ply").antialiased is antialiased


def test_an_offset_is_kept_where_the_format_has_a_place(tmp_path: Path) -> None:
    gaussians, offset = trained_like(20, 1), (512_000.0, -0.1, 3.0)
    for ending in (".ply", ".compressed.ply"):
        write_splats(tmp_path / f"scene{ending}", gaussians, offset=offset)
        assert read_splats(tmp_path / f"scene{ending}").offset.tolist() == list(offset)
    for ending in (".spz", ".sog"):
        with pytest.raises(GenLangSplatError, match=r"no place.*ends in \.ply"):
            write_splats(tmp_path / f"scene{ending}", gaussians, offset=offset)
        assert not (tmp_path / f"scene{ending}").exists()


def test_far_positions_leave_spz_fewer_bits_until_none_are_left(tmp_path: Path) -> None:
    gaussians = trained_like(50, 0)
    far = replace(gaussians, means=gaussians.means * 1000)
    write_splats(tmp_path / "far.spz", far)
    assert torch.allclose(read_splats(tmp_path / "far.spz").gaussians.means, far.means, atol=0.005)
    with pytest.raises(GenLangSplatError, match=r"from the origin; SPZ files hold at most.*\.ply"):
        write_splats(tmp_path / "farther.spz", replace(gaussians, means=gaussians.means * 1e7))
    assert not (tmp_path / "farther.spz").exists()


@pytest.mark.parametrize("ending", [".ply", *LOSSY])
def test_values_that_are_no_numbers_are_not_written(ending: str, tmp_path: Path) -> None:
    gaussians = make_gaussians(10, 1)
    gaussians.scales[3, 1] = torch.nan
    with pytest.raises(GenLangSplatError, match="contain NaN"):
        write_splats(tmp_path / f"scene{ending}", gaussians)
    assert not list(tmp_path.iterdir())


def test_only_a_ply_file_has_further_properties(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="no place for latent"):
        write_splats(tmp_path / "scene.spz", make_gaussians(10, 1), {"latent": torch.zeros(10)})


@pytest.mark.parametrize("name", ["scene.splat", "scene.ksplat", "scene.obj", "scene", "spz"])
def test_an_ending_that_is_not_written_names_those_that_are(name: str) -> None:
    with pytest.raises(GenLangSplatError, match=r"ends in \.compressed\.ply, \.ply, \.spz or \.sog"):
        format_to_write(Path(name))


# Files of other programs


@pytest.mark.parametrize(
    ("name", "kind", "harmonics"),
    [
        ("supersplat.compressed.ply", SplatFormat.COMPRESSED_PLY, 0.01),
        ("version3.spz", SplatFormat.SPZ, 0.03),
        ("version4.spz", SplatFormat.SPZ, 0.03),
        ("splat-transform.sog", SplatFormat.SOG, 0.02),
        ("level0.ksplat", SplatFormat.KSPLAT, 1e-6),
        ("level1.ksplat", SplatFormat.KSPLAT, 1e-3),
        ("level2.ksplat", SplatFormat.KSPLAT, 0.005),
    ],
)
def test_files_of_other_programs_have_the_values_of_the_ply_file(
    name: str, kind: SplatFormat, harmonics: float
) -> None:
    if name == "version4.spz":
        pytest.importorskip("zstandard", reason="needs the extra `formats`")
    read = read_splats(FILES / name)
    assert read.format is kind and not read.antialiased
    assert len(read.gaussians) == (89 if kind is SplatFormat.KSPLAT else 90)
    assert read.gaussians.sh_degree == (2 if kind is SplatFormat.KSPLAT else 3)
    assert_close(read.gaussians, read_ply(FILES / "scene.ply"), harmonics)


def test_a_turned_file_has_the_values_after_half_a_turn() -> None:
    pytest.importorskip("zstandard", reason="needs the extra `formats`")
    assert_close(half_turn(read_splats(FILES / "turned.spz").gaussians), read_ply(FILES / "scene.ply"), 0.03)


def test_a_sog_scene_is_also_read_from_its_folder(tmp_path: Path) -> None:
    shutil.unpack_archive(FILES / "splat-transform.sog", tmp_path / "scene", "zip")
    bundled = read_splats(FILES / "splat-transform.sog").gaussians
    for path in (tmp_path / "scene", tmp_path / "scene" / "meta.json"):
        assert torch.equal(read_splats(path).gaussians.features_rest, bundled.features_rest)


@pytest.mark.parametrize("ending", LOSSY)
def test_another_library_reads_what_is_written(ending: str, tmp_path: Path) -> None:
    gaussforge = pytest.importorskip("gaussforge", reason="needs the extra `dev`")
    gaussians = trained_like(3000, 3)
    order = write_splats(tmp_path / f"scene{ending}", gaussians)
    answer = gaussforge.GaussForge().read((tmp_path / f"scene{ending}").read_bytes(), ending[1:])
    assert "error" not in answer
    found = answer["data"]

    def values(name: str, *shape: int) -> torch.Tensor:
        return torch.from_numpy(np.frombuffer(found[name], np.float32).copy()).reshape(3000, *shape)

    # It has infinite logits for opacities of 0 and 1.
    logits = values("alphas", 1).clamp(-20, 20)
    read = GaussianParameters(
        *(values("positions", 3), values("scales", 3), values("rotations", 4)),
        *(values("colors", 3), values("sh", 15, 3), logits),
    )
    written = GaussianParameters(**{name: value[order] for name, value in gaussians.tensors().items()})
    assert psnr(picture(read), picture(written)) > 40
    assert torch.allclose(read.features_rest, written.features_rest, atol=0.02)


# Recognized by content


@pytest.mark.parametrize("ending", [".ply", *LOSSY])
def test_a_wrong_ending_is_logged_and_the_content_counts(
    ending: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_splats(tmp_path / f"scene{ending}", make_gaussians(30, 1))
    named = tmp_path / ("scene.spz" if ending != ".spz" else "scene.splat")
    (tmp_path / f"scene{ending}").rename(named)
    assert recognize(named) is format_to_write(tmp_path / f"scene{ending}")
    assert f"is named like {'SPZ' if ending != '.spz' else '.splat'}, but is" in caplog.text


def test_a_compressed_ply_file_may_be_named_like_a_plain_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copy(FILES / "supersplat.compressed.ply", tmp_path / "scene.ply")
    assert recognize(tmp_path / "scene.ply") is SplatFormat.COMPRESSED_PLY
    assert not caplog.text


def mesh(path: Path) -> None:
    vertices = np.zeros(4, dtype=[("x", "<f4"), ("y", "<f4"), ("z", "<f4")])
    faces = np.empty(2, dtype=[("vertex_indices", object)])
    faces["vertex_indices"] = [[0, 1, 2], [1, 2, 3]]
    elements = [plyfile.PlyElement.describe(vertices, "vertex"), plyfile.PlyElement.describe(faces, "face")]
    plyfile.PlyData(elements).write(str(path))


def archive_of_other_files(path: Path) -> None:
    path.with_name("notes.txt").write_text("notes")
    shutil.make_archive(str(path.with_suffix("")), "zip", path.parent, "notes.txt")
    path.with_suffix(".zip").rename(path)


def gzip_of_other_files(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(__file__, "test.py")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("mesh.ply", mesh, "is a mesh with 4 vertices and 2 faces; expected a file of Gaussian splats"),
        ("empty.splat", lambda path: path.write_bytes(b""), "is empty"),
        ("page.spz", lambda path: path.write_text("<!DOCTYPE html>"), "is a web page"),
        ("page.splat", lambda path: path.write_text("<!DOCTYPE html>" + 49 * " "), "is a web page"),
        ("scene.tar.gz", gzip_of_other_files, "is a gzip archive"),
        ("scene.spz", gzip_of_other_files, "is a gzip archive of something else than an SPZ file"),
        ("scene.zip", archive_of_other_files, "no file of this kind"),
        ("scene.sog", archive_of_other_files, r"SOG file: meta\.json cannot be read"),
        ("scene.txt", lambda path: path.write_text("Hello, world"), "no file of this kind: it starts with b'Hello, w'"),
        ("scene.ksplat", lambda path: path.write_bytes(bytes(5000)), "has no header of that format"),
        ("scene.splat", lambda path: path.write_bytes(bytes(33)), r"truncated \.splat file: it has 33 of 64 bytes"),
        ("scene.splat", lambda path: path.write_bytes(b"\xff" * 640), "no numbers of a scene"),
    ],
)
def test_files_that_hold_no_splats_are_named(name: str, make: object, message: str, tmp_path: Path) -> None:
    assert callable(make)
    make(tmp_path / name)
    with pytest.raises(GenLangSplatError, match=message):
        read_splats(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.spz", tmp_path):
        with pytest.raises(GenLangSplatError, match="There is no file"):
            read_splats(path)


def test_without_its_package_version_4_of_spz_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ImportError):
        importlib.import_module("zstandard")
    with pytest.raises(GenLangSplatError, match=r'pip install "genlangsplat-ns\[formats\]"'):
        read_splats(FILES / "version4.spz")
    # The other formats need nothing.
    assert len(read_splats(FILES / "version3.spz").gaussians) == 90


# Damaged files

NAMES = [path.name for path in sorted(FILES.iterdir()) if path.name not in ("README.md", "scene.ply")]


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_refused_at_every_length(name: str, tmp_path: Path) -> None:
    content = (FILES / name).read_bytes()
    for length in {*range(0, len(content), max(1, len(content) // 40)), len(content) - 1}:
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(GenLangSplatError):
            read_splats(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    """Random bytes must not raise anything else, or take memory that the file does not need."""
    content = (FILES / name).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = np.frombuffer(content, np.uint8).copy()
        # The first bytes have the sizes.
        places = random.integers(0, random.choice([64, 1200, len(content)]), 3)
        damaged[places] = random.integers(0, 256, 3)
        (tmp_path / name).write_bytes(damaged.tobytes())
        try:
            assert len(read_splats(tmp_path / name).gaussians) <= 90
        except GenLangSplatError as error:
            assert str(tmp_path) in str(error)


@pytest.mark.parametrize("name", ["scene.ply", *NAMES])
def test_a_file_that_may_not_be_read_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(GenLangSplatError, match=f"{name} cannot be read: Permission denied"):
        read_splats(FILES / name)


@pytest.mark.parametrize("ending", LOSSY)
@pytest.mark.parametrize("length", [2.0**-100, 2.0**100])
def test_quaternions_of_any_length_are_written(ending: str, length: float, tmp_path: Path) -> None:
    gaussians = trained_like(20, 0)
    write_splats(tmp_path / f"a{ending}", gaussians)
    write_splats(tmp_path / f"b{ending}", replace(gaussians, quats=gaussians.quats * length))
    assert same_bits(*(read_splats(tmp_path / f"{name}{ending}").gaussians for name in "ab"))


def test_a_meta_file_with_wrong_types_is_refused(tmp_path: Path) -> None:
    shutil.unpack_archive(FILES / "splat-transform.sog", tmp_path, "zip")
    meta = json.loads((tmp_path / "meta.json").read_text())
    changes = [{"count": value} for value in (None, "90", 0, -1, 1.5, 10**12)] + [
        {"version": value} for value in (None, 1, 3, "2")
    ]
    for section in ("means", "scales", "quats", "sh0", "shN"):
        changes += [
            {section: value}
            for value in ([], "x", {}, {"files": []}, {"files": [1, 2]}, {**meta[section], "files": ["../a", "/b"]})
        ]
    for section, names in {
        "means": ("mins", "maxs"),
        "scales": ("codebook",),
        "sh0": ("codebook",),
        "shN": ("codebook", "bands"),
    }.items():
        changes += [
            {section: {**meta[section], name: value}} for name in names for value in (None, [], ["x"], [[1]], {}, [1.0])
        ]
    for change in changes:
        (tmp_path / "meta.json").write_text(json.dumps({**meta, **change}))
        # An empty section of harmonics means that there are none.
        if change in ({"shN": []}, {"shN": {}}):
            assert read_splats(tmp_path).gaussians.sh_degree == 0
            continue
        with pytest.raises(GenLangSplatError):
            read_splats(tmp_path)


def test_half_a_turn_twice_changes_nothing_and_is_a_rotation() -> None:
    gaussians = make_gaussians(20, 3)
    again = half_turn(half_turn(gaussians))
    assert all(torch.equal(value, again.tensors()[name]) for name, value in gaussians.tensors().items())
    rotation = SceneFrame(torch.cat([torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.zeros(3, 1)], dim=1), 1.0)
    moved, turned = move_gaussians(gaussians, rotation), half_turn(gaussians)
    assert torch.allclose(moved.means, turned.means) and torch.allclose(
        moved.features_rest, turned.features_rest, atol=1e-6
    )
    # The quaternions differ by half a turn around an axis of the Gaussian itself.
    first, second = (Rotation.from_quat(item.quats[:, [1, 2, 3, 0]].numpy()).as_matrix() for item in (moved, turned))
    assert np.allclose(first * [1, -1, -1], second, atol=1e-6)
