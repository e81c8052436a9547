"""Autoencoders that have never seen a word or a thing of the composed scenes.

They differ in what they were trained on, because it matters little: latents only tell a scene's regions apart, and its
memory says what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from composed_objects import CATALOG, read_words
from composed_run import ENCODER
from composed_scene import ComposedScene, unlike_looks
from genlangsplat_ns.language.architectures import linear_maps
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, initialize_from_pca
from genlangsplat_ns.utils.progress import track

DOMAINS = ("watches", "photographs", "texts", "things")
"""One kind of vectors each: real image vectors of watches, of photographs, real text vectors, made-up image vectors."""

RECIPES = ("images", *DOMAINS, "words")
"""`images` keeps photographs, watches and made-up things; each of `DOMAINS` one kind of vectors alone, but for those
that `held_out` names; `words` of a made-up image vector what its word says."""

ARCHITECTURE = "residual"

COPIES = 12
"""Made-up image vectors of each foreign word."""

RIDGE = 0.1
"""Part of the mean variance of image vectors that the regression on words is damped by."""

WORD_LENGTH = 0.2
"""Length of a word's direction beside the mean photograph in what the recipe `words` decodes to, about that of CLIP."""

STEPS, BATCH_SIZE, LEARNING_RATE = 400, 256, 1e-3


@dataclass(frozen=True)
class ForeignVectors:
    """What autoencoders may see: nothing of it belongs to an object of the catalog.

    Attributes:
        words: LVIS names of other things.
        texts: Their real unit CLIP vectors.
        photographs: Real unit CLIP vectors of Flickr photographs that come nearest to none of the catalog.
        watches: The same of pictures of watches.
        things: Made-up image vectors, `COPIES` of each word, in the words' order again and again.
        directions: The unit direction of the word of each thing.
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
    """Which of so many vectors of a domain no autoencoder of that domain is trained on: every fourth."""
    return torch.arange(count) % 4 == 3


def foreign_vectors(data: Path, scene: ComposedScene) -> ForeignVectors:
    """Gathers what is foreign to the whole catalog.

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
        foreign: What it sees.
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
        # What all words share must not drown what tells them apart.
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
    """Starts the linear maps as the regression of words on image vectors, in its principal directions."""
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
