"""The model part of the extraction benchmark: mask suppression, CLIP, and the embedded pair."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genlangsplat_ns.features.encoders import load_encoder
from genlangsplat_ns.features.extract import view_features
from genlangsplat_ns.features.mask_nms import mask_nms
from genlangsplat_ns.features.masks import load_mask_generator
from genlangsplat_ns.features.open_clip_encoder import OpenClipEncoder
from genlangsplat_ns.features.regions import RegionMask, ViewMasks
from genlangsplat_ns.features.settings import OpenClipSettings
from genlangsplat_ns.utils.matrix_products import onednn_matmul
from genlangsplat_ns.utils.progress import track
from support.benchmark import Row
from support.timing import Timing, repeat

HEIGHT, WIDTH = 731, 988
"""Size of LERF's views."""

SMALL = (270, 480)
"""Size of the views of gen-langsplat-lite on the fox scene."""

THRESHOLDS = (0.8, 0.7, 0.5)
"""LangSplat's thresholds of intersection over union, score and inner share."""


def blobs(count: int, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> tuple[list[RegionMask], torch.Tensor]:
    """Ellipses of many sizes with scores, like SAM's masks before suppression; a third are near-copies of others."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    masks: list[RegionMask] = []
    ellipses: list[np.ndarray] = []
    for _ in range(count):
        if ellipses and rng.uniform() < 1 / 3:
            ellipse = ellipses[rng.integers(len(ellipses))] + rng.normal(0, 3, 4)
        else:
            ellipse = np.array([*rng.uniform(0, [height, width]), *np.exp(rng.uniform(2.0, 5.5, 2))])
        ellipses.append(ellipse)
        y, x, high, wide = ellipse[0], ellipse[1], *np.abs(ellipse[2:]) + 2
        pixels = ((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 <= 1
        pixels[int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))] = True
        masks.append(RegionMask.from_pixels(0, pixels))
    return masks, torch.from_numpy(rng.uniform(0.6, 1.0, count))


def plain_nms(masks: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """The double loop over all pairs of dense masks, as in LangSplat."""
    iou_threshold, score_threshold, inner_threshold = THRESHOLDS
    order = scores.argsort(descending=True, stable=True)
    count = len(order)
    ordered = masks[order]
    areas = ordered.sum(dim=(1, 2))
    iou, inner = torch.zeros(count, count), torch.zeros(count, count)
    for i in range(count):
        for j in range(i, count):
            intersection = torch.logical_and(ordered[i], ordered[j]).sum()
            union = torch.logical_or(ordered[i], ordered[j]).sum()
            iou[i, j] = intersection / union
            share_i, share_j = intersection / areas[i], intersection / areas[j]
            if share_i < 0.5 and share_j >= 0.85:
                inner[i, j] = 1 - share_i * share_j
            if share_i >= 0.85 and share_j < 0.5:
                inner[j, i] = 1 - share_i * share_j
    iou.fill_diagonal_(0.0)
    keep = torch.empty(count, dtype=torch.bool)
    keep[order] = (
        (scores[order] > score_threshold)
        & (iou.max(dim=0).values <= iou_threshold)
        & (inner.max(dim=0).values <= 1 - inner_threshold)
    )
    return keep


def measure_nms(count: int, repetitions: int) -> Row:
    """Runs both methods on the same masks, and the fast one in its own process for its peak memory."""
    masks, scores = blobs(count)
    dense = torch.from_numpy(np.stack([mask.pixels(HEIGHT, WIDTH) for mask in masks]))
    fast = repeat(repetitions, lambda: mask_nms(masks, scores, *THRESHOLDS))
    start = time.perf_counter()
    expected = plain_nms(dense, scores)
    plain = 1e3 * (time.perf_counter() - start)
    kept = mask_nms(masks, scores, *THRESHOLDS)
    return {
        "part": "mask NMS",
        "masks": count,
        "fast": fast.row(),
        "plain_ms": plain,
        "survivors": int(kept.sum()),
        "identical": bool((kept == expected).all()),
    }


def random_clip(folder: Path) -> OpenClipEncoder:
    """ViT-B-16 with random weights, loaded by the encoder's own code."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    weights = folder / "random.safetensors"
    save_file(dict(open_clip.create_model("ViT-B-16").state_dict()), weights)
    return OpenClipEncoder(OpenClipSettings(weights=str(weights)))


def one_at_a_time(encoder: OpenClipEncoder, image: np.ndarray, masks: Sequence[RegionMask]) -> torch.Tensor:
    """LangSplat's crops (zeroed background, centered square, OpenCV's scaling), passed through CLIP one by one."""
    import cv2

    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    rows = []
    with torch.no_grad():
        for mask in masks:
            cut = image[mask.box] * mask.inside[..., None]
            height, width = mask.inside.shape
            side = max(height, width)
            square = np.zeros((side, side, 3), dtype=np.uint8)
            top, left = (side - height) // 2, (side - width) // 2
            square[top : top + height, left : left + width] = cut
            pixels = torch.from_numpy(cv2.resize(square, (224, 224))).permute(2, 0, 1).float() / 255
            rows.append(encoder._model.encode_image(((pixels - mean) / std)[None], normalize=True)[0])
    return torch.stack(rows)


def measure_encoding(count: int, blocks: int) -> Row:
    """Times the encoder on the same crops, and one crop at a time, in alternating blocks."""
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    masks = blobs(count)[0]
    times: dict[str, list[float]] = {"batched": [], "one at a time, oneDNN": [], "one at a time": []}
    worst = 1.0
    with tempfile.TemporaryDirectory() as folder:
        encoder = random_clip(Path(folder))
        one_at_a_time(encoder, image, masks[:2])
        for block in np.array_split(np.arange(count), blocks):
            chosen = [masks[index] for index in block]
            results = {}
            for name, seconds in times.items():
                start = time.perf_counter()
                if name == "batched":
                    results[name] = encoder.encode_regions(torch.from_numpy(image), ViewMasks(HEIGHT, WIDTH, 1, chosen))
                elif name == "one at a time":
                    results[name] = one_at_a_time(encoder, image, chosen)
                else:
                    with onednn_matmul():
                        results[name] = one_at_a_time(encoder, image, chosen)
                seconds.append(1e3 * (time.perf_counter() - start) / len(chosen))
            cosines = torch.cosine_similarity(results["batched"], results["one at a time"])
            worst = min(worst, float(cosines.min()))
    rows = {name: Timing(milliseconds, []).row() for name, milliseconds in times.items()}
    return {"part": "CLIP crops", "crops": count, "each": rows, "lowest_cosine": worst}


def read_images(folder: Path | None, count: int) -> list[tuple[str, torch.Tensor]]:
    """The images of a folder, or those of scikit-image, at the size of the lite method."""
    if folder is None:
        from skimage import data

        names = ("astronaut", "chelsea", "coffee", "rocket", "cat", "hubble_deep_field")
        pictures = [(name, Image.fromarray(getattr(data, name)()).convert("RGB")) for name in names]
    else:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        pictures = [(path.name, Image.open(path).convert("RGB")) for path in paths[:count]]
    return [(name, torch.from_numpy(np.array(picture.resize(SMALL)))) for name, picture in pictures]


def measure_embedded(images: list[tuple[str, torch.Tensor]]) -> Row:
    """Times the embedded encoder and masks per image, called as in extraction."""
    masks, encoder = load_mask_generator("watershed"), load_encoder("conse")
    view_features(images[0][1], masks, encoder)
    watches = []
    for _, image in track(images, "Embedded encoder"):
        start = time.perf_counter()
        view_features(image, masks, encoder)
        watches.append(1e3 * (time.perf_counter() - start))
    return {"part": "conse + watershed", "size": list(SMALL), "each": Timing(watches, []).row()}
