"""Extraction with a fast fake encoder, and access to the stored features."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlangsplat_ns.datamanager import GenLangSplatDataManager
from genlangsplat_ns.features.encoders import ConSEEncoder, encoder_identity
from genlangsplat_ns.features.regions import ViewMasks
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.features.store import ViewFeatures
from genlangsplat_ns.scene.extraction import open_views
from genlangsplat_ns.views.settings import ViewSettings

SETTINGS = FeatureSettings(encoder="conse", masks="watershed")


class ColorEncoder:
    """A fake for conse, which takes seconds per view: embeds colors by a fixed random projection."""

    name = "conse"
    identity = encoder_identity("conse")
    embedding_dim = ConSEEncoder.embedding_dim
    projection = np.random.default_rng(0).standard_normal((6, embedding_dim)).astype(np.float32)

    def encode_regions(self, image: Tensor, masks: ViewMasks) -> Tensor:
        light = image.numpy().astype(np.float32) / 255
        colors = np.concatenate([light + 0.05, light**2], axis=-1)
        means = [colors[mask.pixels(*light.shape[:2])].mean(axis=0) for mask in masks.masks]
        embeddings = np.stack(means) @ self.projection
        return torch.from_numpy(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        raise NotImplementedError("extraction asks for no texts")


def views_of(data: Path, max_image_side: int | None = None, **settings: Any) -> GenLangSplatDataManager:
    return open_views(ViewSettings(data=data, max_image_side=max_image_side), replace(SETTINGS, **settings))


def stored(folder: Path) -> dict[str, bytes]:
    """Keys and contents of all feature files below a folder."""
    return {path.stem: path.read_bytes() for path in folder.rglob("[!.]*.safetensors")}


def all_features(views: GenLangSplatDataManager) -> dict[str, ViewFeatures]:
    """The features of all views by name."""
    return {views.view_name(*view): views.language_features(*view) for view in views.all_views()}


def rewrite(scene: Path, **changes: Any) -> dict[str, Any]:
    """Changes entries of transforms.json and returns its new content."""
    path = scene / "transforms.json"
    transforms = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(transforms))
    return transforms


def share_names(scene: Path) -> None:
    """Moves the photographs into two folders in which they have the same names."""
    names = {}
    for number in range(10):
        old = f"images/{number + 1:04d}.png"
        names[old] = f"images/{'left' if number < 5 else 'right'}/{number % 5}.png"
        (scene / names[old]).parent.mkdir(exist_ok=True)
        shutil.move(scene / old, scene / names[old])
    transforms = json.loads((scene / "transforms.json").read_text())
    lists = {key: [names[name] for name in transforms[key]] for key in transforms if key.endswith("_filenames")}
    frames = [{**frame, "file_path": names[frame["file_path"]]} for frame in transforms["frames"]]
    rewrite(scene, frames=frames, **lists)
