"""Coordinate frames of a scene: that of its data, and the one nerfstudio turns, centers and scales it into."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.rasterization.reference import harmonic_bases
from genlangsplat_ns.scene_io.gaussians import GaussianParameters


@dataclass(frozen=True)
class SceneFrame:
    """How a dataparser moved the data: a point x of the data lies at scale * (rotation @ x + translation)."""

    transform: Float[Tensor, "3 4"]
    """Rotation and translation."""
    scale: float
    """What the moved scene is multiplied with."""

    @classmethod
    def read(cls, path: Path) -> SceneFrame:
        """Reads `dataparser_transforms.json`, which nerfstudio writes into the folder of a run.

        Raises:
            GenLangSplatError: The file holds no transform of three rows and four columns, or no scale.
        """
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            frame = cls(torch.tensor(stored["transform"], dtype=torch.float64), float(stored["scale"]))
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise GenLangSplatError(
                f"{path} cannot be read ({type(error).__name__}: {error}). Expected the transform and scale that "
                "ns-train writes there; restore the file, or take it away to have the frame judged by the photographs."
            ) from error
        if frame.transform.shape != (3, 4) or not frame.scale > 0:
            raise GenLangSplatError(
                f"{path} has a transform of shape {tuple(frame.transform.shape)} and the scale {frame.scale}; expected "
                "3 by 4 and a positive one."
            )
        return frame

    @property
    def matrix(self) -> Float[Tensor, "4 4"]:
        """The whole of it as one matrix, in double precision."""
        bottom = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
        return torch.cat([self.scale * self.transform.double().cpu(), bottom])

    @property
    def is_identity(self) -> bool:
        """Whether the data were left as they are."""
        return bool(torch.equal(self.matrix, torch.eye(4, dtype=torch.float64)))

    def distance(self, other: SceneFrame, positions: Float[Tensor, "num_cameras 3"]) -> float:
        """How far apart two frames put the same point of the data, as a share of the scene's radius.

        Args:
            other: The frame to compare with.
            positions: Where the cameras stand in this frame; they say how large the scene is.
        """
        center = positions.double().mean(dim=0)
        radius = (positions.double() - center).norm(dim=1).max().clamp_min(1e-6)
        # Not the cameras themselves: where all stand on a line, a turn around it would go unseen.
        points = torch.cat([center + radius * torch.eye(3).double(), center - radius * torch.eye(3).double()])
        between = other.matrix @ torch.linalg.inv(self.matrix)
        moved = points @ between[:3, :3].T + between[:3, 3]
        return float((moved - points).norm(dim=1).max() / radius)


def move_gaussians(gaussians: GaussianParameters, frame: SceneFrame) -> GaussianParameters:
    """Brings Gaussians from the frame of the data into another one; what a camera sees stays the same.

    Args:
        gaussians: Gaussians with harmonics, in the frame of the data.
        frame: Where to.
    """
    rotation, translation = frame.transform[:, :3].double().cpu(), frame.transform[:, 3].double().cpu()
    means = frame.scale * (gaussians.means.double() @ rotation.T + translation)
    scales = gaussians.scales.double() + torch.tensor(frame.scale, dtype=torch.float64).log()
    x, y, z, w = Rotation.from_matrix(rotation.numpy()).as_quat()
    # Multiplying with a quaternion from the left is linear.
    product = torch.tensor([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]], dtype=torch.float64)
    return replace(
        gaussians,
        means=means.float(),
        scales=scales.float(),
        quats=(gaussians.quats.double() @ product.T).float(),
        features_rest=rotate_harmonics(gaussians.features_rest, rotation),
    )


def rotate_harmonics(
    harmonics: Float[Tensor, "num_gaussians bases 3"], rotation: Float[Tensor, "3 3"]
) -> Float[Tensor, "num_gaussians bases 3"]:
    """Turns harmonics with the scene: along a turned direction they show the color they showed along the direction.

    Harmonics of one degree turn among themselves. The matrix that turns them is found from their values along many
    directions, which needs no convention but that of the rasterizer's own harmonics.

    Args:
        harmonics: All but the constant one, of degree 1, 2 or 3 as the number of bases says.
        rotation: What the scene is turned by.
    """
    generator = torch.Generator().manual_seed(0)
    directions = functional.normalize(torch.randn(64, 3, generator=generator, dtype=torch.float64), dim=1)
    degree = round((harmonics.shape[1] + 1) ** 0.5) - 1
    turned = harmonics.double().clone()
    # Along d the turned scene shows what the scene showed along the direction turned back, d @ rotation.
    after, before = (harmonic_bases(degree, d) for d in (directions, directions @ rotation.double()))
    for first, end in ((band * band, (band + 1) ** 2) for band in range(1, degree + 1)):
        matrix = torch.linalg.lstsq(after[:, first:end], before[:, first:end]).solution
        band = slice(first - 1, end - 1)
        turned[:, band] = torch.einsum("ij,njc->nic", matrix, harmonics[:, band].double())
    return turned.float()
