"""Use masks of your own: a class that splits an image into regions at three levels.

    python examples/04_own_masks.py --run gallery-run

These are superpixels of scikit-image in three sizes. Any program that writes a number per pixel can take their place.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro
from skimage.segmentation import slic
from torch import Tensor

from gallery_run import DEFAULT_FOLDER, gallery_run, middle_view
from genlangsplat_ns.features.regions import ViewMasks
from own_features import with_own_features


class SuperpixelMasks:
    """Superpixels: about 40 subparts, 15 parts and 5 wholes per view."""

    name = "superpixels"

    def __init__(self, counts: tuple[int, int, int] = (40, 15, 5)) -> None:
        self._counts = counts

    @property
    def settings(self) -> dict[str, str | int | float]:
        """All that changes the masks, and a version; stored features are reused by them."""
        return {"version": 1, **{f"count_{number}": count for number, count in enumerate(self._counts)}}

    def generate(self, image: Tensor, kept: Tensor | None = None) -> ViewMasks:
        """Numbers the region of every pixel at each level; pixels that are not `kept` are clipped by the caller."""
        pixels = image.cpu().numpy()
        levels = [slic(pixels, n_segments=count, compactness=20, start_label=0) for count in self._counts]
        return ViewMasks.from_ids(np.stack(levels).astype(np.int32))


def main(run: Path = DEFAULT_FOLDER) -> None:
    """Asks the gallery with other masks and the encoder of its run.

    Args:
        run: Folder of the example scene and its run.
    """
    trained = gallery_run(run)
    scene = with_own_features(trained, SuperpixelMasks(), trained.encoder, run / "own-masks")
    view = middle_view(scene)
    for text in ("a cat", "a temple"):
        before, after = trained.ask(text, view), scene.ask(text, view)
        both = (before.mask & after.mask).sum() / max(1, int((before.mask | after.mask).sum()))
        print(f"{text}: best at {before.peak} with watershed masks, at {after.peak} with superpixels; IoU {both:.2f}")


if __name__ == "__main__":
    tyro.cli(main)
