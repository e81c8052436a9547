"""SAM 2.1's masks at three levels: what is shared with SAM, the real package, and weights."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features import sam2
from genlangsplat_ns.features.extractor import FeatureExtractor
from genlangsplat_ns.features.masks import MaskGenerator, load_mask_generator, mask_settings
from genlangsplat_ns.features.published_weights import published_weights
from genlangsplat_ns.features.sam import SamMaskGenerator
from genlangsplat_ns.features.sam2 import CONFIGS, Sam2MaskGenerator, import_sam2
from genlangsplat_ns.features.sam_weights import (
    OFFICIAL_CHECKPOINTS,
    SAM2,
    SAM2_CHECKPOINTS,
    OfficialCheckpoint,
    check_fit,
    find_checkpoint,
    model_of_weights,
    read_checkpoint,
    weights_folder,
)
from genlangsplat_ns.features.settings import FeatureSettings, Sam2Settings, SamSettings
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.utils.files import file_sha256
from tests.features.sam_fakes import STOCK_SETTINGS, OneLevel, StubPredictor, assert_masks, blobs, dense, picture
from tests.features.tiny_sam import NO_MASK_NMS
from tests.features.tiny_sam2 import build_tiny2, tiny2_settings, tiny_package
from tests.utils.file_server import serving

pytestmark = pytest.mark.usefixtures("empty_machine")


# ------------------------------------------------------------------------------------------------ without the package


class StubPredictor2(StubPredictor):
    """Gives the answers of `StubPredictor` by the interface of SAM 2's predictor."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.mask_threshold = self.model.mask_threshold
        self._transforms = SimpleNamespace(transform_coords=self._scaled)
        del self.model

    def _scaled(self, points: torch.Tensor, normalize: bool, orig_hw: tuple[int, int]) -> torch.Tensor:
        assert normalize and orig_hw == self.crops[-1][2:]
        return points / torch.tensor(orig_hw[::-1]) * 1024

    def _predict(self, points: torch.Tensor, labels: torch.Tensor, **asked: bool) -> tuple[torch.Tensor, ...]:
        height, width = self.crops[-1][2:]
        shrunk = self.transform.get_preprocess_shape(height, width, 1024)
        # SAM scales the longest side to 1024 pixels, SAM 2 both sides.
        return self.predict_torch(points / 1024 * torch.tensor(shrunk[::-1]), labels, **asked)

    def reset_predictor(self) -> None:
        self.reset_image()


@pytest.mark.parametrize("crop_n_layers", [0, 1])
def test_with_the_same_answers_the_masks_are_those_of_sam(crop_n_layers):
    shared: dict[str, Any] = {"points_per_side": 7, "crop_n_layers": crop_n_layers, "pred_iou_thresh": 0.5}
    shared |= {"stability_score_thresh": 0.3, **NO_MASK_NMS}
    predictor, of_sam = StubPredictor2(blobs(0), 0.25), StubPredictor(blobs(0), 0.25)
    masks = Sam2MaskGenerator(predictor, Sam2Settings(**shared), "stub").generate(picture())
    expected = SamMaskGenerator(of_sam, SamSettings(**shared), "stub").generate(picture())
    assert len(masks) > 10
    assert predictor.crops == of_sam.crops and predictor.num_resets == 1 + 4 * crop_n_layers
    for level in range(len(LEVELS)):
        assert_masks(dense(masks, level), dense(expected, level))


@pytest.fixture
def no_package(monkeypatch) -> None:
    for name in ("sam2", "sam2.build_sam", "sam2.sam2_image_predictor"):
        monkeypatch.setitem(sys.modules, name, None)


def test_without_the_package_the_error_says_how_to_install_it(no_package):
    for ask in (import_sam2, lambda: load_mask_generator("sam2")):
        with pytest.raises(
            GenLangSplatError, match=r"need the package sam2.*genlangsplat-ns\[sam2\].*sam or watershed"
        ):
            ask()


def test_a_missing_package_and_missing_weights_are_reported_together(no_package):
    made = FeatureExtractor(FeatureSettings(encoder="conse", masks="sam2"))
    with pytest.raises(GenLangSplatError, match=r"(?s)need the package sam2.*sam2\.1_hiera_large\.pt"):
        made._load_masks()


def test_the_parameters_are_those_of_sam_but_the_features_are_others():
    own, of_sam = mask_settings("sam2"), mask_settings("sam")
    assert {name for name in own if own[name] != of_sam[name]} == {"model"}
    assert [field.name for field in fields(Sam2Settings)] == [field.name for field in fields(SamSettings)]
    settings = FeatureSettings(encoder="conse", masks="sam2", sam2=Sam2Settings("hiera_tiny"))
    identity = FeatureExtractor(settings).store_identity
    assert identity.masks == "sam2" and identity.mask_settings["model"] == "hiera_tiny"


@pytest.mark.parametrize("model", list(SAM2_CHECKPOINTS))
def test_missing_weights_say_how_to_get_them(model):
    official, settings = SAM2_CHECKPOINTS[model], Sam2Settings(model)
    made = FeatureExtractor(FeatureSettings(encoder="conse", masks="sam2", sam2=settings))
    with pytest.raises(GenLangSplatError) as caught:
        made._load_masks()
    url = f"https://dl.fbaipublicfiles.com/segment_anything_2/092824/{official.file_name}"
    for part in ("SAM 2.1's weights", "--download-weights", url, f"{official.gigabytes:.2f} GB", "--sam2.checkpoint"):
        assert part in str(caught.value)
    assert published_weights("sam2", model).url == url


def test_models_of_the_other_version_are_unknown():
    with pytest.raises(GenLangSplatError, match=r"no published weights of SAM 2\.1 'vit_h'.*hiera_large"):
        published_weights("sam2", "vit_h")
    assert published_weights("sam2").name == "SAM 2.1 hiera_large"
    assert not set(SAM2_CHECKPOINTS) & set(OFFICIAL_CHECKPOINTS)


def test_weights_are_found_where_they_are_fetched_to(monkeypatch):
    with serving(b"weights") as server:
        content = OfficialCheckpoint("sam2.1_hiera_tiny.pt", "0" * 64, 0.16, server.url)
        monkeypatch.setitem(SAM2_CHECKPOINTS, "hiera_tiny", content)
        with pytest.raises(GenLangSplatError, match="has the sha256"):
            sam2.require_checkpoint(Sam2Settings("hiera_tiny"), download=True)
    assert find_checkpoint(Sam2Settings("hiera_tiny")) is None
    path = weights_folder() / "sam2.1_hiera_tiny.pt"
    path.write_bytes(b"weights")
    assert find_checkpoint(Sam2Settings("hiera_tiny")) == path == published_weights("sam2", "hiera_tiny").found
    assert find_checkpoint(Sam2Settings("hiera_small")) is None


def test_weights_of_the_other_version_are_named_with_where_they_belong(tmp_path):
    torch.save({"model": {"image_encoder.trunk.pos_embed": torch.ones(1)}}, tmp_path / "new.pt")
    torch.save({"prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": torch.ones(1)}, tmp_path / "old.pth")
    with pytest.raises(GenLangSplatError, match=r"of SAM 2, not of SAM\..*masks sam2 with --sam2\.checkpoint"):
        read_checkpoint(tmp_path / "new.pt")
    with pytest.raises(GenLangSplatError, match=r"of SAM, not of SAM 2\.1\..*hiera_large.*masks sam with --sam\.ch"):
        read_checkpoint(tmp_path / "old.pth", Sam2Settings())
    assert set(read_checkpoint(tmp_path / "new.pt", Sam2Settings())) == {"image_encoder.trunk.pos_embed"}


def test_a_file_of_the_same_size_but_another_version_is_not_said_to_fit_its_own_model(tmp_path):
    weights = {SAM2.width_of: torch.ones(96, 3, 7, 7)}
    weights |= {f"image_encoder.trunk.blocks.{number}.norm1.weight": torch.ones(96) for number in range(12)}
    newer = {**weights, "no_obj_embed_spatial": torch.ones(1, 64)}
    with pytest.raises(GenLangSplatError, match=r"13 weights .* expected 14 .* another version.*hiera_tiny\.pt"):
        check_fit(tmp_path / "sam2_hiera_tiny.pt", Sam2Settings("hiera_tiny"), weights, newer)
    with pytest.raises(GenLangSplatError, match=r"Give the model it belongs to with --sam2\.model hiera_tiny\."):
        check_fit(tmp_path / "sam2_hiera_tiny.pt", Sam2Settings("hiera_small"), weights, newer)


# --------------------------------------------------------------------------------------------------- the real package


@pytest.fixture
def package(monkeypatch) -> None:
    """The real package, whose model is small."""
    pytest.importorskip("sam2.build_sam", reason="the package sam2 is not installed: pip install sam2")
    monkeypatch.setattr(sam2, "import_sam2", tiny_package)


@pytest.fixture
def tiny2_weights(package, tmp_path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = build_tiny2().state_dict()
    torch.save({"model": state}, tmp_path / "tiny2.pt")
    return tmp_path / "tiny2.pt"


def test_a_network_finds_what_the_stock_generator_finds_with_that_mask_of_every_prompt(tiny2_weights, rng):
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

    image = torch.from_numpy(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    # The stock generator mends masks only with its CUDA kernel.
    settings = tiny2_settings(tiny2_weights, box_nms_thresh=0.999, min_mask_region_area=0)
    generator = load_mask_generator("sam2", settings)
    assert isinstance(generator, MaskGenerator) and generator.name == "sam2"
    masks = generator.generate(image)
    model = build_tiny2()
    model.load_state_dict(torch.load(tiny2_weights, weights_only=True)["model"])
    stock = SAM2AutomaticMaskGenerator(model, **{name: getattr(settings, name) for name in STOCK_SETTINGS})
    predictor = stock.predictor
    assert len(masks) > 0
    for level in range(len(LEVELS)):
        stock.predictor = OneLevel(predictor, level)
        assert_masks(dense(masks, level), [record["segmentation"] for record in stock.generate(image.numpy())])


def test_weights_of_another_model_are_refused(tiny2_weights, tmp_path):
    state = torch.load(tiny2_weights, weights_only=True)["model"]
    state["image_encoder.trunk.patch_embed.proj.weight"] = torch.zeros(112, 3, 7, 7)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(GenLangSplatError, match=r"does not fit SAM 2\.1 hiera_tiny.* 112 channels.* 8 channels"):
        Sam2MaskGenerator.load(tiny2_settings(tmp_path / "other.pt"), "cpu")
    with pytest.raises(GenLangSplatError, match=r"no model 'hiera_huge'.*hiera_large"):
        Sam2MaskGenerator.load(Sam2Settings("hiera_huge", tiny2_weights), "cpu")


def test_the_identity_is_that_of_the_file_and_nothing_learns(tiny2_weights):
    generator = Sam2MaskGenerator.load(tiny2_settings(tiny2_weights), "cpu")
    assert generator.settings["model"] == f"hiera_tiny@{file_sha256(tiny2_weights)[:12]}"
    assert generator.settings == mask_settings("sam2", tiny2_settings(tiny2_weights))
    assert not any(parameter.requires_grad for parameter in generator._predictor.model.parameters())


def test_the_architectures_of_the_package_are_those_that_weights_are_told_apart_by(package):
    import sam2 as installed
    from omegaconf import OmegaConf

    assert set(CONFIGS) == set(SAM2_CHECKPOINTS)
    for model, config in CONFIGS.items():
        trunk = OmegaConf.load(Path(installed.__path__[0]) / config).model.image_encoder.trunk
        # The base model has the default numbers of blocks.
        blocks = sum(trunk.get("stages", (2, 3, 16, 3)))
        weights = {f"image_encoder.trunk.blocks.{number}.norm1.weight": torch.zeros(1) for number in range(blocks)}
        weights["image_encoder.trunk.patch_embed.proj.weight"] = torch.zeros(trunk.embed_dim, 3, 7, 7)
        assert model_of_weights(weights) == model
