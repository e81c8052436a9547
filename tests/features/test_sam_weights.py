"""SAM's weights: search, download, reading and identity."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from segment_anything import sam_model_registry

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.sam import SamMaskGenerator, sam_mask_settings
from genlangsplat_ns.features.sam_weights import (
    OFFICIAL_CHECKPOINTS,
    OfficialCheckpoint,
    checkpoint_identity,
    find_checkpoint,
    model_of_width,
    read_checkpoint,
    require_checkpoint,
    weights_folder,
)
from genlangsplat_ns.features.settings import SamSettings
from genlangsplat_ns.utils.files import file_sha256
from tests.features.tiny_sam import tiny_settings
from tests.utils.file_server import serving

pytestmark = pytest.mark.usefixtures("empty_machine")


def test_a_loaded_network_learns_nothing(tiny_weights):
    sam = SamMaskGenerator.load(tiny_settings(tiny_weights), "cpu")._predictor.model
    assert not sam.training
    assert not any(parameter.requires_grad for parameter in sam.parameters())


@pytest.mark.parametrize(
    ("model", "num_parameters", "width"),
    [("vit_h", 641_090_608, 1280), ("vit_l", 312_342_832, 1024), ("vit_b", 93_735_472, 768)],
)
def test_official_weights_fit_the_architectures_as_published(model, num_parameters, width):
    with torch.device("meta"):
        sam = sam_model_registry[model]()
    assert sum(parameter.numel() for parameter in sam.parameters()) == num_parameters
    assert sam.image_encoder.pos_embed.shape == (1, 64, 64, width)
    # A weights file has 4 bytes per weight and less than a megabyte of metadata.
    assert abs(OFFICIAL_CHECKPOINTS[model].gigabytes * 1e9 - 4 * num_parameters) < 0.006e9


# ------------------------------------------------------------------------------------------------- weights and messages


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("model", ["vit_h", "vit_l", "vit_b"])
def test_missing_weights_say_how_to_get_them(model):
    official = OFFICIAL_CHECKPOINTS[model]
    with pytest.raises(GenLangSplatError) as caught:
        SamMaskGenerator.load(SamSettings(model), "cpu")
    for help_ in (
        "--download-weights",
        f"https://dl.fbaipublicfiles.com/segment_anything/{official.file_name}",
        f"{official.gigabytes:.2f} GB",
        str(weights_folder()),
        "sam.checkpoint",
        "watershed",
    ):
        assert help_ in str(caught.value)


def test_weights_are_looked_for_in_the_project_s_cache_and_then_in_torch_s(tmp_path):
    settings = SamSettings("vit_b")
    name = OFFICIAL_CHECKPOINTS["vit_b"].file_name
    assert weights_folder() == tmp_path / "cache" / "genlangsplat-ns" / "weights"
    assert find_checkpoint(settings) is None
    of_torch = put(tmp_path / "hub" / "checkpoints" / name, b"")
    assert find_checkpoint(settings) == of_torch
    own = put(weights_folder() / name, b"")
    assert find_checkpoint(settings) == own
    assert find_checkpoint(SamSettings("vit_h")) is None


def test_a_named_file_is_taken_and_no_other(tmp_path):
    put(weights_folder() / OFFICIAL_CHECKPOINTS["vit_b"].file_name, b"")
    mine = tmp_path / "mine.pth"
    assert find_checkpoint(SamSettings("vit_b", mine)) is None
    put(mine, b"")
    assert find_checkpoint(SamSettings("vit_b", mine)) == mine
    assert find_checkpoint(SamSettings("vit_tiny", mine)) == mine
    assert find_checkpoint(SamSettings("vit_tiny")) is None


@pytest.mark.parametrize("download", [False, True])
def test_a_named_file_that_is_not_there_is_an_error_and_not_downloaded(tmp_path, download):
    settings = SamSettings("vit_b", tmp_path / "mine.pth")
    for ask in (lambda: SamMaskGenerator.load(settings, "cpu", download), lambda: sam_mask_settings(settings)):
        with pytest.raises(GenLangSplatError, match=r"mine\.pth of --sam\.checkpoint does not exist"):
            ask()


def test_an_unknown_model_is_answered_with_the_known_ones():
    with pytest.raises(GenLangSplatError, match=r"'vit_x'.*vit_h, vit_l, vit_b"):
        SamMaskGenerator.load(SamSettings("vit_x"), "cpu")


def test_a_model_without_official_weights_needs_a_file():
    with pytest.raises(GenLangSplatError, match=r"no official checkpoint of SAM 'vit_tiny'.*vit_b.*sam\.checkpoint"):
        SamMaskGenerator.load(SamSettings("vit_tiny"), "cpu", download=True)


def test_a_truncated_file_is_named_with_its_size(tiny_weights, tmp_path):
    content = tiny_weights.read_bytes()
    path = put(tmp_path / "half.pth", content[: len(content) // 2])
    with pytest.raises(GenLangSplatError, match=rf"half\.pth \({len(content) // 2:,} bytes\) is truncated"):
        SamMaskGenerator.load(tiny_settings(path), "cpu")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"a b", b"<html>Not found</html>", b"\x80\x02", pickle.dumps([1, 2], protocol=2), bytes(range(99))],
    ids=["empty", "word", "words", "page", "head", "list", "bytes"],
)
def test_a_file_that_holds_no_weights_is_refused(tmp_path, content):
    path = put(tmp_path / "other.pth", content)
    with pytest.raises(GenLangSplatError, match=r"other\.pth"):
        SamMaskGenerator.load(tiny_settings(path), "cpu")


def test_a_file_of_other_things_than_named_tensors_says_what_it_holds(tmp_path):
    path = tmp_path / "training.pth"
    for held, kind in (({"model": {"weights": [1]}, "epoch": 3}, "dict"), ([torch.ones(1)], "list")):
        torch.save(held, path)
        with pytest.raises(GenLangSplatError, match=f"contains a {kind}"):
            read_checkpoint(path)


def test_training_checkpoints_and_safetensors_are_read_as_well(tmp_path, tiny_weights):
    state = torch.load(tiny_weights, weights_only=True)
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}, tmp_path / "a.pth")
    save_file(state, tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        assert SamMaskGenerator.load(tiny_settings(tmp_path / name), "cpu").settings["model"] != "vit_tiny"
        read = read_checkpoint(tmp_path / name)
        assert all(torch.equal(read[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("held", "kind", "advice"),
    [
        ({"model": {"image_encoder.trunk.pos_embed": torch.ones(1)}}, "SAM 2", r"sam_vit_h_4b8939\.pth"),
        ({"mask_decoder.hf_token.weight": torch.ones(1)}, "SAM-HQ", "original SAM"),
        ({"image_encoder.patch_embed.seq.0.c.weight": torch.ones(1)}, "MobileSAM", "dl.fbaipublicfiles.com"),
        ({"shared_image_embedding.positional_embedding": torch.ones(1)}, "SAM of Hugging Face", "original SAM"),
        ({"text.token_embedding.weight": torch.ones(1)}, "CLIP", "--open-clip.weights"),
    ],
)
def test_relatives_of_sam_are_named_with_what_to_give_instead(tmp_path, held, kind, advice):
    torch.save(held, tmp_path / "other.pth")
    with pytest.raises(GenLangSplatError, match=rf"other\.pth has weights of {kind}.*not of SAM.*{advice}"):
        SamMaskGenerator.load(tiny_settings(tmp_path / "other.pth"), "cpu")


def test_weights_of_another_official_model_are_named():
    assert [model_of_width(width) for width in (1280, 1024, 768, 16)] == ["vit_h", "vit_l", "vit_b", None]
    for name, width in (("vit_h", 1280), ("vit_b", 768)):
        with torch.device("meta"):
            assert sam_model_registry[name]().image_encoder.pos_embed.shape[-1] == width


class Malicious:
    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._target,)


@pytest.mark.parametrize("as_zip", [True, False])
def test_reading_a_file_runs_nothing_that_it_holds(tmp_path, as_zip):
    torch.save(
        {"weight": Malicious(tmp_path / "touched")}, tmp_path / "evil.pth", _use_new_zipfile_serialization=as_zip
    )
    with pytest.raises(GenLangSplatError, match=r"evil\.pth"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "touched").exists()


def test_weights_of_another_model_are_told_apart_by_their_width(tiny_weights):
    with pytest.raises(GenLangSplatError, match=r"does not fit SAM vit_other.* 16 channels.* 32 channels"):
        SamMaskGenerator.load(SamSettings("vit_other", tiny_weights), "cpu")


def test_weights_of_no_sam_at_all_are_refused_too(tmp_path):
    torch.save({"weight": torch.ones(3)}, tmp_path / "linear.pth")
    with pytest.raises(GenLangSplatError, match=r"1 weights and an image encoder with an unknown number of channels"):
        SamMaskGenerator.load(tiny_settings(tmp_path / "linear.pth"), "cpu")


def test_a_damaged_official_file_is_refused(tmp_path):
    path = put(weights_folder() / OFFICIAL_CHECKPOINTS["vit_b"].file_name, b"half a file")
    for download in (False, True):
        with pytest.raises(
            GenLangSplatError, match=r"11 bytes.*0\.38 GB, sha256 ec2df6273261.*--download-weights"
        ) as e:
            SamMaskGenerator.load(SamSettings("vit_b"), "cpu", download)
        assert str(path) in str(e.value)
    assert path.read_bytes() == b"half a file"


@pytest.fixture
def tiny_is_official(monkeypatch, tiny_weights) -> OfficialCheckpoint:
    """Registers the tiny SAM as an official checkpoint."""
    official = OfficialCheckpoint("sam_vit_tiny.pth", file_sha256(tiny_weights), 0.02)
    monkeypatch.setitem(OFFICIAL_CHECKPOINTS, "vit_tiny", official)
    return official


def test_a_whole_official_file_is_taken_from_the_cache(tiny_weights, tiny_is_official):
    put(weights_folder() / tiny_is_official.file_name, tiny_weights.read_bytes())
    assert SamMaskGenerator.load(tiny_settings(None), "cpu").settings["model"] == "vit_tiny"


def test_weights_of_one_s_own_need_not_be_the_official_ones(tmp_path, tiny_weights, tiny_is_official):
    state = torch.load(tiny_weights, weights_only=True)
    torch.save({name: value + 1 for name, value in state.items()}, tmp_path / "tuned.pth")
    generator = SamMaskGenerator.load(tiny_settings(tmp_path / "tuned.pth"), "cpu")
    assert str(generator.settings["model"]).startswith("vit_tiny@")
    loaded = generator._predictor.model.state_dict()
    assert all(torch.equal(loaded[name], value + 1) for name, value in state.items())


def test_a_download_shows_what_comes_from_where_and_checks_it(monkeypatch, caplog, tiny_weights):
    with serving(tiny_weights.read_bytes()) as server:
        official = OfficialCheckpoint("sam_vit_tiny.pth", file_sha256(tiny_weights), 0.02, server.url)
        monkeypatch.setitem(OFFICIAL_CHECKPOINTS, "vit_tiny", official)
        target = weights_folder() / "sam_vit_tiny.pth"
        generator = SamMaskGenerator.load(tiny_settings(None), "cpu", download=True)
        assert target.read_bytes() == server.content
        assert "0.02 GB" in caplog.text and official.url in caplog.text and str(target) in caplog.text
        assert generator.settings["model"] == "vit_tiny"
        assert require_checkpoint(tiny_settings(None), download=True) == target
        assert server.asked == [("/sam_vit_tiny.pth", None)]


def test_a_download_that_fails_says_why_and_where_the_file_belongs(monkeypatch):
    with serving(b"") as server:
        server.status = 404
        official = OfficialCheckpoint("sam_vit_tiny.pth", "0" * 64, 0.02, server.url)
        monkeypatch.setitem(OFFICIAL_CHECKPOINTS, "vit_tiny", official)
        with pytest.raises(GenLangSplatError) as caught:
            require_checkpoint(SamSettings("vit_tiny"), download=True)
    for part in (official.url, "404", str(weights_folder())):
        assert part in str(caught.value)
    assert find_checkpoint(SamSettings("vit_tiny")) is None


# ------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("name", [field.name for field in fields(SamSettings) if field.name != "checkpoint"])
def test_every_setting_that_shapes_masks_tells_stored_features_apart(name):
    default = getattr(SamSettings(), name)
    other = replace(SamSettings(), **{name: "vit_b" if name == "model" else default + 1})
    assert (sam_mask_settings(other) == sam_mask_settings(SamSettings())) == (name == "points_per_batch")


def test_a_file_of_one_s_own_is_known_by_what_it_holds_and_not_by_its_place(tmp_path):
    first, moved, other = (
        sam_mask_settings(SamSettings("vit_b", put(tmp_path / name, content)))
        for name, content in (("a.pth", b"weights"), ("b.pth", b"weights"), ("c.pth", b"other weights"))
    )
    assert first == moved
    assert len({str(settings["model"]) for settings in (first, other, sam_mask_settings(SamSettings("vit_b")))}) == 3


def test_an_official_file_in_another_place_is_the_official_one(tiny_weights, tiny_is_official):
    assert checkpoint_identity(tiny_settings(tiny_weights)) == "vit_tiny"
    assert checkpoint_identity(SamSettings("vit_b", tiny_weights)) == f"vit_b@{tiny_is_official.sha256[:12]}"


def test_settings_can_be_written_down_and_are_known_without_any_weights(tiny_weights):
    settings = sam_mask_settings(SamSettings())
    assert json.loads(json.dumps(settings)) == settings
    assert settings["model"] == "vit_h"
    assert "version" in settings
    assert SamMaskGenerator.load(tiny_settings(tiny_weights), "cpu").settings == sam_mask_settings(
        tiny_settings(tiny_weights)
    )
