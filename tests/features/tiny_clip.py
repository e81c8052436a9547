"""A tiny CLIP that is temporarily registered in open_clip, and LangSplat's preprocessing of single crops."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import open_clip
import open_clip.factory
import open_clip.pretrained
import torch
from safetensors.torch import save_file

from genlangsplat_ns.features.regions import ViewMasks
from genlangsplat_ns.features.settings import OpenClipSettings

DIM, SIDE = 16, 32

MODEL, WIDER_MODEL = "tiny-clip", "tiny-clip-wide"

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's normalization, which LangSplat uses."""

DEFAULT_SOURCE = "https://huggingface.co/laion/CLIP-ViT-B-16-laion2B-s34B-b88K"


def model_config(vision_width: int) -> dict[str, object]:
    return {
        "embed_dim": DIM,
        "vision_cfg": {"image_size": SIDE, "layers": 2, "width": vision_width, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }


def tiny_clip_models(folder: Path) -> Path:
    """Registers two tiny models in open_clip, and writes weights `a.pt`, `a.safetensors`, `b.pt` of the first."""
    (folder / f"{MODEL}.json").write_text(json.dumps(model_config(32)))
    (folder / f"{WIDER_MODEL}.json").write_text(json.dumps(model_config(48)))
    open_clip.add_model_config(folder)
    for seed, name in enumerate("ab"):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            state = open_clip.create_model(MODEL).state_dict()
        # Larger weights make the output of an untrained model depend on all pixels.
        for key, values in state.items():
            if key.startswith("visual.transformer") and values.ndim == 2:
                values *= 3
        torch.save(state, folder / f"{name}.pt")
    save_file(torch.load(folder / "a.pt"), folder / "a.safetensors")
    return folder


def settings_for(weights: Path, **others: object) -> OpenClipSettings:
    return OpenClipSettings(model=MODEL, weights=str(weights), **others)  # type: ignore[arg-type]


def langsplat_crop(image: np.ndarray, mask: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Crops one region like LangSplat's preprocessing, in bytes."""
    image = image.copy()
    image[~mask] = 0
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    cut = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = cut.shape[:2]
    length = max(height, width)
    square = np.zeros((length, length, 3), dtype=np.uint8)
    if height > width:
        square[:, (height - width) // 2 : (height - width) // 2 + width] = cut
    else:
        square[(width - height) // 2 : (width - height) // 2 + height] = cut
    return cv2.resize(square, (SIDE, SIDE), interpolation=interpolation)


def plain_embeddings(
    crops: list[np.ndarray], weights: Path, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD
) -> torch.Tensor:
    """Embeds crops one by one."""
    model = open_clip.create_model(MODEL, pretrained=str(weights)).eval()
    rows = []
    for crop in crops:
        pixels = ((crop / 255.0 - np.array(mean)) / np.array(std)).transpose(2, 0, 1)
        with torch.no_grad():
            row = model.encode_image(torch.from_numpy(pixels[None]).float())[0]
        rows.append(row / row.norm())
    return torch.stack(rows)


def crops_of(image: torch.Tensor, masks: ViewMasks, interpolation: int = cv2.INTER_LINEAR) -> list[np.ndarray]:
    return [langsplat_crop(image.numpy(), mask.pixels(90, 120), interpolation) for mask in masks.masks]
