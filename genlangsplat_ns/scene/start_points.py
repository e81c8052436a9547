"""The points from which training starts: where random points lie, and a check that the cameras see the points."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.frames import SceneFrame

LOGGER = logging.getLogger(__name__)

MAX_POINTS = 20_000
"""Number of points that are tested at most."""

MIN_POINTS = 4
"""Number of distinct points from which training can start."""

FEW = 0.5
"""At a smaller share of visible points, other conventions of poses are tried."""

MOST, MANY_TIMES = 0.5, 2
"""Another convention is named if the cameras see this share of the points with it, and so many times as many."""

ALMOST_NONE = 0.05
"""If another convention is named and the cameras see less than this share, the poses are taken to be wrong."""

Poses = Float[Tensor, "num_cameras 3 4"]


@dataclass(frozen=True, eq=False)
class RandomBox:
    """The cube in which training without seed points starts."""

    center: Float[Tensor, " 3"]
    side: float

    @classmethod
    def around(cls, cameras: Cameras, side: float) -> RandomBox:
        """Returns splatfacto's cube around the origin, or one around the cameras if some of them stand outside of it.

        The side of splatfacto's cube, `random_scale`, fits cameras within a distance of 1 from their center.
        """
        positions = cameras.camera_to_worlds[:, :, 3]
        if float(positions.abs().max()) <= side / 2:
            return cls(torch.zeros(3), side)
        center = positions.mean(dim=0)
        radius = float((positions - center).norm(dim=1).max())
        box = cls(center, side * radius if radius > 0 else side)
        LOGGER.info(
            "The cameras stand outside of the cube in which random points start, so the points start around them: "
            "within %.3g of (%s).",
            *(box.side / 2, ", ".join(f"{value:.3g}" for value in center.tolist())),
        )
        return box

    def sample(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "count 3"]:
        """Draws uniform points."""
        return self.center + (torch.rand(count, 3, generator=generator) - 0.5) * self.side


def check_start_in_view(
    seeds: Float[Tensor, "num_points 3"] | None, box: RandomBox, cameras: Cameras, frame: SceneFrame
) -> None:
    """Checks that some training view sees some of the points from which training starts: seed points, or the box.

    Points and cameras are in the coordinate frame of the run.

    Raises:
        GenLangSplatError: There are fewer than four points, or no camera sees any point, or almost none and most of
            them with other poses.
    """
    if seeds is None:
        points, start = box.sample(MAX_POINTS, torch.Generator().manual_seed(0)), "random points"
    else:
        usable = seeds[seeds.isfinite().all(dim=1)]
        _check_count(usable)
        points, start = usable[:: -(-len(usable) // MAX_POINTS)], f"{len(seeds):,} seed points"
    share = _seen(cameras.camera_to_worlds, cameras, points)
    if share >= FEW:
        return
    conventions = _conventions(cameras.camera_to_worlds, frame)
    shares = {words: _seen(poses, cameras, points) for words, poses in conventions.items()}
    words, other = max(shares.items(), key=lambda item: item[1])
    found = f"The cameras see {share:.1%} of the {start}." if share else f"No camera sees any of the {start}."
    if other > (max(MOST, MANY_TIMES * share) if share else ALMOST_NONE):
        advice = (
            f"With {words}, they see {other:.0%}: transform_matrix must map from camera to world, with x right, y up "
            "and z backwards (OpenGL). Convert the poses."
        )
        if share == 0:
            raise GenLangSplatError(f"{found} {advice}")
        if share < ALMOST_NONE:
            raise GenLangSplatError(
                f"{found} {advice} If the poses are right, start without the points: --pipeline.model.random-init True."
            )
        LOGGER.warning("%s %s", found, advice)
    elif share == 0:
        raise GenLangSplatError(
            f"{found} Poses and points belong to different coordinate frames. Create both from the same reconstruction."
        )
    elif share < ALMOST_NONE:
        LOGGER.warning("%s Check the poses and the points.", found)


def _check_count(usable: Float[Tensor, "num_points 3"]) -> None:
    # Points at one place have no spacing. Counting the places of many points takes seconds, and they have some.
    count = len(usable.unique(dim=0)) if len(usable) < MAX_POINTS else len(usable)
    if count < MIN_POINTS:
        raise GenLangSplatError(
            f"Found {count} distinct seed points, expected at least {MIN_POINTS}. Add points to the data, or start "
            "from random points with --pipeline.model.random-init True."
        )


def _conventions(poses: Poses, frame: SceneFrame) -> dict[str, Poses]:
    """Returns the poses that other conventions of the file would have meant, in the frame of the run."""
    flip = torch.tensor([1.0, -1.0, -1.0, 1.0])
    inverted = _inverted(poses, frame)
    return {
        "the camera axes of OpenCV (y down, z forward)": poses * flip,
        "inverted poses (world to camera)": inverted,
        "inverted poses and the camera axes of OpenCV (as in COLMAP)": inverted * flip,
    }


def _inverted(poses: Poses, frame: SceneFrame) -> Poses:
    """Inverts poses in the coordinates of the data and returns them in those of the run."""
    rotation, offset = frame.transform[:, :3].double(), frame.transform[:, 3].double()
    turned = rotation.T @ poses[:, :, :3].double()
    positions = (poses[:, :, 3].double() / frame.scale - offset) @ rotation
    inverse = turned.transpose(1, 2)
    moved = -(inverse @ positions[..., None])
    return torch.cat([rotation @ inverse, frame.scale * (rotation @ moved + offset[:, None])], dim=2).to(poses.dtype)


def _seen(poses: Poses, cameras: Cameras, points: Float[Tensor, "num_points 3"]) -> float:
    """Returns the share of points that are in at least one view, without regard to distortion."""
    seen: Bool[Tensor, " num_points"] = torch.zeros(len(points), dtype=torch.bool)
    for index, pose in enumerate(poses):
        in_camera = (points.to(pose.dtype) - pose[:, 3]) @ pose[:, :3]
        depth = -in_camera[:, 2]
        beside = in_camera[:, :2].abs()
        focal = torch.stack([cameras.fx[index, 0], cameras.fy[index, 0]])
        half = torch.stack([cameras.width[index, 0], cameras.height[index, 0]]) / 2
        if int(cameras.camera_type[index]) == CameraType.FISHEYE.value:
            angle = torch.atan2(beside.norm(dim=1), depth)
            seen |= angle < (half / focal).norm()
        else:
            # An off-center principal point moves the view by at most half of it.
            shift = (torch.stack([cameras.cx[index, 0], cameras.cy[index, 0]]) - half).abs()
            seen |= (depth > 0) & (beside <= depth[:, None] * (half + shift) / focal).all(dim=1)
    return float(seen.float().mean())
