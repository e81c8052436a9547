"""Undistorts photographs to perspective views, with the pixels of nerfstudio's undistortion.

Unlike nerfstudio's, it treats a fisheye lens without coefficients as equidistant, counts no pixel that shows nothing of
the photograph, and counts a pixel of a mask only if all of it counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped
from nerfstudio.cameras.cameras import Cameras, CameraType

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.views.lenses import Lens

MAX_VIEW_ANGLE = 160.0
"""Largest angle of a perspective view in degrees, twice that between its axis and its farthest side. At this angle, a
pixel in the center covers already 33 times the angle of one at the side."""

MIN_SHOWN = 0.1
"""Smallest share of a view that shows something of the photograph."""

CHECKED_SIDE = 256
"""Long side in pixels of the copy of a view in which that share is measured."""

UNCOUNTED = 0.0005
"""Share of a pixel that may be masked, which is below the smallest interpolation weight of 1/1024."""


@dataclass(frozen=True, eq=False)
class Undistortion:
    """Maps the pixels of a photograph to those of a perspective view."""

    lens: Lens
    """The lens of the photograph."""
    matrix: Float[np.ndarray, "3 3"]
    """Intrinsics of the view before it is cropped; the center of the top left pixel is at 0."""
    crop: tuple[int, int, int, int]
    """Left, top, width and height of the view."""

    @property
    def intrinsics(self) -> tuple[float, float, float, float]:
        """fx, fy, cx and cy of the view; the center of the top left pixel is at 0.5."""
        left, top, _, _ = self.crop
        # In the precision and order of nerfstudio.
        center = self.matrix[:2, 2].copy()
        center -= (left, top)
        center += 0.5
        return float(self.matrix[0, 0]), float(self.matrix[1, 1]), float(center[0]), float(center[1])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the view."""
        return self.crop[2:]

    def picture(
        self, raw: Shaped[np.ndarray, "raw_height raw_width *channels"]
    ) -> Shaped[np.ndarray, "height width *channels"]:
        """Undistorts an image that is aligned with the photograph; interpolates linearly, zero outside."""
        matrix, distortion = opencv_lens(self.lens)
        if self.lens.fisheye:
            size, kind = self.lens.size, cv2.CV_32FC1
            maps = cv2.fisheye.initUndistortRectifyMap(matrix, distortion, np.eye(3), self.matrix, size, kind)
            return cv2.remap(raw, *maps, interpolation=cv2.INTER_LINEAR)
        left, top, width, height = self.crop
        flat = cv2.undistort(raw, matrix, distortion, None, self.matrix)
        return flat[top : top + height, left : left + width]

    @property
    def shown(self) -> Bool[np.ndarray, "height width"]:
        """Whether a pixel of the view shows anything of the photograph."""
        return _shown(self)

    def mask(self, kept: Bool[np.ndarray, "raw_height raw_width"]) -> Bool[np.ndarray, "height width"]:
        """Undistorts a mask of the photograph; a pixel is kept if all that it shows is kept."""
        return (self.picture((~kept).astype(np.float32)) < UNCOUNTED) & self.shown

    def photograph_mask(self, kept: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "raw_height raw_width"]:
        """Maps a mask of the view back to the photograph; what the view does not show is not kept."""
        x, y = _view_positions(self)
        return cv2.remap(kept.astype(np.uint8), x, y, cv2.INTER_NEAREST) > 0


@lru_cache(maxsize=4)
def _shown(undistortion: Undistortion) -> Bool[np.ndarray, "height width"]:
    return undistortion.picture(np.ones(undistortion.lens.size[::-1], np.float32)) > 0


@lru_cache(maxsize=4)
def _view_positions(
    undistortion: Undistortion,
) -> tuple[Float[np.ndarray, "raw_height raw_width"], Float[np.ndarray, "raw_height raw_width"]]:
    """Returns x and y in the view of every pixel of the photograph."""
    width, height = undistortion.lens.size
    rows, columns = np.indices((height, width), dtype=np.float64)
    rays = undistorted_rays(undistortion.lens, np.stack([columns.ravel(), rows.ravel()], axis=1))
    left, top, _, _ = undistortion.crop
    focal, center = undistortion.matrix.diagonal()[:2], undistortion.matrix[:2, 2] - (left, top)
    x, y = (rays * focal + center).T.reshape(2, height, width).astype(np.float32)
    return x, y


def undistorted_rays(lens: Lens, pixels: Float[np.ndarray, "count 2"]) -> Float[np.ndarray, "count 2"]:
    """Returns the directions x / z and y / z of pixels of a photograph; the center of the top left one is (0, 0)."""
    matrix, distortion = opencv_lens(lens)
    # OpenCV's default number of iterations leaves errors of several pixels near the corners of wide views.
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-9)
    if lens.fisheye:
        return cv2.fisheye.undistortPoints(pixels[:, None], matrix, distortion, criteria=stop)[:, 0]
    return cv2.undistortPointsIter(pixels[:, None], matrix, distortion, np.eye(3), np.eye(3), stop)[:, 0]


def _shown_share(undistortion: Undistortion) -> float:
    """Returns the share of a view that shows something of the photograph, from a small copy of the view."""
    factor = max(1, max(undistortion.lens.size) // CHECKED_SIDE)
    matrix = undistortion.matrix.copy()
    matrix[:2] /= factor
    matrix[:2, 2] += 0.5 / factor - 0.5
    left, top, width, height = (side // factor for side in undistortion.crop)
    small = Undistortion(undistortion.lens.divided(factor), matrix, (left, top, max(1, width), max(1, height)))
    return float(small.shown.mean())


def undistortion_of(camera: Cameras) -> Undistortion | None:
    """Returns how photographs of one camera are undistorted; None if it is a perspective camera without distortion.

    Raises:
        GenLangSplatError: The lens is neither a perspective nor a fisheye lens, or a perspective view cannot show its
            photographs.
    """
    lens = lens_of(camera)
    return _undistortion(lens) if lens.fisheye or any(lens.distortion) else None


def lens_of(camera: Cameras) -> Lens:
    """Returns the lens of one camera, perspective or fisheye."""
    fx, fy, cx, cy = (float(value) for value in (camera.fx, camera.fy, camera.cx, camera.cy))
    given = camera.distortion_params
    distortion = (0.0,) * 6 if given is None else tuple(given.reshape(-1).tolist())
    kind = CameraType(int(camera.camera_type))
    return Lens(kind, int(camera.width), int(camera.height), fx, fy, cx, cy, distortion)


@lru_cache(maxsize=4096)
def _undistortion(lens: Lens) -> Undistortion:
    matrix, distortion = opencv_lens(lens)
    if lens.fisheye:
        estimate = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify
        view = estimate(matrix, distortion, lens.size, np.eye(3), balance=0)
        result = Undistortion(lens, view, (0, 0, *lens.size))
    else:
        view, (left, top, width, height) = cv2.getOptimalNewCameraMatrix(matrix, distortion, lens.size, 0)
        result = Undistortion(lens, view, (left, top, width, height))
    _check(result)
    return result


def opencv_lens(lens: Lens) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " terms"]]:
    """Returns intrinsics and distortion of the photograph as OpenCV expects them, in nerfstudio's precision."""
    matrix = np.array([[lens.fx, 0, lens.cx], [0, lens.fy, lens.cy], [0, 0, 1]], dtype=np.float32)
    # OpenCV's origin is the center of the top left pixel.
    matrix[:2, 2] -= 0.5
    k1, k2, k3, k4, p1, p2 = lens.distortion
    terms = (k1, k2, k3, k4) if lens.fisheye else (k1, k2, p1, p2, k3, 0, 0, 0)
    return matrix, np.array(terms, dtype=np.float32)


def _check(result: Undistortion) -> None:
    """Checks that a perspective view can show the photographs of a lens."""
    width, height = result.size
    fx, fy, cx, cy = result.intrinsics
    problem = ""
    if min(width, height) < 1 or not all(map(math.isfinite, (fx, fy, cx, cy))) or min(fx, fy) <= 0:
        problem = "no perspective view shows them"
    else:
        # The center is far outside of the view if OpenCV's estimate failed.
        edges = (cx / fx, (width - cx) / fx, cy / fy, (height - cy) / fy)
        angle = 2 * math.degrees(math.atan(max(map(abs, edges))))
        if angle > MAX_VIEW_ANGLE:
            problem = f"a perspective view of them has an angle of {angle:.0f} degrees, above {MAX_VIEW_ANGLE:g}"
        elif (share := _shown_share(result)) < MIN_SHOWN:
            problem = f"they fill only {share:.0%} of a perspective view"
    if problem:
        kind = "fisheye" if result.lens.fisheye else "perspective"
        focal, size = f"{result.lens.fx:g}", "{}x{}".format(*result.lens.size)
        raise GenLangSplatError(
            f"The photographs of a {kind} lens ({size} pixels, focal length {focal}) are too wide or too distorted: "
            f"{problem}. Crop the photographs and their cameras to a smaller field of view, or convert them to several "
            "perspective views each."
        )
