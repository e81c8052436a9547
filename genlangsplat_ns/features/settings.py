"""Settings of masks and encoders. Imports no torch, because every command imports this module."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from genlangsplat_ns.utils.stored_settings import StoredSettings

EncoderName = Literal["auto", "conse", "openclip"]

MaskName = Literal["auto", "watershed", "sam", "sam2", "langsplat"]
LevelName = Literal["subpart", "part", "whole"]


@dataclass(frozen=True)
class OpenClipSettings:
    """The image-text model of the encoder openclip."""

    model: str = "ViT-B-16"
    """open_clip's name of the architecture; set the weights too."""
    weights: str = "laion2b_s34b_b88k"
    """open_clip's name of the weights, or a weights file."""
    templates: tuple[str, ...] = ("{}",)
    """Prompt templates whose embeddings are averaged; {} is replaced by the text."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Floating-point format: auto is fp16 on CUDA and fp32 elsewhere."""
    batch_size: int | None = None
    """Regions per batch; None is 128 on CUDA and 8 elsewhere, where larger batches are not faster."""


@dataclass(frozen=True)
class SamSettings:
    """SAM's automatic masks with LangSplat's parameters."""

    model: str = "vit_h"
    """SAM architecture: vit_h, vit_l or vit_b."""
    checkpoint: Path | None = None
    """File with SAM's weights; None uses the official file from the cache of this project or of torch."""
    points_per_side: int = 32
    """Point prompts along each side of the image and of each crop."""
    points_per_batch: int = 64
    """Prompts per batch; smaller batches need less memory."""
    pred_iou_thresh: float = 0.7
    """Minimum predicted IoU of a mask."""
    stability_score_thresh: float = 0.85
    """Minimum stability of a mask: IoU of the masks at a raised and a lowered threshold."""
    stability_score_offset: float = 1.0
    """Offset of the threshold in the stability score."""
    box_nms_thresh: float = 0.7
    """Box IoU above which the lower rated of two masks of one crop is removed."""
    crop_n_layers: int = 1
    """Layers of crops in addition to the whole image; layer i has 4^i crops."""
    crop_nms_thresh: float = 0.7
    """Box IoU above which the mask of the larger of two crops is removed."""
    crop_overlap_ratio: float = 512 / 1500
    """Overlap of crops as a fraction of the image's shorter side."""
    crop_n_points_downscale_factor: int = 1
    """Factor by which the prompts along a side decrease with each layer of crops."""
    min_mask_region_area: int = 100
    """Holes and islands of masks with fewer pixels are removed."""
    mask_nms_iou: float = 0.8
    """Mask IoU above which the lower scored of two masks is removed."""
    mask_nms_score: float = 0.7
    """Predicted IoU times stability must be above this."""
    mask_nms_inner: float = 0.5
    """A mask inside another one is removed if the product of their overlap fractions is below this."""


@dataclass(frozen=True)
class Sam2Settings(SamSettings):
    """SAM 2.1's automatic masks with the parameters of sam."""

    model: str = "hiera_large"
    """SAM 2.1 architecture: hiera_large, hiera_base_plus, hiera_small or hiera_tiny."""
    checkpoint: Path | None = None
    """File with SAM 2.1's weights; None uses the official file from the cache of this project or of torch."""


@dataclass
class FeatureSettings(StoredSettings):
    """Masks, encoder and levels of the language features."""

    encoder: EncoderName = "auto"
    """Image-text encoder: conse needs no download, openclip needs weights; auto is openclip on CUDA if they exist."""
    masks: MaskName = "auto"
    """Masks: watershed, sam or sam2 (need weights), langsplat (converted); auto is sam on CUDA if its weights exist."""
    levels: tuple[LevelName, ...] = ("subpart", "part", "whole")
    """Mask levels to extract; the others stay empty and queries ignore them."""
    open_clip: OpenClipSettings = field(default_factory=OpenClipSettings)
    """Settings of openclip."""
    sam: SamSettings = field(default_factory=SamSettings)
    """Settings of sam."""
    sam2: Sam2Settings = field(default_factory=Sam2Settings)
    """Settings of sam2."""
    download_weights: bool = False
    """Download missing weights of sam, sam2 and openclip; without it nothing is downloaded."""

    def sam_settings(self, masks: str) -> SamSettings:
        """Returns the settings of these masks: those of sam2, or else those of sam."""
        return self.sam2 if masks == "sam2" else self.sam
