"""A tiny SAM, and settings that accept all its masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segment_anything.build_sam import _build_sam

from genlangsplat_ns.features.settings import SamSettings

NO_MASK_NMS: dict[str, Any] = {"mask_nms_iou": 1.0, "mask_nms_score": -1.0, "mask_nms_inner": 0.0}
"""Thresholds with which LangSplat's suppression removes nothing."""


def build_tiny() -> Any:
    return _build_sam(encoder_embed_dim=16, encoder_depth=1, encoder_num_heads=2, encoder_global_attn_indexes=[])


def build_other() -> Any:
    return _build_sam(encoder_embed_dim=32, encoder_depth=1, encoder_num_heads=2, encoder_global_attn_indexes=[])


def tiny_settings(path: Path | None, **settings: Any) -> SamSettings:
    """Settings that accept all masks of a network with random weights."""
    loose = {"pred_iou_thresh": -1e9, "stability_score_thresh": 0.01, "stability_score_offset": 0.01}
    return SamSettings("vit_tiny", path, points_per_side=4, crop_n_layers=0, **{**loose, **NO_MASK_NMS, **settings})
