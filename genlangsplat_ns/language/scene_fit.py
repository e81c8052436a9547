"""An autoencoder fitted to the embeddings of one scene, as LangSplat does it, where there is no pre-trained one.

A few hundred steps on what is in memory; the trainings of the package `pretrain`, which builds on this one, are another
matter.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.console import track
from genlangsplat_ns.cpu_products import fast_products
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, initialise_from_pca

STEPS, BATCH_SIZE, LEARNING_RATE = 800, 512, 1e-3

MIXING = 0.3
"""Greatest weight of another region that each region is mixed with, so that what lies between them is learned too."""

MOST_ROWS = 200_000
"""Regions beyond these are left out: a scene repeats itself."""

LEFT_OUT = 10
"""One in so many regions is not trained on but measured on."""


def fit_autoencoder(
    embeddings: Float[Tensor, "count embedding_dim"], encoder: str, latent_dim: int = 16, seed: int = 0
) -> Autoencoder:
    """Fits an autoencoder, beginning with the scene's principal components.

    Args:
        embeddings: Unit embeddings of the scene's regions.
        encoder: Identity of the encoder they come from.
        latent_dim: Width D of the latents.
        seed: Seeds weights and order.

    Returns:
        The autoencoder, on the CPU, in evaluation mode; its identity says that it is of one scene only.

    Raises:
        GenLangSplatError: If there are too few regions to fit anything.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = embeddings[torch.randperm(len(embeddings), generator=generator)[:MOST_ROWS]].float()
    left_out, rows = rows[: len(rows) // LEFT_OUT], rows[len(rows) // LEFT_OUT :]
    if len(rows) < latent_dim:
        raise GenLangSplatError(
            f"The scene has {len(embeddings)} regions, too few to fit an autoencoder with {latent_dim} latents to. "
            "Give more views, or a pre-trained one with --pipeline.model.autoencoder."
        )
    identity = AutoencoderIdentity(
        "scene",
        encoder,
        embeddings.shape[1],
        latent_dim,
        architecture="residual",
        training_data=f"{len(rows)} regions of one scene; its latents mean nothing in another",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = Autoencoder(identity).train()
    initialise_from_pca(autoencoder, rows)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS + 1, pct_start=0.1)
    with fast_products():
        for _ in track(range(STEPS), "Fitting an autoencoder to the scene"):
            first, second = (torch.randint(len(rows), (BATCH_SIZE,), generator=generator) for _ in range(2))
            weight = MIXING * torch.rand(BATCH_SIZE, 1, generator=generator)
            batch = F.normalize(torch.lerp(rows[first], rows[second], weight), dim=-1)
            loss = 1 - F.cosine_similarity(autoencoder(batch), batch, dim=-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    autoencoder = autoencoder.eval().requires_grad_(False)
    if len(left_out):
        cosine = float(F.cosine_similarity(autoencoder(left_out), left_out, dim=-1).mean())
        autoencoder.identity = replace(identity, figures={"cosine on regions left out": round(cosine, 4)})
    return autoencoder
