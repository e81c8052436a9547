"""Retrieval before and after compression."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, initialize_from_pca
from pretrain.fidelity import PcaBaseline
from pretrain.retrieval import Pairs, measure_ranking, measure_retrieval, top_overlap


def unit(count: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


def autoencoder_of(rows: torch.Tensor, latent_dim: int) -> Autoencoder:
    """An autoencoder that projects on principal components."""
    autoencoder = Autoencoder(AutoencoderIdentity("t", "t/1", rows.shape[1], latent_dim, architecture="residual"))
    initialize_from_pca(autoencoder, rows)
    return autoencoder.eval()


def test_recall_counts_the_texts_that_find_their_own_image() -> None:
    texts = F.normalize(torch.tensor([[1.0, 0.1, 0.0], [0.9, 0.2, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.2]]), dim=-1)
    pairs = Pairs(texts, torch.eye(3), torch.tensor([0, 1, 2, 1]))
    assert pairs.recall_at_1(pairs.images) == pytest.approx(3 / 4)


def test_the_full_width_keeps_what_texts_find_and_one_number_does_not() -> None:
    images = unit(40)
    texts = F.normalize(images + 0.1 * unit(40, seed=1), dim=-1)
    pairs = Pairs(texts, images, torch.arange(40))
    kept = measure_retrieval(autoencoder_of(images, 8), pairs, PcaBaseline(images))
    assert kept["uncompressed"] == kept["PCA"] == 1.0
    lost = measure_retrieval(autoencoder_of(images, 1), pairs, PcaBaseline(images))
    assert lost["autoencoder"] < 0.3 and lost["PCA"] < 0.3


def test_the_overlap_of_the_best_is_counted_text_by_text() -> None:
    before = torch.eye(4)
    texts = F.normalize(torch.tensor([[4.0, 3, 2, 1], [1.0, 2, 3, 4]]), dim=-1)
    after = before[[1, 0, 2, 3]]
    assert top_overlap(before, after, texts, 1) == 0.5
    assert top_overlap(before, after, texts, 2) == 1.0


def test_a_ranking_survives_the_full_width_and_not_one_number() -> None:
    regions, texts = unit(200), unit(10, seed=1)
    for kept in measure_ranking(autoencoder_of(regions, 8), regions, texts, PcaBaseline(regions)).values():
        assert set(kept.values()) == {1.0}
    for kept in measure_ranking(autoencoder_of(regions, 1), regions, texts, PcaBaseline(regions)).values():
        assert kept["uncompressed"] == 1.0 and kept["autoencoder"] < 0.5 and kept["PCA"] < 0.5


def test_pairs_survive_their_file(tmp_path: Path) -> None:
    tensors = {"texts": 3 * unit(4).half(), "images": unit(2), "image_of_text": torch.tensor([0, 1, 1, 0])}
    save_file(tensors, tmp_path / "pairs.safetensors")
    pairs = Pairs.read(tmp_path / "pairs.safetensors", 8)
    torch.testing.assert_close(pairs.texts, unit(4), atol=2e-3, rtol=0)
    assert pairs.image_of_text.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": None}, "need texts"),
        ({"texts": unit(4, width=7)}, "need texts"),
        ({"image_of_text": torch.zeros(4)}, "integers"),
        ({"image_of_text": torch.tensor([0, 1, 2, 0])}, "refer to no image"),
        ({"texts": unit(0), "image_of_text": torch.zeros(0, dtype=torch.long)}, "0 texts"),
    ],
)
def test_what_are_no_pairs_is_refused(tmp_path: Path, change: dict, says: str) -> None:
    tensors = {"texts": unit(4), "images": unit(2), "image_of_text": torch.tensor([0, 1, 1, 0])} | change
    save_file({name: value for name, value in tensors.items() if value is not None}, tmp_path / "pairs.safetensors")
    with pytest.raises(GenLangSplatError, match=says):
        Pairs.read(tmp_path / "pairs.safetensors", 8)


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenLangSplatError, match="cannot be read"):
        Pairs.read(tmp_path / "absent.safetensors", 8)
    (tmp_path / "damaged.safetensors").write_bytes(b"damaged")
    with pytest.raises(GenLangSplatError, match="cannot be read"):
        Pairs.read(tmp_path / "damaged.safetensors", 8)
