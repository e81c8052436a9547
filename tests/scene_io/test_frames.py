"""Coordinate frames: comparing them, and transforming Gaussians between them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.utils.colmap_parsing_utils import read_points3D_binary
from scipy.spatial.transform import Rotation
from torch import Tensor

from genlangsplat_ns.dataparser import SeedPointNerfstudio
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization import rasterization
from genlangsplat_ns.rasterization.harmonics import harmonic_bases
from genlangsplat_ns.scene_io.frames import SceneFrame, move_gaussians, rotate_harmonics, rounded_offset
from tests.scene_io.gaussian_fakes import make_gaussians, same_bits


def rotations(quats: Tensor) -> Tensor:
    """Rotation matrices of quaternions w, x, y, z."""
    return torch.from_numpy(Rotation.from_quat(quats[:, [1, 2, 3, 0]].numpy()).as_matrix()).float()


def random_rotation(seed: int) -> Tensor:
    return torch.from_numpy(Rotation.random(random_state=seed).as_matrix())


def random_frame(seed: int) -> SceneFrame:
    translation = torch.randn(3, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return SceneFrame(torch.cat([random_rotation(seed), translation], dim=1).float(), 0.3 + seed % 7)


@given(degree=st.integers(1, 3), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_rotated_harmonics_have_the_same_color_in_the_rotated_direction(degree: int, seed: int) -> None:
    harmonics = make_gaussians(6, degree, seed).features_rest
    rotation = random_rotation(seed)
    turned = rotate_harmonics(harmonics, rotation)
    directions = torch.nn.functional.normalize(torch.randn(9, 3, dtype=torch.float64), dim=1)

    def colors(values: Tensor, along: Tensor) -> Tensor:
        return torch.einsum("dk,nkc->dnc", harmonic_bases(degree, along)[:, 1:], values.double())

    assert torch.allclose(colors(turned, directions @ rotation.T), colors(harmonics, directions), atol=1e-5)
    # Each degree is rotated separately, so its norm is preserved.
    for first, end in ((0, 3), (3, 8), (8, 15))[:degree]:
        lengths = [values[:, first:end].norm(dim=1) for values in (turned, harmonics)]
        assert torch.allclose(*lengths, rtol=1e-5)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_rotations_compose_and_the_identity_changes_nothing(degree: int) -> None:
    harmonics = make_gaussians(6, degree).features_rest
    assert torch.allclose(rotate_harmonics(harmonics, torch.eye(3)), harmonics, atol=1e-6)
    first, second = random_rotation(1), random_rotation(2)
    twice = rotate_harmonics(rotate_harmonics(harmonics, first), second)
    assert torch.allclose(rotate_harmonics(harmonics, second @ first), twice, atol=1e-5)


def test_degree_zero_stays_empty() -> None:
    assert rotate_harmonics(torch.zeros(4, 0, 3), random_rotation(0)).shape == (4, 0, 3)


@pytest.mark.parametrize("seed", range(4))
def test_moved_gaussians_have_the_moved_covariances(seed: int) -> None:
    gaussians, frame = make_gaussians(20, 0, seed), random_frame(seed)
    moved = move_gaussians(gaussians, frame)
    axes = [rotations(item.quats) * item.scales.exp()[:, None] for item in (gaussians, moved)]
    before, after = (half @ half.transpose(1, 2) for half in axes)
    linear = frame.matrix[:3, :3].float()
    assert torch.allclose(after, linear @ before @ linear.T, rtol=1e-3, atol=1e-4 * float(after.max()))
    points = gaussians.means.double() @ frame.matrix[:3, :3].T + frame.matrix[:3, 3]
    assert torch.allclose(moved.means.double(), points, atol=1e-4)
    assert torch.equal(moved.opacities, gaussians.opacities) and torch.equal(moved.features_dc, gaussians.features_dc)


@pytest.mark.skipif(torch.cuda.is_available(), reason="renders with the CPU kernels")
def test_a_transformed_camera_sees_the_same_image() -> None:
    """Checks position, size, orientation and color together with the real rasterizer."""
    gaussians, frame = make_gaussians(200, 3), random_frame(3)
    gaussians = replace(gaussians, scales=gaussians.scales - 2, features_rest=0.2 * gaussians.features_rest)
    view = torch.eye(4, dtype=torch.float64)
    view[2, 3] = 5.0
    # The camera moves with the scene, and all distances are `scale` times as large.
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3] = torch.cat([frame.transform[:, :3].double(), frame.scale * frame.transform[:, 3:].double()], dim=1)
    wide = view.clone()
    wide[:3, 3] *= frame.scale
    K = torch.tensor([[[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]])

    def picture(item, viewmat: Tensor) -> Tensor:
        colors = torch.cat([item.features_dc[:, None], item.features_rest], dim=1)
        options = {"width": 64, "height": 48, "sh_degree": 3, "near_plane": 1e-3}
        opacities = torch.sigmoid(item.opacities[:, 0])
        arguments = (item.means, item.quats, item.scales.exp(), opacities, colors, viewmat[None].float(), K)
        return rasterization(*arguments, **options)[0]

    before, after = picture(gaussians, view), picture(move_gaussians(gaussians, frame), wide @ torch.linalg.inv(turn))
    assert before.std() > 0.05
    assert (before - after).abs().mean() < 1e-4


def test_the_identity_frame_moves_nothing() -> None:
    still = SceneFrame(torch.eye(4)[:3], 1.0)
    assert still.is_identity and not random_frame(1).is_identity
    moved = move_gaussians(make_gaussians(10, 0), still)
    assert same_bits(moved, make_gaussians(10, 0))


def test_the_distance_of_frames_is_relative_to_the_scenes_radius() -> None:
    positions = torch.tensor([[-2.0, 0, 0], [2.0, 0, 0], [0.0, 0, 0]])
    here = SceneFrame(torch.eye(4)[:3], 1.0)
    assert here.distance(here, positions) == 0
    shifted = torch.eye(4)[:3].clone()
    shifted[1, 3] = 0.5
    assert here.distance(SceneFrame(shifted, 1.0), positions) == pytest.approx(0.25)
    assert here.distance(SceneFrame(torch.eye(4)[:3], 1.1), positions) == pytest.approx(0.1)
    # All cameras are on the axis of this rotation.
    turned = torch.cat([torch.from_numpy(Rotation.from_euler("x", 90, degrees=True).as_matrix()), torch.zeros(3, 1)], 1)
    assert here.distance(SceneFrame(turned, 1.0), positions) > 1
    one_camera = torch.zeros(1, 3)
    assert here.distance(SceneFrame(shifted, 1.0), one_camera) > 1


def test_frames_of_data_far_from_the_origin_are_compared() -> None:
    """The scene is far from the origin of the data, and the frames differ by less than one part in a million."""
    rotation, positions = random_rotation(5), torch.randn(10, 3)
    far = torch.tensor([[1e4], [-2e4], [5e3]], dtype=torch.float64)
    here = SceneFrame(torch.cat([rotation, far], dim=1), 0.01)
    assert here.distance(SceneFrame(torch.cat([rotation, far + 1e-5], dim=1), 0.01), positions) < 1e-6


@pytest.mark.parametrize("parser", ["nerfstudio", "colmap"])
def test_the_frame_of_real_data_is_that_of_colmap(shared_data: Path, parser: str) -> None:
    """COLMAP's transformed points equal nerfstudio's seed points."""
    scene = shared_data / "mipnerf360_kitchen"
    if not scene.is_dir():
        pytest.skip(f"needs {scene}, which is not part of the project")
    config = {
        "nerfstudio": NerfstudioDataParserConfig(_target=SeedPointNerfstudio, data=scene, load_3D_points=True),
        "colmap": ColmapDataParserConfig(data=scene, colmap_path=Path("sparse/0")),
    }[parser]
    outputs = config.setup().get_dataparser_outputs("train")
    frame = SceneFrame(outputs.dataparser_transform, float(outputs.dataparser_scale))
    points = read_points3D_binary(scene / "sparse" / "0" / "points3D.bin").values()
    positions = torch.from_numpy(np.stack([point.xyz for point in points]))[:100]
    moved = positions @ frame.matrix[:3, :3].T + frame.matrix[:3, 3]
    nearest = torch.cdist(moved.float(), outputs.metadata["points3D_xyz"]).amin(dim=1)
    assert not frame.is_identity and nearest.max() < 1e-3


def test_a_stored_frame_is_read(tmp_path: Path) -> None:
    path = tmp_path / "dataparser_transforms.json"
    path.write_text(json.dumps({"transform": random_frame(2).transform.tolist(), "scale": 0.5}))
    frame = SceneFrame.read(path)
    assert torch.equal(frame.transform.float(), random_frame(2).transform) and frame.scale == 0.5


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"scale": 1}', '{"transform": [[1, 2]], "scale": 1}', '{"transform": "x", "scale": 1}'],
)
def test_a_damaged_frame_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "dataparser_transforms.json"
    path.write_text(text)
    with pytest.raises(GenLangSplatError, match=r"dataparser_transforms\.json"):
        SceneFrame.read(path)


@pytest.mark.parametrize("seed", range(3))
def test_the_inverse_moves_gaussians_back(seed: int) -> None:
    frame, gaussians = random_frame(seed), make_gaussians(50, degree=2)
    restored = move_gaussians(move_gaussians(gaussians, frame), frame.inverse)
    for name in ("means", "scales", "features_rest"):
        assert torch.allclose(restored.tensors()[name], gaussians.tensors()[name], atol=1e-5)
    turned = [rotations(item.quats) for item in (restored, gaussians)]
    assert torch.allclose(*turned, atol=1e-5)
    assert torch.allclose(frame.matrix @ frame.inverse.matrix, torch.eye(4).double(), atol=1e-6)


def test_a_frame_relative_to_an_offset_moves_the_rest_of_a_point() -> None:
    frame, offset = random_frame(4), torch.tensor([5e5, -4e6, 3e2], dtype=torch.float64)
    rest = torch.randn(9, 3, dtype=torch.float64)
    matrix, whole = frame.relative_to(offset).matrix, frame.matrix
    expected = (rest + offset) @ whole[:3, :3].T + whole[:3, 3]
    assert torch.allclose(rest @ matrix[:3, :3].T + matrix[:3, 3], expected, atol=1e-6)


@pytest.mark.parametrize(("size", "unit"), [(30.0, 100.0), (1e-3, 1e-2), (2_000.0, 1e4)])
def test_far_scenes_get_a_round_offset(size: float, unit: float) -> None:
    center = torch.tensor([500_012.3, 4_649_776.2, 12.0], dtype=torch.float64)
    positions = center + size * torch.randn(1_000, 3, generator=torch.Generator().manual_seed(0)).double()
    offset = rounded_offset(positions)
    assert offset is not None
    assert torch.allclose(offset / unit, (offset / unit).round(), atol=1e-4)
    assert (positions - offset).abs().max() < 20 * unit


@pytest.mark.parametrize("center", [0.0, 3.0, -8.0])
def test_near_scenes_keep_their_coordinates(center: float) -> None:
    assert rounded_offset(center + torch.randn(1_000, 3)) is None
    assert rounded_offset(torch.zeros(5, 3)) is None
