"""Similarity of decoded latents and embeddings: in held-out views of composed scenes, and across domains of vectors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genlangsplat_ns.language.memory import MemoryDecoder
from genlangsplat_ns.lifting.memory_fit import fit_memory
from genlangsplat_ns.lifting.memory_regions import MemoryRegions
from genlangsplat_ns.lifting.regions import RegionView
from genlangsplat_ns.utils.vectors import unit_or_zero
from support.benchmark import Row
from support.composed_autoencoders import DOMAINS, ForeignVectors, held_out
from support.composed_lift import Code, LiftedScene, SceneSetup
from support.composed_run import ENCODER
from support.composed_scene import RegionSettings, source_vectors

NOISY = RegionSettings()
"""Regions of held-out views: with independent noise, without unpredictable errors."""


@torch.no_grad()
def scene_fidelity(scene: LiftedScene, code_name: str) -> list[Row]:
    """Compares the decoded latents of held-out regions with their embeddings and with the noiseless vectors.

    The latent of a region is either its own, from the autoencoder, or the rendered one in its pixels.
    """
    setup = scene.setup
    views = setup.views(scene.code, NOISY, "eval")
    embeddings = torch.cat([view.embeddings for view in views if view.embeddings is not None])
    truths = torch.cat([_truths(setup, *pair) for pair in zip(setup.scene.split("eval"), views, strict=True)])
    shown = torch.cat([shown_in(view, scene.lifted.latents) for view in views])
    own = torch.cat([view.latents for view in views])
    about = {"part": "fidelity", "seed": setup.scene.seed, "code": code_name, "latent_dim": own.shape[1]}
    return [
        {**about, "decoder": name, "latents": kind, **_distances(decode(latents), embeddings, truths)}
        for name, decode in scene.decoders.items()
        for kind, latents in (("its own", own), ("rendered", shown))
    ]


@torch.no_grad()
def noise_row(setup: SceneSetup) -> Row:
    """The result of a decoder that returns the exact noiseless vector of each region."""
    views = setup.views(_AsIs(), NOISY, "eval")
    truths = torch.cat([_truths(setup, *pair) for pair in zip(setup.scene.split("eval"), views, strict=True)])
    embeddings = torch.cat([view.latents for view in views])
    about = {"part": "fidelity", "seed": setup.scene.seed, "code": "the truth", "latent_dim": 512, "decoder": "-"}
    return {**about, "latents": "-", **_distances(truths, embeddings, truths)}


class _AsIs:
    """Returns vectors unchanged."""

    def __getattr__(self, name: str) -> Any:
        return lambda vectors: vectors


def shown_in(view: RegionView, latents: Float[Tensor, "num_gaussians levels dim"]) -> Float[Tensor, "num_regions dim"]:
    """The rendered latents in the pixels of each region of a view."""
    rendered = view.operator.composite(latents.flatten(1)).unflatten(-1, latents.shape[1:])
    return unit_or_zero(view.sum_over_regions(rendered))


def _truths(setup: SceneSetup, index: int, view: RegionView) -> Float[Tensor, "num_regions 512"]:
    """The noiseless vector of each region of a view: that of the source with most of its pixels."""
    sources = source_vectors(setup.scene, RegionSettings())
    owners = setup.sources(index)
    counts = torch.zeros(len(view.latents), len(sources))
    for level in view.regions:
        counted = (level >= 0) & (owners >= 0)
        places = level[counted].long(), owners[counted]
        counts.index_put_(places, torch.ones(len(places[0])), accumulate=True)
    return sources[counts.argmax(dim=1)]


def _distances(decoded: Tensor, embeddings: Tensor, truths: Tensor) -> dict[str, float]:
    """Cosine and mean squared error per dimension, relative to the noisy embeddings and to the noiseless vectors."""
    decoded = F.normalize(decoded, dim=-1)
    return {
        f"{name}_{figure}": float(value)
        for name, vectors in (("embedding", embeddings), ("source", truths))
        for figure, value in (
            ("cosine", F.cosine_similarity(decoded, vectors, dim=-1).mean()),
            ("mse", (decoded - vectors).square().mean()),
        )
    }


@torch.no_grad()
def domain_fidelity(foreign: ForeignVectors, codes: dict[str, Code]) -> list[Row]:
    """Cosines of decoded held-out vectors of each domain with the autoencoders of every domain, without a scene.

    The memory stores other vectors of the queried domain, as the memory of a scene stores those of the scene.

    Args:
        foreign: The domains.
        codes: The autoencoders by training domain.
    """
    rows = []
    for target in DOMAINS:
        vectors = foreign.domain(target)
        left_out = held_out(len(vectors))
        kept, asked = vectors[~left_out], vectors[left_out]
        for trained_on, code in codes.items():
            views = torch.arange(len(kept)) % 20
            own, ones = code.encode(kept), torch.ones(len(kept))
            seen = MemoryRegions(own, kept.half(), own, areas=ones, reliabilities=ones, views=views)
            memory = MemoryDecoder(fit_memory(seen, ENCODER), code.decode)
            latents = code.encode(asked)
            cosines = {
                name: float(F.cosine_similarity(decode(latents), asked, dim=-1).mean())
                for name, decode in (("autoencoder", code.decode), ("memory", memory))
            }
            mean = F.normalize(kept.mean(dim=0), dim=0)
            rows.append({"part": "domains", "trained_on": trained_on, "asked": target, **cosines})
            rows[-1]["mean_vector"] = float((asked @ mean).mean())
    return rows
