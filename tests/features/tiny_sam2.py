"""A tiny SAM 2.1 of the real package, whose files of architectures are those of the smallest published model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from genlangsplat_ns.features.sam2 import CONFIGS, Sam2Package
from genlangsplat_ns.features.settings import Sam2Settings
from tests.features.tiny_sam import NO_MASK_NMS

TINY = [
    "++model.image_encoder.trunk.embed_dim=8",
    "++model.image_encoder.trunk.stages=[1,1,2,1]",
    "++model.image_encoder.trunk.global_att_blocks=[3]",
    "++model.image_encoder.neck.backbone_channel_list=[64,32,16,8]",
    "++model.image_encoder.neck.d_model=32",
    "++model.image_encoder.neck.position_encoding.num_pos_feats=32",
]
"""Changes that make the model small; the size of its input stays."""


def tiny_package() -> Sam2Package:
    """The real package, which builds a small model for any name."""
    package = Sam2Package()
    package.build_sam2 = partial(package.build_sam2, hydra_overrides_extra=TINY)
    return package


def build_tiny2() -> Any:
    return tiny_package().build_sam2(CONFIGS["hiera_tiny"], device="cpu", apply_postprocessing=False)


def tiny2_settings(path: Path | None, **settings: Any) -> Sam2Settings:
    """Settings that accept all masks of a network with random weights."""
    loose = {"pred_iou_thresh": -1e9, "stability_score_thresh": 0.01, "stability_score_offset": 0.01}
    return Sam2Settings("hiera_tiny", path, points_per_side=3, crop_n_layers=0, **{**loose, **NO_MASK_NMS, **settings})
