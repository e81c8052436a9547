"""Autoencoders that are not trained on the words and objects of the composed scenes.

They differ in their training data, which has little influence: latents only need to distinguish the regions of a scene,
and the scene memory stores their embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.language.architectures import linear_maps
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, initialize_from_pca
from genlangsplat_ns.utils.progress import track
from support.composed_objects import CATALOG, read_words
from support.composed_run import ENCODER
from support.composed_scene import ComposedScene, unlike_looks

DOMAINS = ("watches", "photographs", "texts", "things")
"""The domains: real image vectors of watches, of photographs, real text vectors, and synthetic image vectors."""

RECIPES = ("images", *DOMAINS, "words")
"""`images` is trained on photographs, watches and synthetic objects; each of `DOMAINS` on one kind of vectors, except
those of `held_out`; `words` decodes a synthetic image vector to the meaning of its word.
"""

ARCHITECTURE = "residual"

COPIES = 12
"""Synthetic image vectors per foreign word."""

RIDGE = 0.1
"""Ridge parameter of the regression on words, relative to the mean variance of image vectors."""

WORD_LENGTH = 0.2
"""Length of a word's direction relative to the mean photograph in the targets of `words`, about that of CLIP."""

STEPS, BATCH_SIZE, LEARNING_RATE = 400, 256, 1e-3


@dataclass(frozen=True)
class ForeignVectors:
    """Training data of the autoencoders. Nothing in it belongs to an object of the catalog.

    Attributes:
        words: LVIS names of other objects.
        texts: Their real unit CLIP vectors.
        photographs: Real unit CLIP vectors of Flickr photographs that are not nearest to an object of the catalog.
        watches: The same for images of watches.
        things: Synthetic image vectors, `COPIES` per word; the order of the words repeats.
        directions: The unit direction of the word of each synthetic vector.
    """

    words: tuple[str, ...]
    texts: Float[Tensor, "num_words dim"]
    photographs: Float[Tensor, "num_photographs dim"]
    watches: Float[Tensor, "num_watches dim"]
    things: Float[Tensor, "num_things dim"]
    directions: Float[Tensor, "num_things dim"]

    @property
    def pictures(self) -> Float[Tensor, "num_pictures dim"]:
        """All real image vectors."""
        return torch.cat([self.photographs, self.watches])

    def domain(self, name: str) -> Float[Tensor, "count dim"]:
        """All vectors of one of `DOMAINS`."""
        vectors: Tensor = getattr(self, name)
        return vectors


def held_out(count: int) -> Tensor:
    """Mask of the vectors of a domain that are held out of training: every fourth."""
    return torch.arange(count) % 4 == 3


def foreign_vectors(data: Path, scene: ComposedScene) -> ForeignVectors:
    """Collects vectors that are unrelated to the whole catalog.

    Args:
        data: The folder of all data sets.
        scene: Any composed scene, for the mean text of the catalog and the spread of photographs.
    """
    words, vectors = read_words(data)
    own = torch.tensor([words.index(item.word) for item in CATALOG])
    watches = np.load(data / "clip_embeddings" / "watches_696_vitb32.npy").astype(np.float32)
    pictures = scene.photographs, F.normalize(torch.from_numpy(watches), dim=1)
    photographs, watches = (rows[~torch.isin((rows @ vectors.T).argmax(dim=1), own)] for rows in pictures)
    kept = [row for row in range(len(words)) if row not in own]
    texts = vectors[kept]
    things = unlike_looks(scene, texts.repeat(COPIES, 1), np.random.default_rng(99))
    directions = F.normalize(texts - scene.text_mean, dim=1).repeat(COPIES, 1)
    return ForeignVectors(tuple(words[row] for row in kept), texts, photographs, watches, things, directions)


def train_on(foreign: ForeignVectors, recipe: str, latent_dim: int, steps: int = STEPS) -> Autoencoder:
    """Trains an autoencoder on foreign vectors.

    Args:
        foreign: The training data.
        recipe: One of `RECIPES`.
        latent_dim: Width D of the latents.
        steps: Optimizer steps.
    """
    identity = AutoencoderIdentity(f"{recipe}-{latent_dim}", ENCODER, 512, latent_dim, ARCHITECTURE, "foreign vectors")
    torch.manual_seed(0)
    autoencoder = Autoencoder(identity).train()
    if recipe == "words":
        inputs = foreign.things
        targets = F.normalize(foreign.pictures.mean(dim=0) + WORD_LENGTH * foreign.directions, dim=1)
        _start_from_words(autoencoder, foreign)
    else:
        if recipe == "images":
            inputs = torch.cat([foreign.pictures.repeat(2, 1), foreign.things])
        else:
            inputs = foreign.domain(recipe)
            inputs = inputs[~held_out(len(inputs))]
        targets = inputs
        initialize_from_pca(autoencoder, inputs[torch.randperm(len(inputs))[:4096]])
    center = targets.mean(dim=0) if recipe == "words" else torch.zeros(inputs.shape[1])
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1, pct_start=0.1)
    for _ in track(range(steps), f"Training {latent_dim} on {recipe}"):
        rows = torch.randint(len(inputs), (BATCH_SIZE,))
        reconstructions = autoencoder(inputs[rows])
        # The common part of all words must not dominate their differences.
        cosines = F.cosine_similarity(reconstructions - center, targets[rows] - center, dim=-1)
        loss = 1 - cosines.mean()
        if recipe == "words":
            loss = loss + 10 * (1 - F.cosine_similarity(reconstructions, targets[rows], dim=-1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return autoencoder.eval().requires_grad_(False)


@torch.no_grad()
def _start_from_words(autoencoder: Autoencoder, foreign: ForeignVectors) -> None:
    """Initializes the linear maps with the regression of words on image vectors, in its principal directions."""
    maps = linear_maps(autoencoder.encoder, autoencoder.decoder)
    assert maps is not None, "the architecture has linear maps"
    down, up = maps
    mean = foreign.things.mean(dim=0)
    spread = foreign.things - mean
    moments = spread.T @ spread / len(spread)
    damping = RIDGE * moments.trace() / len(moments) * torch.eye(len(moments))
    regression = torch.linalg.solve(moments + damping, spread.T @ foreign.directions / len(spread))
    basis = torch.linalg.svd(spread @ regression, full_matrices=False)[2][: down.out_features].T
    down.weight.copy_((regression @ basis).T)
    down.bias.copy_(-mean @ regression @ basis)
    up.weight.copy_(WORD_LENGTH * basis)
    up.bias.copy_(foreign.pictures.mean(dim=0))
