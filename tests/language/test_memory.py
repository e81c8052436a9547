"""The scene memory: decoding to the posterior mean, and its state in checkpoints."""

from __future__ import annotations

import io
import logging
from math import exp, pi
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import AutoencoderIdentity
from genlangsplat_ns.language.decoding import AttendingDecoder
from genlangsplat_ns.language.gaussian_scores import DecodedGaussians
from genlangsplat_ns.language.memory import MIN_PRIOR_SHARE, PRIOR_COSINE, MemoryDecoder, SceneMemory, take_memory
from genlangsplat_ns.language.pixel_scores import relevancy_maps
from tests.language.memory_fakes import EMBEDDING_DIM, ENCODER, LATENT_DIM, a_memory, latents_about, unit_rows
from tests.language.test_decoding import a_query

IDENTITY = AutoencoderIdentity("tiny-6", ENCODER, EMBEDDING_DIM, LATENT_DIM)
PRIOR_MATRIX = unit_rows(LATENT_DIM, EMBEDDING_DIM, 77)


def a_prior(latents: Tensor) -> Tensor:
    """A pre-trained decoder that is independent of the scene."""
    return F.normalize(latents @ PRIOR_MATRIX, dim=-1)


def a_decoder(**settings: Any) -> MemoryDecoder:
    return MemoryDecoder(a_memory(**settings), a_prior)


def posterior_mean(memory: SceneMemory, latents: Tensor) -> Tensor:
    """A simple reference implementation of the module's formula with all keys."""
    concentration = float(memory.concentration)
    decoded = torch.zeros(len(latents), memory.embedding_dim, dtype=torch.float64)
    for row, latent in enumerate(latents):
        direction = F.normalize(latent.double(), dim=0)
        nearness = F.normalize(memory.keys.double(), dim=-1) @ direction
        # Dividing by the largest weight avoids overflow.
        highest = max(PRIOR_COSINE, float(nearness.max()))
        decoded[row] = exp(concentration * (PRIOR_COSINE - highest)) * a_prior(latent[None])[0].double()
        for near, log_mass, value in zip(nearness, memory.log_masses, memory.values, strict=True):
            decoded[row] += exp(float(log_mass) + concentration * (float(near) - highest)) * value.double()
    return decoded / decoded.norm(dim=-1, keepdim=True)


def cosines(first: Tensor, second: Tensor) -> Tensor:
    return F.cosine_similarity(first.double(), second.double(), dim=-1)


# Decoding


def test_a_separate_key_decodes_to_the_direction_of_its_value() -> None:
    memory = a_memory(num_keys=20, concentration=1000.0)
    decoded = MemoryDecoder(memory, a_prior)(memory.keys.float())
    assert cosines(decoded, memory.values.float()).min() > 0.9999


@pytest.mark.parametrize("concentration", [30.0, 60.0, 240.0])
@pytest.mark.parametrize("num_keys", [1, 3, 14])
def test_latents_are_decoded_to_the_posterior_mean(num_keys: int, concentration: float) -> None:
    memory = a_memory(num_keys, concentration)
    latents = latents_about(memory.keys.float(), 60)
    decoded = MemoryDecoder(memory, a_prior)(latents)
    torch.testing.assert_close(decoded.norm(dim=-1), torch.ones(60))
    # The prior is ignored below its minimum share, and sums are at least half as long as their values.
    assert (decoded.double() - posterior_mean(memory, latents)).norm(dim=-1).max() < 4 * MIN_PRIOR_SHARE


def test_with_many_keys_the_posterior_mean_is_approximated() -> None:
    memory = a_memory(200, 60.0)
    latents = latents_about(memory.keys.float(), 60)
    found = cosines(MemoryDecoder(memory, a_prior)(latents), posterior_mean(memory, latents))
    assert found.mean() > 0.999 and found.min() > 0.99


def test_far_from_all_keys_only_the_prior_decodes() -> None:
    table = a_memory(30)
    keys = F.normalize(torch.cat([torch.ones(30, 1), 0.3 * unit_rows(30, LATENT_DIM - 1, 5)], dim=1), dim=-1)
    memory = SceneMemory(keys, table.log_masses.float(), table.values.float(), 60.0, ENCODER)
    latents = unit_rows(100, LATENT_DIM, 6)
    latents = latents[(latents @ keys.T).amax(dim=1) < PRIOR_COSINE - 0.2]
    assert len(latents) > 30
    assert cosines(MemoryDecoder(memory, a_prior)(latents), a_prior(latents)).min() > 0.999


@pytest.mark.parametrize("concentration", [30.0, 60.0, 240.0])
def test_decoding_is_continuous_between_a_key_and_the_prior(concentration: float) -> None:
    value = unit_rows(1, EMBEDDING_DIM, 3)
    key, away = torch.eye(LATENT_DIM)[:2]
    memory = SceneMemory(key[None], torch.zeros(1), value, concentration, ENCODER)
    angles = torch.linspace(0, pi, 20_001)[:, None]
    latents = angles.cos() * key + angles.sin() * away
    decoded = MemoryDecoder(memory, a_prior)(latents)
    assert cosines(decoded[:1], value) > 0.9999 and cosines(decoded[-1:], a_prior(latents[-1:])) > 0.9999
    # The softmax between key and prior changes by at most half the concentration per radian.
    steepest = (concentration / 2 + 1) * pi / 20_000 * 2
    assert decoded.diff(dim=0).norm(dim=-1).max() < steepest + 2 * MIN_PRIOR_SHARE


def test_a_zero_latent_decodes_to_the_mean_of_the_scene() -> None:
    memory = a_memory(40)
    mean = (memory.log_masses.double().exp()[:, None] * memory.values.double()).sum(dim=0, keepdim=True)
    latents = torch.stack([torch.zeros(LATENT_DIM), torch.ones(LATENT_DIM), torch.zeros(LATENT_DIM)])
    decoded = MemoryDecoder(memory, a_prior)(latents)
    assert cosines(decoded[[0, 2]], mean).min() > 0.9999
    torch.testing.assert_close(decoded[1:2], MemoryDecoder(memory, a_prior)(latents[1:2]))


@settings(max_examples=20, deadline=None)
@given(exponent=st.floats(-5, 5), seed=st.integers(0, 1000))
def test_the_length_of_a_latent_does_not_matter(exponent: float, seed: int) -> None:
    decode, latents = a_decoder(), unit_rows(8, LATENT_DIM, seed)
    torch.testing.assert_close(decode(latents * 10**exponent), decode(latents), atol=1e-4, rtol=0)


def test_batches_of_any_shape_are_decoded_row_by_row() -> None:
    decode = a_decoder()
    latents = latents_about(decode.memory.keys.float(), 24)
    torch.testing.assert_close(decode(latents.view(2, 3, 4, LATENT_DIM)), decode(latents).view(2, 3, 4, EMBEDDING_DIM))
    assert decode(torch.zeros(0, LATENT_DIM)).shape == (0, EMBEDDING_DIM)


def test_texts_are_compared_without_computing_embeddings() -> None:
    decode = MemoryDecoder(a_memory(num_keys=3), a_prior)
    assert isinstance(decode, AttendingDecoder)
    latents = latents_about(decode.memory.keys.float(), 90)
    vectors = unit_rows(5, EMBEDDING_DIM, 8)
    attended = decode.attend(latents)
    assert 0 < len(attended.rows) < 90, "the prior has a say in some answers, not in all"
    torch.testing.assert_close(attended.cosines(vectors), decode(latents) @ vectors.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(attended.embeddings(), decode(latents))


def test_the_prior_is_evaluated_only_where_it_has_weight() -> None:
    memory, asked = a_memory(num_keys=2), []

    def prior(latents: Tensor) -> Tensor:
        asked.append(len(latents))
        return a_prior(latents)

    MemoryDecoder(memory, prior).attend(memory.keys.float())
    assert not asked
    MemoryDecoder(memory, prior).attend(torch.cat([memory.keys.float(), -memory.keys.sum(dim=0, keepdim=True).float()]))
    assert asked == [1]


def test_gaussians_score_like_pixels_of_the_same_latents() -> None:
    decode = a_decoder()
    latents = latents_about(decode.memory.keys.float(), 120).view(40, 3, LATENT_DIM)
    latents = F.normalize(latents, dim=-1)
    latents[:4] = 0.0
    by_gaussian = DecodedGaussians(latents, decode).score(a_query(width=EMBEDDING_DIM))
    by_pixel = relevancy_maps(latents.view(8, 5, 3, LATENT_DIM), decode, a_query(width=EMBEDDING_DIM))
    torch.testing.assert_close(by_gaussian, by_pixel.permute(2, 3, 1, 0).reshape(40, 3, 3), atol=1e-5, rtol=0)
    assert not by_gaussian[:4].any() and (by_gaussian[4:] > 0).all()


# State


def stored(memory: SceneMemory) -> dict[str, Any]:
    """The memory's entries after saving and loading."""
    file = io.BytesIO()
    torch.save(memory.state_dict(prefix="memory."), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_saving_and_loading_is_bit_exact() -> None:
    memory = a_memory()
    state = {"other": torch.ones(2), **stored(memory)}
    again = take_memory(state, "memory.", IDENTITY, "memory")
    assert again is not None and (len(again), again.encoder) == (40, ENCODER)
    assert again.sha256 == memory.sha256 and "other" in state
    latents = latents_about(memory.keys.float(), 30)
    assert torch.equal(MemoryDecoder(again, a_prior)(latents), MemoryDecoder(memory, a_prior)(latents))


def test_a_registered_memory_loads_with_its_parent_module() -> None:
    memory, room = a_memory(seed=1), a_memory(seed=2)
    assert len(room.table.keys) == 40
    room.load_state_dict(stored_without_prefix(memory))
    latents = latents_about(memory.keys.float(), 30)
    assert torch.equal(MemoryDecoder(room, a_prior)(latents), MemoryDecoder(memory, a_prior)(latents))


def stored_without_prefix(memory: SceneMemory) -> dict[str, Any]:
    return {name.removeprefix("memory."): value for name, value in stored(memory).items()}


def test_a_large_memory_takes_about_a_megabyte() -> None:
    keys, values = unit_rows(1024, 16, 0), unit_rows(1024, 384, 1)
    memory = SceneMemory(keys, torch.full((1024,), -7.0), values, 60.0, ENCODER)
    file = io.BytesIO()
    torch.save(memory.state_dict(), file)
    assert 0.8e6 < file.tell() < 1e6


def flip_a_bit(state: dict[str, Any]) -> None:
    state["memory.values"].view(torch.int16)[3, 5] ^= 1


def insert_nan(state: dict[str, Any]) -> None:
    state["memory.values"][3, 5] = float("nan")


def drop_a_buffer(state: dict[str, Any]) -> None:
    del state["memory.log_masses"]


def drop_the_extra_state(state: dict[str, Any]) -> None:
    del state["memory._extra_state"]


def drop_a_row(state: dict[str, Any]) -> None:
    state["memory.values"] = state["memory.values"][:-1]


def drop_a_dimension(state: dict[str, Any]) -> None:
    state["memory.values"] = state["memory.values"].flatten()


def drop_all_keys(state: dict[str, Any]) -> None:
    for name in ("keys", "log_masses", "values"):
        state[f"memory.{name}"] = state[f"memory.{name}"][:0]


def change_the_format(state: dict[str, Any]) -> None:
    state["memory._extra_state"]["format"] = "genlangsplat-memory-99"


def change_the_encoder(state: dict[str, Any]) -> None:
    state["memory._extra_state"]["encoder"] = "other/2"


def negate_the_concentration(state: dict[str, Any]) -> None:
    state["memory.concentration"].fill_(-60.0)


DAMAGES = [
    (flip_a_bit, "damaged.*digest"),
    (insert_nan, "NaN.*values"),
    (drop_a_buffer, "lacks its log_masses"),
    (drop_the_extra_state, "lacks its _extra_state"),
    (drop_a_row, r"shapes .*\(39, 24\)"),
    (drop_a_dimension, r"shapes .*\(960,\)"),
    (drop_all_keys, r"\(0, 6\).*1 to 65,536 keys"),
    (change_the_format, "genlangsplat-memory-99"),
    (change_the_encoder, "'other/2'.*'tiny/1'"),
    (negate_the_concentration, "not positive in its concentration"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_the_error_names_the_damage_and_the_remedy(damage: Any, message: str) -> None:
    state = stored(a_memory())
    damage(state)
    with pytest.raises(GenLangSplatError, match=f"(?s){message}.*--decoder autoencoder"):
        take_memory(state, "memory.", IDENTITY, "memory")


@pytest.mark.parametrize("damage", [damage for damage, _ in DAMAGES])
def test_a_damaged_memory_is_ignored_if_the_autoencoder_decodes(damage: Any, caplog: pytest.LogCaptureFixture) -> None:
    state = {"other": torch.ones(2), **stored(a_memory())}
    damage(state)
    with caplog.at_level(logging.WARNING):
        assert take_memory(state, "memory.", IDENTITY, "autoencoder") is None
    assert list(state) == ["other"] and "Ignoring the scene's memory" in caplog.text


@pytest.mark.parametrize("widths", [(EMBEDDING_DIM, 8), (32, LATENT_DIM)])
def test_the_error_about_another_width_names_both(widths: tuple[int, int]) -> None:
    identity = AutoencoderIdentity("other", ENCODER, *widths)
    with pytest.raises(GenLangSplatError, match=f"6 latent and 24 embedding .*{widths[1]} and {widths[0]}"):
        take_memory(stored(a_memory()), "memory.", identity, "memory")


def test_an_intact_memory_is_loaded_with_either_decoder() -> None:
    assert take_memory(stored(a_memory()), "memory.", IDENTITY, "autoencoder") is not None
    assert take_memory({"memories": torch.ones(2)}, "memory.", IDENTITY, "memory") is None


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
def test_numbers_that_half_precision_cannot_represent_are_refused(part: int, bad: float) -> None:
    memory = a_memory()
    parts = [memory.keys.float(), memory.log_masses.float(), memory.values.float()]
    parts[part].view(-1)[1] = bad
    with pytest.raises(GenLangSplatError, match="NaN, infinity"):
        SceneMemory(*parts, 60.0, ENCODER)
