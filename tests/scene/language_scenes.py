"""A small scene in the language phase that needs no photographs, features or encoder weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import torch
import torch.nn.functional as F
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox
from torch import Tensor

from genlangsplat_ns.datamanager import GenLangSplatDataManager
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.masks import ViewMasks
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.language.memory import SceneMemory
from genlangsplat_ns.language.named_autoencoders import scene_autoencoder
from genlangsplat_ns.lifting.average import LiftedLatents
from genlangsplat_ns.model import GenLangSplatModel, GenLangSplatModelConfig
from genlangsplat_ns.scene.language_scene import LanguageScene

NUM_GAUSSIANS = 600
UNSEEN = 50
"""Number of Gaussians behind all others, with zero latents."""


def two_clouds(sh_degree: int = 0, **settings: Any) -> GenLangSplatModel:
    """One cloud of Gaussians on the left and one on the right, each with its own latent; a few have zero latents."""
    config = GenLangSplatModelConfig(
        sh_degree=sh_degree, random_init=True, num_random=NUM_GAUSSIANS, random_scale=1.0, **settings
    )
    extractor = FeatureExtractor(FeatureSettings(encoder="conse", masks="watershed"))
    autoencoder = scene_autoencoder(config.autoencoder, extractor.encoder_identity, extractor.embedding_dim)
    torch.manual_seed(0)
    box = SceneBox(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))
    model = config.setup(
        scene_box=box,
        num_train_data=1,
        metadata={},
        autoencoder=autoencoder,
        load_text_encoder=extractor.load_text_encoder,
    )
    left = torch.arange(NUM_GAUSSIANS) < NUM_GAUSSIANS // 2
    model.means.data[:, 0] += torch.where(left, -0.7, 0.7)
    model.opacities.data += 3.0
    if sh_degree:
        model.features_rest.data.normal_(std=0.2)
    generator = torch.Generator().manual_seed(1)
    # The levels differ slightly; the texts match the last level.
    kinds = torch.randn(2, 1, 16, generator=generator) + 0.2 * torch.randn(2, 3, 16, generator=generator)
    kinds = F.normalize(kinds, dim=-1)
    latents = kinds[(~left).long()].clone()
    latents[-UNSEEN:] = 0.0
    model.enter_language_phase(0)
    model.set_latents(LiftedLatents(latents, torch.ones(NUM_GAUSSIANS, 3)))
    return model.eval()


def memory_of_clouds(model: GenLangSplatModel, num_keys: int = 20, **changes: Any) -> SceneMemory:
    """A plausible memory of the scene: a key for each cloud and level, and random keys, with random values.

    Args:
        model: The scene.
        num_keys: Total number of keys.
        changes: `encoder`, `latent_dim` or `embedding_dim` of another scene.
    """
    identity = model.field_head.autoencoder.identity
    dims = {name: changes.get(name, getattr(identity, name)) for name in ("encoder", "latent_dim", "embedding_dim")}
    generator = torch.Generator().manual_seed(5)
    keys = torch.randn(num_keys, dims["latent_dim"], generator=generator)
    values = torch.randn(num_keys, dims["embedding_dim"], generator=generator)
    if dims["latent_dim"] == model.latents.shape[2]:
        keys[:6] = model.latents.detach()[[0, NUM_GAUSSIANS // 2]].flatten(0, 1)
    log_masses = torch.full((num_keys,), -math.log(num_keys))
    return SceneMemory(F.normalize(keys, dim=-1), log_masses, F.normalize(values, dim=-1), 60.0, dims["encoder"])


class NamedDirections:
    """Embeds `left` and `right` as the decoded latents of the clouds, and other texts as random directions."""

    name = identity = "directions"
    embedding_dim = 384

    def __init__(self, model: GenLangSplatModel) -> None:
        level = model.latents[:, 2].detach()
        self.known = {
            "left": model.field.decode(level[:1])[0],
            "right": model.field.decode(level[NUM_GAUSSIANS // 2][None])[0],
        }

    def encode_regions(self, image: Tensor, masks: ViewMasks) -> Tensor:
        """Not used."""
        raise NotImplementedError

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        def vector(text: str) -> Tensor:
            generator = torch.Generator().manual_seed(sum(map(ord, text)))
            return self.known.get(text, F.normalize(torch.randn(384, generator=generator), dim=0))

        return torch.stack([vector(text) for text in texts])


def some_camera(width: int = 48, height: int = 32) -> Cameras:
    """A camera that sees both clouds."""
    pose = torch.eye(4)[:3]
    pose[2, 3] = 3.0
    return Cameras(pose[None], fx=0.7 * width, fy=0.7 * width, cx=width / 2, cy=height / 2, width=width, height=height)


def language_scene(model: GenLangSplatModel | None = None) -> LanguageScene:
    """The scene with two equal views."""
    model = model or two_clouds()
    encoder = NamedDirections(model)
    datamanager = create_autospec(GenLangSplatDataManager, instance=True)
    datamanager.extractor = SimpleNamespace(load_text_encoder=lambda: encoder)
    datamanager.dataset.side_effect = lambda split: range(1)
    datamanager.view_name.side_effect = lambda split, index: f"{split}.png"
    datamanager.camera.side_effect = lambda split, index: some_camera()
    return LanguageScene(model, datamanager)
