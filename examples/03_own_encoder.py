"""Use an encoder of your own: a class with three attributes and two methods.

    python examples/03_own_encoder.py --run gallery-run

This one knows nothing but colors. A region is the share of each color in its pixels, a text is the color of its name.
To make an encoder choosable in `ns-train`, see the recipe in CONTRIBUTING.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from matplotlib.colors import to_rgb
from torch import Tensor

from gallery_run import DEFAULT_FOLDER, gallery_run, middle_view
from genlangsplat_ns import TextQuery
from genlangsplat_ns.features.regions import ViewMasks
from genlangsplat_ns.features.watershed import WatershedMaskGenerator
from genlangsplat_ns.language.query import embed_query
from own_features import with_own_features


class ColorEncoder:
    """Embeds regions and names of colors as soft histograms over a grid of 5 x 5 x 5 colors."""

    name = "colors"
    # Say in the identity all that changes embeddings, with a version: stored features are reused by it.
    identity = "colors-5x5x5, version 1"
    embedding_dim = 125

    def __init__(self) -> None:
        steps = torch.linspace(0, 1, 5)
        self._grid = torch.cartesian_prod(steps, steps, steps)

    def _histogram(self, colors: Tensor) -> Tensor:
        """The mean closeness of colors (count, 3) to those of the grid, as a unit vector (125)."""
        closeness = torch.softmax(-torch.cdist(colors, self._grid) / 0.15, dim=1)
        return F.normalize(closeness.mean(dim=0), dim=0)

    def encode_regions(self, image: Tensor, masks: ViewMasks) -> Tensor:
        """One row per region; `image` is (height, width, 3) in bytes."""
        colors = image.cpu().float() / 255
        rows = [self._histogram(colors[mask.box][torch.from_numpy(mask.inside)]) for mask in masks.masks]
        return torch.stack(rows) if rows else torch.zeros(0, self.embedding_dim)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """One row per text; a text is a color that matplotlib knows."""
        return torch.stack([self._histogram(torch.tensor([to_rgb(text)])) for text in texts])


def main(run: Path = DEFAULT_FOLDER) -> None:
    """Asks the gallery for colors.

    Args:
        run: Folder of the example scene and its run.
    """
    encoder = ColorEncoder()
    scene = with_own_features(gallery_run(run), WatershedMaskGenerator(), encoder, run / "own-encoder")
    query = TextQuery(("orangered", "white"), negatives=("gray", "black"), threshold=0.5)
    view = middle_view(scene)
    photograph = scene.image(view)
    for answer in scene.answer(embed_query(query, encoder), scene.camera(view)).answers:
        best = answer.map >= answer.map.quantile(0.95)
        red, green, blue = photograph[best].float().mean(dim=0).int().tolist()
        print(f"{answer.text}: the best twentieth of the view has on average red {red}, green {green}, blue {blue}")


if __name__ == "__main__":
    tyro.cli(main)
