"""Sharpness of pictures, to compare pictures of the same things with each other."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

COMPARED_SIDE = 640
"""Long side in pixels at which pictures are compared."""


def sharpness(gray: UInt8[np.ndarray, "height width"]) -> float:
    """Returns the variance of the Laplacian of a gray picture, which blur lowers.

    Pictures with a long side of more than `COMPARED_SIDE` pixels are scaled down to it.
    """
    import cv2

    height, width = gray.shape
    if max(height, width) > COMPARED_SIDE:
        scale = COMPARED_SIDE / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(gray, cv2.CV_64F).var())
