"""What can be chosen about masks and encoders; light, because every command imports it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

EncoderName = Literal["auto", "conse", "openclip"]
MaskName = Literal["auto", "watershed", "sam", "langsplat"]
LevelName = Literal["subpart", "part", "whole"]


@dataclass(frozen=True)
class OpenClipSettings:
    """The image-text model of the encoder openclip."""

    model: str = "ViT-B-16"
    """Architecture by open_clip's name; choose its weights too."""
    weights: str = "laion2b_s34b_b88k"
    """open_clip's name of the weights, or a file that holds them."""
    templates: tuple[str, ...] = ("{}",)
    """Sentences a text is put into, averaged; the braces stand for the text."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Numbers it computes with: auto is fp16 on CUDA and fp32 elsewhere."""
    batch_size: int | None = None
    """Regions encoded at a time; None takes 128 on CUDA and 8 elsewhere, where more are not faster."""


@dataclass(frozen=True)
class SamSettings:
    """SAM's automatic masks with LangSplat's parameters."""

    model: str = "vit_h"
    """Size of SAM: vit_h, vit_l or vit_b."""
    checkpoint: Path | None = None
    """File with SAM's weights; None looks for the official file in the caches of this project and of torch."""
    points_per_side: int = 32
    """Prompts along each side of the picture and of each of its crops."""
    points_per_batch: int = 64
    """Prompts decoded at a time; fewer need less memory."""
    pred_iou_thresh: float = 0.7
    """Masks that SAM itself rates lower are dropped."""
    stability_score_thresh: float = 0.85
    """Masks that change more than this allows when their threshold moves are dropped."""
    stability_score_offset: float = 1.0
    """How far the threshold moves."""
    box_nms_thresh: float = 0.7
    """Of two masks of a crop whose boxes overlap more than this, the better rated one stays."""
    crop_n_layers: int = 1
    """Layers of crops looked at beside the whole picture: layer i has 4^i of them."""
    crop_nms_thresh: float = 0.7
    """Of two masks of different crops whose boxes overlap more than this, that of the smaller crop stays."""
    crop_overlap_ratio: float = 512 / 1500
    """How far crops overlap, as a share of the picture's shorter side."""
    crop_n_points_downscale_factor: int = 1
    """Divides the prompts along a side with every layer of crops."""
    min_mask_region_area: int = 100
    """Holes and islands of masks with fewer pixels are mended."""
    mask_nms_iou: float = 0.8
    """Of two masks that overlap more than this, the better one stays."""
    mask_nms_score: float = 0.7
    """Masks whose rating times stability is not above this are dropped."""
    mask_nms_inner: float = 0.5
    """Masks that lie within another by more than this (one minus the product of both shares) are dropped."""


@dataclass
class FeatureSettings:
    """How views become regions and embeddings."""

    encoder: EncoderName = "auto"
    """Image-text encoder: conse is embedded, openclip needs weights; auto takes openclip on CUDA if it has them."""
    masks: MaskName = "auto"
    """Masks: watershed needs no weights, sam does, langsplat are converted files; auto takes sam on CUDA if it can."""
    levels: tuple[LevelName, ...] = ("subpart", "part", "whole")
    """Mask levels to extract; the others stay empty, and queries leave them out."""
    open_clip: OpenClipSettings = field(default_factory=OpenClipSettings)
    """Settings of openclip."""
    sam: SamSettings = field(default_factory=SamSettings)
    """Settings of sam."""
    download_weights: bool = False
    """Fetch missing weights of sam and openclip; without it no weights are ever downloaded."""
