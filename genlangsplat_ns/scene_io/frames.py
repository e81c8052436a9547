"""Coordinate frames of a scene: the frame of the data, and nerfstudio's frame after rotation, centering and scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization.harmonics import harmonic_bases
from genlangsplat_ns.scene_io.gaussians import GaussianParameters
from genlangsplat_ns.utils.json_files import number_of, numbers_of, object_of, read_json


@dataclass(frozen=True)
class SceneFrame:
    """A dataparser's transform of the data: a point x moves to scale * (rotation @ x + translation)."""

    transform: Float[Tensor, "3 4"]
    """Rotation and translation."""
    scale: float
    """The scale, applied last."""

    @classmethod
    def read(cls, path: Path) -> SceneFrame:
        """Reads `dataparser_transforms.json`, which nerfstudio writes to the folder of a run.

        Raises:
            GenLangSplatError: The file has no 3x4 transform, or no positive scale.
        """
        try:
            stored = object_of(read_json(path), "the file")
            transform = numbers_of(stored.get("transform"), "its transform", (3, 4))
            frame = cls(torch.from_numpy(transform), number_of(stored.get("scale"), "its scale"))
        except (OSError, ValueError) as error:
            raise GenLangSplatError(
                f"{path} cannot be read ({type(error).__name__}: {error}); expected the transform and scale that "
                "ns-train writes. Restore the file, or remove it to detect the frame from the photographs."
            ) from error
        if not frame.scale > 0:
            raise GenLangSplatError(f"{path} has the scale {frame.scale}; expected a positive one. Restore the file.")
        return frame

    @property
    def matrix(self) -> Float[Tensor, "4 4"]:
        """The transform, including the scale, as one matrix in double precision."""
        bottom = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
        return torch.cat([self.scale * self.transform.double().cpu(), bottom])

    @property
    def is_identity(self) -> bool:
        """Whether the data keep their coordinates."""
        return bool(torch.equal(self.matrix, torch.eye(4, dtype=torch.float64)))

    @property
    def inverse(self) -> SceneFrame:
        """The frame that moves points back."""
        # The rotation in the file is rounded, and its transpose would miss far points by centimeters.
        back = torch.linalg.inv(self.transform[:, :3].double().cpu())
        translation = -self.scale * (back @ self.transform[:, 3].double().cpu())
        return SceneFrame(torch.cat([back, translation[:, None]], dim=1), 1 / self.scale)

    def relative_to(self, offset: Float[Tensor, " 3"]) -> SceneFrame:
        """The frame for points of the data without an offset: it moves `x - offset` where this one moves `x`."""
        rotation, translation = self.transform[:, :3].double().cpu(), self.transform[:, 3].double().cpu()
        return SceneFrame(torch.cat([rotation, (translation + rotation @ offset)[:, None]], dim=1), self.scale)

    def distance(self, other: SceneFrame, positions: Float[Tensor, "num_cameras 3"]) -> float:
        """The maximum distance between the positions of a data point in two frames, relative to the scene's radius.

        `positions` of cameras in this frame define the center and radius of the scene.
        """
        center = positions.double().mean(dim=0)
        radius = (positions.double() - center).norm(dim=1).max().clamp_min(1e-6)
        # Camera positions would miss a rotation around their line if all cameras are on one line.
        points = torch.cat([center + radius * torch.eye(3).double(), center - radius * torch.eye(3).double()])
        between = other.matrix @ torch.linalg.inv(self.matrix)
        moved = points @ between[:3, :3].T + between[:3, 3]
        return float((moved - points).norm(dim=1).max() / radius)


MAX_DISTANCE_OF_ORIGIN = 10.0
"""Single precision keeps positions up to this many radii of the scene from the origin; others need an offset."""


def rounded_offset(positions: Float[Tensor, "count 3"]) -> Float[Tensor, " 3"] | None:
    """Returns a round number to subtract from far positions before they become float32; None if they are not far.

    Half of the distances to the median position define the radius of the scene.
    """
    center = positions.double().median(dim=0).values
    radius = float((positions.double() - center).norm(dim=1).median())
    if float(center.abs().max()) <= MAX_DISTANCE_OF_ORIGIN * max(radius, 1e-300):
        return None
    unit = 10.0 ** math.ceil(math.log10(radius)) if radius > 0 else 1.0
    return (center / unit).round() * unit


def move_gaussians(gaussians: GaussianParameters, frame: SceneFrame) -> GaussianParameters:
    """Transforms Gaussians from the frame of the data to another frame without changing the rendered images."""
    rotation, translation = frame.transform[:, :3].double().cpu(), frame.transform[:, 3].double().cpu()
    means = frame.scale * (gaussians.means.double() @ rotation.T + translation)
    scales = gaussians.scales.double() + torch.tensor(frame.scale, dtype=torch.float64).log()
    x, y, z, w = Rotation.from_matrix(rotation.numpy()).as_quat()
    # Quaternion multiplication from the left, as a matrix.
    product = torch.tensor([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]], dtype=torch.float64)
    return replace(
        gaussians,
        means=means.float(),
        scales=scales.float(),
        quats=(gaussians.quats.double() @ product.T).float(),
        features_rest=rotate_harmonics(gaussians.features_rest, rotation),
    )


TURNED_AXES = (1.0, -1.0, -1.0)
"""A half turn around x, between frames with y down and z forward and frames with y up and z backward."""

TURNED_HARMONICS = (-1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0)
"""Signs of the harmonics after that turn, without the constant one."""


def half_turn(gaussians: GaussianParameters) -> GaussianParameters:
    """Turns Gaussians by 180 degrees around x: only signs change, and a second turn restores every bit."""
    turned = gaussians.means.new_tensor(TURNED_AXES)
    signs = gaussians.means.new_tensor(TURNED_HARMONICS[: gaussians.features_rest.shape[1]])
    return replace(
        gaussians,
        means=gaussians.means * turned,
        quats=gaussians.quats * gaussians.quats.new_tensor((1.0, *TURNED_AXES)),
        features_rest=gaussians.features_rest * signs[:, None],
    )


def rotate_harmonics(
    harmonics: Float[Tensor, "num_gaussians bases 3"], rotation: Float[Tensor, "3 3"]
) -> Float[Tensor, "num_gaussians bases 3"]:
    """Rotates spherical harmonics: the color in a rotated direction equals the old color in the original direction.

    A rotation mixes only harmonics of the same degree. The mixing matrix is fitted to the values in many directions, so
    it follows the rasterizer's convention of the harmonics. Their number without the constant one, 3, 8 or 15,
    determines the degree.
    """
    generator = torch.Generator().manual_seed(0)
    directions = functional.normalize(torch.randn(64, 3, generator=generator, dtype=torch.float64), dim=1)
    degree = round((harmonics.shape[1] + 1) ** 0.5) - 1
    rotated = harmonics.double().clone()
    # The color of the rotated scene in direction d is the old color in the direction rotated back, d @ rotation.
    after, before = (harmonic_bases(degree, d) for d in (directions, directions @ rotation.double()))
    for first, end in ((band * band, (band + 1) ** 2) for band in range(1, degree + 1)):
        matrix = torch.linalg.lstsq(after[:, first:end], before[:, first:end]).solution
        band = slice(first - 1, end - 1)
        rotated[:, band] = torch.einsum("ij,njc->nic", matrix, harmonics[:, band].double())
    return rotated.float()
