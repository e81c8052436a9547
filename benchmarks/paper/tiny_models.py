"""SAM and CLIP as small networks with random weights, in files of the form, name and place of the published ones.

Thresholds, file formats, hashes and the cache are those of the real weights. Only the networks are smaller, and what
they see means nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from segment_anything import sam_model_registry
from segment_anything.build_sam import _build_sam

from genlangsplat_ns.features import published_weights
from genlangsplat_ns.features.sam_weights import OFFICIAL_CHECKPOINTS, OfficialCheckpoint
from genlangsplat_ns.features.settings import OpenClipSettings, SamSettings
from genlangsplat_ns.utils.files import atomic_folder, file_sha256

SAM_FILE = OFFICIAL_CHECKPOINTS["vit_h"].file_name
CLIP_FILE = next(iter(published_weights.CLIP_FILES))

CLIP_CONFIG = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 224, "layers": 1, "width": 32, "patch_size": 32, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
"""ViT-B-16 with fewer and smaller parts, and larger patches."""


def build_sam(checkpoint: str | None = None) -> Any:
    """Builds SAM with a small image encoder, like the functions in SAM's registry."""
    return _build_sam(
        encoder_embed_dim=16,
        encoder_depth=1,
        encoder_num_heads=2,
        encoder_global_attn_indexes=[],
        checkpoint=checkpoint,
    )


def write_weights(folder: Path) -> None:
    """Writes random weights of both networks under the published names, unless they are there."""
    if folder.is_dir():
        return
    with atomic_folder(folder) as temporary, torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(_confident(build_sam().state_dict()), temporary / SAM_FILE)
        (temporary / "configs").mkdir()
        config = temporary / "configs" / f"{OpenClipSettings().model}.json"
        config.write_text(json.dumps(CLIP_CONFIG), encoding="utf-8")
        open_clip.add_model_config(config.parent)
        state = open_clip.create_model(OpenClipSettings().model).state_dict()
        save_file({name: value.contiguous() for name, value in state.items()}, temporary / CLIP_FILE)


def _confident(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Makes a random SAM sure of its masks, so that it passes the thresholds of the real one."""
    state["mask_decoder.iou_prediction_head.layers.2.bias"] += 1.0
    for name, value in state.items():
        if name.startswith("mask_decoder.output_hypernetworks_mlps") and ".layers.2." in name:
            value *= 1000.0
    return state


def install_models(folder: Path) -> None:
    """Makes this process take the networks and the hashes of the random weights for those of the real ones."""
    size = (folder / SAM_FILE).stat().st_size / 1e9
    name = SamSettings().model
    sam_model_registry[name] = build_sam
    OFFICIAL_CHECKPOINTS[name] = OfficialCheckpoint(SAM_FILE, file_sha256(folder / SAM_FILE), size)
    open_clip.add_model_config(folder / "configs")
    published_weights.CLIP_FILES[CLIP_FILE] = file_sha256(folder / CLIP_FILE)
