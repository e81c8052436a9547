"""The photographs of the gallery. They are part of the installed scikit-image and scikit-learn packages."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float

from genlangsplat_ns.errors import GenLangSplatError


@dataclass(frozen=True)
class Photograph:
    """A crop of an image file inside a Python package."""

    package: str
    file: str
    crop: tuple[int, int, int, int]
    """Left, top, right and bottom of the crop in pixels."""

    def load(self) -> Float[np.ndarray, "height width 3"]:
        """Reads the crop as colors in 0 to 1; raises GenLangSplatError if the package or the file is missing."""
        from PIL import Image

        spec = find_spec(self.package)
        path = Path(spec.origin).parent / self.file if spec and spec.origin else None
        if path is None or not path.is_file():
            raise GenLangSplatError(
                f"Found no {self.file} in the package {self.package}; the gallery needs this photograph. "
                "Install the current scikit-image and scikit-learn: pip install -U scikit-image scikit-learn"
            )
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB").crop(self.crop), dtype=np.float32) / 255


CREDITS = (
    "Photographs: cat, coffee, space shuttle and photographer from scikit-image (public domain or CC0); motorcycle "
    "from the Middlebury 2014 stereo data (Scharstein et al.), shipped by scikit-image; temple by danielbuechele and "
    "flower by vultilion (both CC BY 2.0, Flickr), shipped by scikit-learn."
)
"""Credits for the photographs, shown in every report with them."""

CAT = Photograph("skimage", "data/chelsea.png", (40, 0, 440, 300))
COFFEE = Photograph("skimage", "data/coffee.png", (60, 0, 540, 400))
SHUTTLE = Photograph("skimage", "data/astronaut.png", (345, 0, 490, 268))
PHOTOGRAPHER = Photograph("skimage", "data/camera.png", (130, 50, 410, 490))
MOTORCYCLE = Photograph("skimage", "data/motorcycle_left.png", (20, 40, 720, 480))
TEMPLE = Photograph("sklearn", "datasets/images/china.jpg", (30, 10, 620, 410))
FLOWER = Photograph("sklearn", "datasets/images/flower.jpg", (130, 30, 530, 400))
