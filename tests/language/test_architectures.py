"""The architectures: their layers, and their properties before training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.architectures import ARCHITECTURES, LinearPlusResidual, RowBatchNorm, linear_maps
from genlangsplat_ns.language.autoencoder import (
    Autoencoder,
    AutoencoderIdentity,
    initialize_from_pca,
    read_autoencoder,
    save_autoencoder,
)

WIDTH, LATENTS = 12, 4


def build(architecture: str) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(AutoencoderIdentity("tiny", "test-encoder/1", WIDTH, LATENTS, architecture))


def rows(count: int, seed: int, mean: float = 0.0) -> Tensor:
    """Unit rows; `mean` moves them towards one common direction."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.linspace(2, 0.1, WIDTH)
    return F.normalize(scale * torch.randn(count, WIDTH, generator=generator) + mean * torch.ones(WIDTH), dim=-1)


def layers(network: nn.Module) -> list[str]:
    return [
        f"{module.in_features}-{module.out_features}" if isinstance(module, nn.Linear) else type(module).__name__
        for module in network.children()
    ]


@torch.no_grad()
def mean_cosine(autoencoder: Autoencoder, embeddings: Tensor) -> float:
    return F.cosine_similarity(autoencoder(embeddings), embeddings, dim=-1).mean().item()


def test_langsplat_has_the_published_widths_around_the_latent() -> None:
    autoencoder = Autoencoder(AutoencoderIdentity("x", "e", 512, 16, "langsplat"))
    norm = ["RowBatchNorm", "ReLU"]
    assert layers(autoencoder.encoder) == ["512-256", *norm, "256-128", *norm, "128-64", *norm, "64-32", *norm, "32-16"]
    assert [name for name in layers(autoencoder.decoder) if name != "ReLU"] == [
        "16-16", "16-32", "32-64", "64-128", "128-256", "256-256", "256-512",
    ]  # fmt: skip
    assert layers(autoencoder.decoder)[1::2] == ["ReLU"] * 6


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_rows_are_independent_of_each_other_once_trained(architecture: str) -> None:
    autoencoder = build(architecture)
    autoencoder.train()(rows(64, seed=1))
    embeddings = rows(6, seed=2)
    alone = torch.cat([autoencoder.eval()(row[None]) for row in embeddings])
    torch.testing.assert_close(autoencoder(embeddings), alone)


def test_batch_normalization_takes_all_leading_dimensions_as_the_batch() -> None:
    values = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = nn.BatchNorm1d(7)(values.reshape(15, 7)).reshape(3, 5, 7)
    torch.testing.assert_close(RowBatchNorm(7)(values), expected)


def test_the_residual_branch_adds_nothing_before_training_but_can_learn() -> None:
    autoencoder = build("residual")
    for network, inputs in ((autoencoder.encoder, rows(5, seed=1)), (autoencoder.decoder, torch.randn(5, LATENTS))):
        assert isinstance(network, LinearPlusResidual)
        torch.testing.assert_close(network(inputs), network.linear(inputs), rtol=0, atol=0)
        network(inputs).sum().backward()
        last = network.residual[-1]
        assert isinstance(last, nn.Linear) and last.weight.grad is not None
        assert last.weight.grad.abs().max() > 0


@pytest.mark.parametrize("architecture", ["linear", "residual"])
@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_pca_initialization_is_the_projection_on_the_leading_directions(architecture: str, mean: float) -> None:
    embeddings = rows(500, seed=1, mean=mean)
    autoencoder = build(architecture).eval()
    initialize_from_pca(autoencoder, embeddings)
    _, _, directions = torch.linalg.svd(embeddings, full_matrices=False)
    projections = embeddings @ directions[:LATENTS].T @ directions[:LATENTS]
    expected = F.cosine_similarity(projections, embeddings, dim=-1).mean().item()
    assert mean_cosine(autoencoder, embeddings) == pytest.approx(expected, abs=1e-5)
    assert expected > mean_cosine(build(architecture).eval(), embeddings) + 0.1


def test_pca_equalizes_the_spread_of_residual_but_not_of_linear() -> None:
    embeddings = rows(500, seed=1, mean=1.0)
    residual, linear = build("residual").eval(), build("linear").eval()
    for autoencoder in (residual, linear):
        initialize_from_pca(autoencoder, embeddings)
    torch.testing.assert_close(residual.encoder(embeddings).square().mean(dim=0), torch.ones(LATENTS))
    latents = linear.encoder(embeddings)
    torch.testing.assert_close(linear.encoder(linear.decoder(latents)), latents)
    weight = linear.encoder.weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(LATENTS))


def test_pca_does_not_amplify_directions_without_spread() -> None:
    flat = rows(500, seed=1)
    flat[:, LATENTS - 1 :] = 0
    autoencoder = build("residual").eval()
    initialize_from_pca(autoencoder, F.normalize(flat, dim=-1))
    assert autoencoder.encoder(rows(500, seed=2)).abs().max() < 200


def test_pca_spends_at_most_one_latent_dimension_on_the_mean() -> None:
    embeddings = rows(500, seed=1, mean=1.0)
    autoencoder = build("residual").eval()
    initialize_from_pca(autoencoder, embeddings)
    mean = embeddings.mean(dim=0)
    _, _, directions = torch.linalg.svd(embeddings - mean, full_matrices=False)
    kept = directions[: LATENTS - 1]
    with_mean = mean + (embeddings - mean) @ kept.T @ kept
    assert mean_cosine(autoencoder, embeddings) > F.cosine_similarity(with_mean, embeddings, dim=-1).mean() - 1e-3


def test_only_architectures_with_a_linear_map_start_from_pca() -> None:
    can = [name for name in ARCHITECTURES if linear_maps(build(name).encoder, build(name).decoder) is not None]
    assert can == ["linear", "residual"]
    with pytest.raises(GenLangSplatError, match="linear, residual"):
        initialize_from_pca(build("mlp"), rows(50, seed=1))


@pytest.mark.parametrize("embeddings", [rows(LATENTS - 1, seed=1), rows(50, seed=1)[:, :5]])
def test_pca_refuses_too_few_embeddings_or_another_width(embeddings: Tensor) -> None:
    with pytest.raises(GenLangSplatError, match=rf"12 -> 4 .*got {len(embeddings)} of width {embeddings.shape[1]}"):
        initialize_from_pca(build("linear"), embeddings)


def test_pca_refuses_more_latent_than_embedding_dimensions() -> None:
    wide = Autoencoder(AutoencoderIdentity("x", "e", WIDTH, WIDTH + 1, "linear"))
    with pytest.raises(GenLangSplatError, match="12 principal directions, but 13 latents"):
        initialize_from_pca(wide, rows(50, seed=1))


def test_a_file_keeps_statistics_that_half_precision_cannot_represent(tmp_path: Path) -> None:
    autoencoder = build("langsplat").eval()
    norm = next(module for module in autoencoder.modules() if isinstance(module, RowBatchNorm))
    assert norm.running_var is not None and norm.num_batches_tracked is not None
    norm.running_var.fill_(1e-9)
    norm.num_batches_tracked.fill_(100_001)
    save_autoencoder(tmp_path / "small.safetensors", autoencoder)
    loaded = read_autoencoder(tmp_path / "small.safetensors")
    values = {name: value for name, value in loaded.state_dict().items() if "running_var" in name or "tracked" in name}
    for name, value in values.items():
        torch.testing.assert_close(value, autoencoder.state_dict()[name], rtol=0, atol=0)
