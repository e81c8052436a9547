"""A whole run with SAM and CLIP, as tiny networks with random weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from segment_anything import sam_model_registry

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import encoder_identity, loaded_encoders
from genlangsplat_ns.features.settings import OpenClipSettings, SamSettings
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity, save_autoencoder
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.language_scene import LanguageScene
from tests.end_to_end.conftest import make_config, make_trainer
from tests.features.tiny_clip import DIM, settings_for, tiny_clip_models
from tests.features.tiny_sam import build_tiny, tiny_settings


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SamSettings, OpenClipSettings]]:
    """Registers both networks with random weights in files."""
    folder = tmp_path_factory.mktemp("weights")
    tiny_clip_models(folder)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setitem(sam_model_registry, "vit_tiny", build_tiny)
        torch.manual_seed(0)
        torch.save(build_tiny().state_dict(), folder / "sam.pth")
        sam = tiny_settings(folder / "sam.pth", box_nms_thresh=0.95, min_mask_region_area=0)
        yield sam, settings_for(folder / "a.pt")


@pytest.fixture
def config(tiny_scene: Path, tmp_path: Path, weights: tuple[SamSettings, OpenClipSettings]) -> Any:
    """A short run with SAM, CLIP and an autoencoder for this CLIP."""
    scene = Path(shutil.copytree(tiny_scene, tmp_path / "scene", ignore=shutil.ignore_patterns("language_features")))
    identity = AutoencoderIdentity("tiny", encoder_identity("openclip", weights[1]), DIM, 8)
    save_autoencoder(tmp_path / "tiny.safetensors", Autoencoder(identity))
    config = make_config(scene, tmp_path / "outputs", rgb_steps=12, autoencoder=str(tmp_path / "tiny.safetensors"))
    datamanager = config.pipeline.datamanager
    datamanager.masks, datamanager.encoder = "sam", "openclip"
    datamanager.sam, datamanager.open_clip = weights
    return config


def test_a_run_with_sam_and_clip_answers_queries(config: Any) -> None:
    trainer = make_trainer(config)
    assert not loaded_encoders, "the models are freed before the RGB phase"
    trainer.train()
    pipeline = trainer.pipeline
    assert pipeline.datamanager.store.folder.name.startswith("openclip-sam-")
    features = pipeline.datamanager.language_features("train", 0)
    assert len(features.embeddings) > 0 and features.embeddings.shape[1] == DIM
    torch.testing.assert_close(
        features.embeddings.norm(dim=-1), torch.ones(len(features.embeddings)), atol=1e-3, rtol=0
    )
    assert pipeline.model.latents.any()
    scene = LanguageScene(pipeline.model.eval(), pipeline.datamanager)
    assert 0.0 < scene.ask("a cat", scene.views("eval")[0]).score < 1.0
    names = " ".join(name for name, _ in trainer.pipeline.named_modules())
    assert "clip" not in names and "sam" not in names, "no checkpoint may carry the encoders"


def test_without_a_fitting_autoencoder_the_projection_is_used_with_a_warning(config: Any, capsys) -> None:
    config.pipeline.model.autoencoder = "auto"
    trainer = make_trainer(config)
    output = " ".join(capsys.readouterr().out.split())
    assert output.count("using a fixed random projection of its embeddings to 16 dimensions") == 1
    identity = trainer.pipeline.model.field_head.autoencoder.identity
    assert identity.encoder == trainer.pipeline.datamanager.extractor.encoder_identity
    assert (identity.name, identity.embedding_dim) == ("projection-16", DIM)
    trainer.train()
    model = open_run(trainer.config.get_base_dir() / "config.yml").model
    assert "random projection" not in capsys.readouterr().out
    assert model.field_head.autoencoder.identity == identity
    assert torch.equal(model.latents, trainer.pipeline.model.latents)


def test_an_autoencoder_of_another_encoder_is_refused_before_extraction(config: Any) -> None:
    config.pipeline.model.autoencoder = "conse"
    with pytest.raises(GenLangSplatError, match=r"trained on embeddings of 'conse.*openclip/tiny-clip"):
        make_trainer(config)
    assert not (config.data / "language_features").exists()


def test_missing_weights_are_reported_before_training_and_leave_no_files(config: Any) -> None:
    config.pipeline.datamanager.sam = SamSettings("vit_tiny", Path("nowhere.pth"))
    with pytest.raises(GenLangSplatError, match=r"nowhere\.pth"):
        make_trainer(config)
    assert not config.output_dir.exists()
