"""SOG files: what they contain, and files that would fill the memory."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io import sog
from genlangsplat_ns.scene_io.sog import read_sog, write_sog
from tests.scene_io.gaussian_fakes import picture, psnr, same_bits, trained_like

PEAK = 10_000_000
"""More memory than these tests may take, far less than the files ask for."""


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def bundle(path: Path, members: dict[str, bytes], **meta: Any) -> Path:
    """Writes an archive with changes of meta.json."""
    changed = json.dumps({**json.loads(members["meta.json"]), **meta}).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**members, "meta.json": changed}.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def members(tmp_path: Path) -> dict[str, bytes]:
    """The files of a scene of 100 Gaussians."""
    write_sog(tmp_path / "good.sog", trained_like(100, 1), np.arange(100))
    return contents(tmp_path / "good.sog")


def white(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (width, height), (255, 255, 255, 255)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def test_an_archive_has_the_files_that_the_format_names(members: dict[str, bytes]) -> None:
    meta = json.loads(members["meta.json"])
    named = {name for entry in meta.values() if isinstance(entry, dict) for name in entry.get("files", [])}
    assert named == members.keys() - {"meta.json"} and next(iter(members)) == "meta.json"
    assert meta["version"] == 2 and meta["count"] == 100 and meta["shN"]["bands"] == 1
    assert all(len(meta[section]["codebook"]) == 256 for section in ("scales", "sh0", "shN"))
    for name in named:
        image = Image.open(io.BytesIO(members[name]))
        assert image.format == "WEBP" and image.width % 4 == 0


def test_the_same_scene_gives_the_same_bytes(tmp_path: Path) -> None:
    gaussians = trained_like(100, 1)
    for name in ("a.sog", "b.sog"):
        write_sog(tmp_path / name, gaussians, np.arange(100))
    assert (tmp_path / "a.sog").read_bytes() == (tmp_path / "b.sog").read_bytes()


def test_colors_of_transparent_gaussians_survive(tmp_path: Path) -> None:
    gaussians = trained_like(64, 0)
    gaussians.opacities[:] = -20.0
    write_sog(tmp_path / "a.sog", gaussians, np.arange(64))
    assert torch.allclose(read_sog(tmp_path / "a.sog")[0].features_dc, gaussians.features_dc, atol=0.01)


def test_more_gaussians_than_labels_share_their_harmonics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sog, "MAX_PALETTE", 1000)
    gaussians = trained_like(3000, 3)
    write_sog(tmp_path / "a.sog", gaussians, np.arange(3000))
    read, _ = read_sog(tmp_path / "a.sog")
    assert len(read.features_rest.unique(dim=0)) <= 1000
    # Random harmonics have nothing in common, so this is the worst case.
    without = replace(gaussians, features_rest=torch.zeros_like(gaussians.features_rest))
    assert psnr(picture(read), picture(gaussians)) > psnr(picture(without), picture(gaussians)) + 3


def refused(path: Path, message: str) -> None:
    """Checks that a file is refused, and that little memory is taken for that."""
    tracemalloc.start()
    try:
        with pytest.raises(GenLangSplatError, match=message):
            read_sog(path)
        assert tracemalloc.get_traced_memory()[1] < PEAK
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 1}, r"SOG file of version 1; expected version 2.*save it again"),
        ({"version": None}, "of version None"),
        ({"count": 109}, r"means_l\.webp has 12 x 9 pixels; expected 109 pixels"),
        ({"count": 2**40}, "means_l.*expected 1,099,511,627,776 pixels"),
        ({"count": "many"}, "'many' Gaussians"),
        ({"means": {"files": ["means_l.webp"]}}, "does not name the images of means"),
        ({"means": {"files": ["../means_l.webp", "x"]}}, "which is not a file name"),
        ({"means": {"files": ["gone.webp", "x"]}}, r"gone\.webp cannot be read"),
        ({"means": {"files": ["means_l.webp", "means_u.webp"]}}, r"lacks the numbers means\.mins"),
        ({"scales": {"files": ["scales.webp"], "codebook": [1.0]}}, r"lacks the numbers scales\.codebook"),
        (
            {"means": {"files": ["means_l.webp", "means_u.webp"], "mins": [10**400] * 3, "maxs": [1] * 3}},
            r"lacks the numbers means\.mins",
        ),
        ({"means": {"files": ["means\0.webp", "x"]}}, "cannot be read"),
        ({"shN": {"bands": 4}}, "degree 4; expected 1, 2 or 3"),
        ({"shN": {"bands": 2, "files": ["shN_centroids.webp", "shN_labels.webp"]}}, "expected 512 columns"),
    ],
)
def test_a_wrong_table_of_contents_is_refused(
    changes: dict[str, Any], message: str, members: dict[str, bytes], tmp_path: Path
) -> None:
    refused(bundle(tmp_path / "a.sog", members, **changes), message)


def test_large_images_in_small_files_are_not_even_opened(
    members: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = white(3000, 3000)
    assert len(huge) < 100_000
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was opened"))
    changed = {**members, "means_l.webp": huge, "means_u.webp": huge}
    refused(bundle(tmp_path / "a.sog", changed, count=9_000_000), "made to exhaust the memory, and was not unpacked")


@pytest.mark.parametrize("name", ["meta.json", "means_l.webp"])
def test_a_zip_bomb_is_not_unpacked(name: str, members: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "bomb.sog"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for other, content in members.items():
            archive.writestr(other, content if other != name else bytes(30_000_000))
    assert path.stat().st_size < 1_000_000
    refused(path, f"{name} is larger than")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused_because_they_unpack_without_a_limit(
    compression: int, members: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "a.sog"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused(path, "meta.json is compressed by other means than deflate")


def test_an_archive_of_a_later_version_is_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    path = bundle(tmp_path / "a.sog", members)
    content = path.read_bytes()
    entry = content.rindex(b"PK\x01\x02")
    path.write_bytes(content[: entry + 6] + b"\xff" + content[entry + 7 :])
    refused(path, "its archive cannot be opened: zip file version")


def test_a_deeply_nested_table_of_contents_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sog"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", "[" * 200_000)
    refused(path, "meta.json is no JSON")


def test_further_numbers_of_a_later_program_are_left_alone(members: dict[str, bytes], tmp_path: Path) -> None:
    meta = json.loads(members["meta.json"])
    longer = {**meta["means"], "mins": [*meta["means"]["mins"], 0.0], "maxs": [*meta["means"]["maxs"], 1.0]}
    same, changed = (
        read_sog(bundle(tmp_path / f"{n}.sog", members, means=m))[0] for n, m in enumerate((meta["means"], longer))
    )
    assert same_bits(same, changed)


@pytest.mark.parametrize("content", [b"", b"no image", white(12, 12)[:20]])
def test_an_image_that_is_none_is_refused(content: bytes, members: dict[str, bytes], tmp_path: Path) -> None:
    refused(bundle(tmp_path / "a.sog", {**members, "quats.webp": content}), r"quats\.webp cannot be decoded")
