"""Masks at three levels from SAM 2.1, with the stock package `sam2`.

SAM 2 returns three masks per prompt like SAM, and its own automatic generator takes the same grids, crops and filters.
So everything but the model is that of `sam`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.sam import Points, SamMaskGenerator
from genlangsplat_ns.features.sam_weights import check_fit, checkpoint_identity, read_checkpoint, require_checkpoint
from genlangsplat_ns.features.settings import SamSettings

CONFIGS = {
    "hiera_tiny": "configs/sam2.1/sam2.1_hiera_t.yaml",
    "hiera_small": "configs/sam2.1/sam2.1_hiera_s.yaml",
    "hiera_base_plus": "configs/sam2.1/sam2.1_hiera_b+.yaml",
    "hiera_large": "configs/sam2.1/sam2.1_hiera_l.yaml",
}
"""Files of the package with the architectures."""


class Sam2MaskGenerator(SamMaskGenerator):
    """Generates masks at three levels with a `SAM2ImagePredictor`; the default settings are LangSplat's for SAM."""

    name = "sam2"

    @classmethod
    def load(cls, settings: SamSettings, device: str, download: bool = False) -> Sam2MaskGenerator:
        """Loads the model and its weights."""
        package = import_sam2()
        if settings.model not in CONFIGS:
            raise GenLangSplatError(f"SAM 2.1 has no model {settings.model!r}. Choose one of {', '.join(CONFIGS)}.")
        path = require_checkpoint(settings, download)
        state = read_checkpoint(path, settings)
        model = package.build_sam2(CONFIGS[settings.model], device="cpu", apply_postprocessing=False)
        check_fit(path, settings, state, model.state_dict())
        model.load_state_dict(state)
        predictor = package.SAM2ImagePredictor(model.eval().requires_grad_(False).to(device))
        return cls(predictor, settings, checkpoint_identity(settings))

    @property
    def _threshold(self) -> float:
        return float(self._predictor.mask_threshold)

    def _predict(
        self, points: Points, height: int, width: int
    ) -> tuple[Float[Tensor, "num_points 3 height width"], Float[Tensor, "num_points 3"]]:
        # The calls of the package's own automatic generator; the public `predict` copies all logits to the CPU.
        predictor = self._predictor
        pixels = torch.as_tensor(points, dtype=torch.float32, device=predictor.device)
        scaled = predictor._transforms.transform_coords(pixels, normalize=True, orig_hw=(height, width))
        labels = torch.ones(len(scaled), 1, dtype=torch.int, device=predictor.device)
        logits, ratings, _ = predictor._predict(scaled[:, None], labels, multimask_output=True, return_logits=True)
        return logits, ratings

    def _forget_image(self) -> None:
        self._predictor.reset_predictor()


class Sam2Package:
    """What this module takes from the package `sam2`."""

    def __init__(self) -> None:
        from sam2.build_sam import build_sam2
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        self.build_sam2: Any = build_sam2
        self.SAM2ImagePredictor: Any = SAM2ImagePredictor


def import_sam2() -> Sam2Package:
    """Imports the package `sam2`.

    Raises:
        GenLangSplatError: It is not installed, or a package that it needs is missing.
    """
    try:
        return Sam2Package()
    except ImportError as error:
        raise GenLangSplatError(
            f"The masks sam2 need the package sam2, which cannot be imported ({error}). Install it with "
            '`pip install "genlangsplat-ns[sam2]"`, or choose the masks sam or watershed.'
        ) from error
