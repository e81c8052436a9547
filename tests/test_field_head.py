"""The choice of a scene's autoencoder; a run keeps the autoencoder of its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import encoder_identity
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.settings import FeatureSettings
from genlangsplat_ns.field_head import LanguageFieldHead
from genlangsplat_ns.language import named_autoencoders as named
from genlangsplat_ns.language.architectures import langsplat_decoder
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, save_autoencoder
from genlangsplat_ns.language.named_autoencoders import export_autoencoder, scene_autoencoder
from genlangsplat_ns.model import GenLangSplatModel
from tests.scene.language_scenes import two_clouds

CONSE = encoder_identity("conse")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses an empty cache of exported autoencoders."""
    monkeypatch.setattr(named.platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache"))


def fitted_to_a_scene(encoder: str = CONSE, latent_dim: int = 16) -> Autoencoder:
    """An autoencoder fitted to the regions of one scene, as in early versions."""
    torch.manual_seed(1)
    description = "900 regions of one scene; its latents mean nothing in another"
    figures = {"cosine on regions left out": 0.93}
    identity = AutoencoderIdentity(
        "scene", encoder, 384, latent_dim, architecture="residual", training_data=description, figures=figures
    )
    return Autoencoder(identity).eval()


def chosen(name: str, extractor: FeatureExtractor) -> Autoencoder:
    """The autoencoder of a scene with these features."""
    return scene_autoencoder(name, extractor.encoder_identity, extractor.embedding_dim)


def checkpoint_with(model: GenLangSplatModel, autoencoder: Autoencoder) -> dict[str, Any]:
    """The checkpoint of the same model trained with another autoencoder."""
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("field_head.")}
    state |= LanguageFieldHead(autoencoder).state_dict(prefix="field_head.")
    latents = torch.randn(model.num_points, 3, autoencoder.identity.latent_dim)
    return {**state, "gauss_params.latents": latents}


def test_clip_without_a_trained_autoencoder_gets_the_projection(tmp_path: Path) -> None:
    clip = FeatureExtractor(FeatureSettings(encoder="openclip", masks="watershed"))
    identity = chosen("auto", clip).identity
    assert identity == chosen("projection", clip).identity
    assert (identity.name, identity.encoder, identity.embedding_dim) == ("projection-16", clip.encoder_identity, 512)
    trained = AutoencoderIdentity("clip-8", clip.encoder_identity, 512, 8, architecture="linear")
    save_autoencoder(tmp_path / "clip.safetensors", Autoencoder(trained))
    export_autoencoder(tmp_path / "clip.safetensors", "clip-8")
    assert chosen("auto", clip).identity == trained
    assert chosen("projection", clip).identity == identity


def test_the_embedded_encoder_gets_the_projection_only_by_name() -> None:
    embedded = FeatureExtractor(FeatureSettings(encoder="conse", masks="watershed"))
    assert chosen("auto", embedded).identity.name == "conse-16"
    assert chosen("projection", embedded).identity.embedding_dim == 384


@pytest.mark.parametrize("latent_dim", [16, 8])
def test_auto_keeps_the_autoencoder_of_the_checkpoint(latent_dim: int) -> None:
    model, scene = two_clouds(), fitted_to_a_scene(latent_dim=latent_dim)
    state, latents = checkpoint_with(model, scene), model.latents
    model.load_state_dict(state)
    assert model.latents is latents, "optimizers stay bound to the parameter"
    assert torch.equal(model.latents, state["gauss_params.latents"])
    assert model.field_head.autoencoder.identity == scene.identity
    assert model.field_head.in_dim == model.field_head.latent_dim == latent_dim
    some = torch.randn(4, latent_dim)
    torch.testing.assert_close(model.field.decode(some), scene.decode(some))
    assert not any(weight.requires_grad for weight in model.field_head.parameters())
    again = two_clouds()
    again.load_state_dict(model.state_dict())
    assert again.field_head.autoencoder.identity == scene.identity


def test_a_checkpoint_whose_langsplat_autoencoder_has_no_16_wide_layer_opens() -> None:
    """Earlier versions built this architecture without it."""
    model = two_clouds()
    autoencoder = Autoencoder(AutoencoderIdentity("scene", CONSE, 384, 16, architecture="langsplat")).eval()
    autoencoder.decoder = langsplat_decoder(16, (32, 64, 128, 256, 256), 384)
    model.load_state_dict(checkpoint_with(model, autoencoder))
    some = torch.randn(4, 16)
    torch.testing.assert_close(model.field.decode(some), autoencoder.decode(some))
    again = two_clouds()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.field.decode(some), autoencoder.decode(some))


def test_a_named_autoencoder_must_match_the_checkpoint() -> None:
    model = two_clouds(autoencoder="conse")
    with pytest.raises(GenLangSplatError, match=r"has .*'name': 'scene'.*asks for .*'name': 'conse-16'"):
        model.load_state_dict(checkpoint_with(model, fitted_to_a_scene()))


def test_the_error_about_a_checkpoint_of_another_encoder_names_both() -> None:
    model = two_clouds()
    with pytest.raises(GenLangSplatError, match=f"other/1.*asks for .*{CONSE[:12]}"):
        model.load_state_dict(checkpoint_with(model, fitted_to_a_scene("other/1")))
    assert model.field_head.autoencoder.identity.name == "conse-16"
