"""The scene memory in a model: checkpoints, the choice of the decoder, and messages about a missing or damaged one."""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.memory import NO_MEMORY, MemoryDecoder
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.lifting.average import LiftedLatents
from genlangsplat_ns.model import GenLangSplatModel
from tests.scene.language_scenes import (
    NUM_GAUSSIANS,
    language_scene,
    memory_of_clouds,
    some_camera,
    two_clouds,
)


def model_with_memory(**settings: Any) -> GenLangSplatModel:
    model = two_clouds(**settings)
    model.set_memory(memory_of_clouds(model))
    return model


def checkpoint_of(model: GenLangSplatModel) -> dict[str, Any]:
    """The state of a model after saving and loading."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def some_latents(model: GenLangSplatModel) -> torch.Tensor:
    """Latents near keys, and latents far from all keys."""
    return torch.cat([model.latents[::100, 0].detach(), torch.randn(6, 16, generator=torch.Generator().manual_seed(3))])


def decoded_by_autoencoder(model: GenLangSplatModel) -> torch.Tensor:
    return model.field_head.autoencoder.decode(some_latents(model))


def notice_logged(caplog: pytest.LogCaptureFixture) -> bool:
    """Returns whether the notice about a missing memory was logged."""
    return NO_MEMORY in caplog.messages


def test_a_memory_comes_back_from_a_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    model, again = model_with_memory(), two_clouds()
    assert again.memory is None
    again.load_state_dict(checkpoint_of(model))
    assert again.memory is not None and again.memory.sha256 == model.memory.sha256
    assert isinstance(again.field.decode, MemoryDecoder)
    assert torch.equal(again.field.decode(some_latents(model)), model.field.decode(some_latents(model)))
    assert not notice_logged(caplog)


def test_a_loaded_memory_replaces_a_memory_of_any_size() -> None:
    model, again = model_with_memory(), two_clouds()
    again.set_memory(memory_of_clouds(again, num_keys=7))
    again.load_state_dict(checkpoint_of(model))
    assert len(again.memory) == 20 and again.memory.sha256 == model.memory.sha256
    again.load_state_dict(checkpoint_of(two_clouds()))
    assert again.memory is None


def test_loading_does_not_change_the_checkpoint() -> None:
    model, state = model_with_memory(decoder="autoencoder"), checkpoint_of(model_with_memory())
    state["memory.values"][0, 0] += 1
    names = list(state)
    model.load_state_dict(state)
    assert list(state) == names


def test_a_memory_has_no_parameters_and_stays_in_half_precision() -> None:
    model = model_with_memory()
    assert not list(model.memory.parameters())
    assert {value.dtype for name, value in model.memory.named_buffers() if name != "concentration"} == {torch.float16}
    assert set(model.get_param_groups()) == set(two_clouds().get_param_groups())


def test_without_a_memory_the_autoencoder_decodes_and_a_notice_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = model_with_memory()
    model.load_state_dict(checkpoint_of(two_clouds()))
    assert model.memory is None
    torch.testing.assert_close(model.field.decode(some_latents(model)), decoded_by_autoencoder(model))
    assert notice_logged(caplog)


def test_no_notice_is_logged_if_no_memory_is_expected(caplog: pytest.LogCaptureFixture) -> None:
    two_clouds(decoder="autoencoder").load_state_dict(checkpoint_of(two_clouds()))
    before = {**checkpoint_of(two_clouds()), "language_phase_start": torch.tensor(-1)}
    two_clouds().load_state_dict(before)
    assert not notice_logged(caplog)


def test_the_autoencoder_can_decode_although_there_is_a_memory() -> None:
    model, other = two_clouds(decoder="autoencoder"), model_with_memory()
    model.load_state_dict(checkpoint_of(other))
    assert model.memory is not None, "it is kept for the next checkpoint"
    torch.testing.assert_close(model.field.decode(some_latents(model)), decoded_by_autoencoder(model))
    assert not torch.allclose(other.field.decode(some_latents(model)), decoded_by_autoencoder(model), atol=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_dim": 8}, "with 8 latent and 384 embedding dimensions; the run has .*, 16 and 384"),
        ({"embedding_dim": 512}, "16 latent and 512 embedding .*16 and 384"),
        ({"encoder": "other/1"}, "'other/1'"),
    ],
)
def test_a_memory_of_another_scene_is_refused(changes: dict[str, Any], message: str) -> None:
    model = two_clouds()
    state = {**checkpoint_of(model), **memory_of_clouds(model, **changes).state_dict(prefix="memory.")}
    with pytest.raises(GenLangSplatError, match=message):
        model.load_state_dict(state)


def test_a_damaged_memory_is_an_error_only_if_it_decodes(caplog: pytest.LogCaptureFixture) -> None:
    state = checkpoint_of(model_with_memory())
    state["memory.values"][3, 5] += 0.5
    with pytest.raises(GenLangSplatError, match=r"(?s)damaged.*--decoder autoencoder"):
        two_clouds().load_state_dict(state)
    model = two_clouds(decoder="autoencoder")
    with caplog.at_level(logging.WARNING):
        model.load_state_dict(state)
    assert model.memory is None and "Ignoring the scene's memory" in caplog.text


def relevancy(model: GenLangSplatModel, query: Any) -> torch.Tensor:
    return model.field.relevancy(query)[0].clone()


def test_new_latents_and_a_new_memory_take_effect_immediately() -> None:
    model = two_clouds()
    query = language_scene(model).embed(TextQuery(("left", "right")))
    lifted = LiftedLatents(model.latents.detach().clone(), torch.ones(NUM_GAUSSIANS, 3))
    plain, picture = relevancy(model, query), model.get_outputs(some_camera())["latent_pca"]
    memory = memory_of_clouds(model)
    model.set_latents(lifted, memory)
    remembered = relevancy(model, query)
    assert not torch.allclose(remembered, plain, atol=0.05)
    torch.testing.assert_close(model.get_outputs(some_camera())["latent_pca"].abs(), picture.abs())
    model.set_latents(LiftedLatents(lifted.latents.flip(0), lifted.mass), memory)
    torch.testing.assert_close(relevancy(model, query), remembered.flip(0))
    model.set_latents(lifted)
    assert model.memory is None
    torch.testing.assert_close(relevancy(model, query), plain)


def test_loading_a_checkpoint_clears_decoded_latents() -> None:
    model, other = two_clouds(), model_with_memory()
    query = language_scene(model).embed(TextQuery(("left",)))
    plain = relevancy(model, query)
    model.load_state_dict(checkpoint_of(other))
    torch.testing.assert_close(relevancy(model, query), relevancy(other, query))
    assert not torch.allclose(relevancy(model, query), plain, atol=0.05)


def test_a_removed_memory_is_not_in_the_checkpoint() -> None:
    model = model_with_memory()
    assert "memory.keys" in model.state_dict()
    model.set_memory(None)
    assert not [name for name in model.state_dict() if name.startswith("memory")]


def test_a_run_can_switch_between_decoders() -> None:
    model = model_with_memory()
    query = language_scene(model).embed(TextQuery(("left",)))
    remembered = relevancy(model, query)
    model.decode_by("autoencoder")
    assert model.field.decoder == "autoencoder" and not torch.allclose(relevancy(model, query), remembered, atol=0.05)
    model.decode_by("memory")
    assert model.field.decoder == "memory"
    torch.testing.assert_close(relevancy(model, query), remembered)
    model.set_memory(None)
    assert model.field.decoder == "autoencoder", "the autoencoder decodes where there is no memory"
    with pytest.raises(GenLangSplatError, match="no scene memory"):
        model.decode_by("memory")
