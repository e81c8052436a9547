"""CLIP's weights files of several formats, and advice on files of other models."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.clip_files import matching_models, shape_of_config, shape_of_weights
from genlangsplat_ns.features.open_clip_encoder import OpenClipEncoder
from genlangsplat_ns.features.settings import OpenClipSettings
from tests.features.tiny_clip import MODEL, WIDER_MODEL, model_config

pytestmark = pytest.mark.usefixtures("offline", "nothing_loaded")

QUICK = f"{MODEL}-quickgelu"


@pytest.fixture
def quick_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny model with QuickGELU, like open_clip's variants for OpenAI's weights."""
    models = tmp_path / "models"
    models.mkdir()
    (models / f"{QUICK}.json").write_text(json.dumps({**model_config(32), "quick_gelu": True}))
    open_clip.add_model_config(models)
    return QUICK


def script(name: str, weights: Path, path: Path, openai: bool = False) -> Path:
    """Writes a model as a TorchScript archive, optionally with an entry of OpenAI's archives."""
    model = open_clip.create_model(name, pretrained=str(weights)).eval()
    if openai:
        model.register_buffer("input_resolution", torch.tensor(32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(model).save(str(path))
    return path


def load(path: Path, model: str = MODEL) -> OpenClipEncoder:
    return OpenClipEncoder(OpenClipSettings(model=model, weights=str(path)))


@pytest.mark.parametrize("kind", ["checkpoint", "distributed", "nested", "safetensors", "script"])
def test_every_format_gives_the_same_embeddings(
    folder: Path, tmp_path: Path, encoder: OpenClipEncoder, image: Any, masks: Any, kind: str
) -> None:
    state, path = torch.load(folder / "a.pt"), tmp_path / "weights.pt"
    if kind == "checkpoint":
        torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": {"state": {}}}, path)
    elif kind == "distributed":
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    elif kind == "nested":
        torch.save({"model": state}, path)
    elif kind == "safetensors":
        save_file(state, path)
    else:
        script(MODEL, folder / "a.pt", path)
    found = load(path)
    torch.testing.assert_close(found.encode_regions(image, masks), encoder.encode_regions(image, masks))
    torch.testing.assert_close(found.encode_texts(["a fox"]), encoder.encode_texts(["a fox"]))


def test_openai_s_archives_load_into_the_model_with_quick_gelu(
    folder: Path, tmp_path: Path, quick_model: str, image: Any, masks: Any
) -> None:
    path = script(quick_model, folder / "a.pt", tmp_path / "ViT-B-16.pt", openai=True)
    expected = load(folder / "a.pt", quick_model).encode_regions(image, masks)
    torch.testing.assert_close(load(path, quick_model).encode_regions(image, masks), expected)
    with pytest.raises(
        GenLangSplatError, match=rf"ViT-B-16\.pt.*QuickGELU.*{MODEL} has GELU.*--open-clip\.model {QUICK}"
    ):
        load(path)


def test_quick_gelu_is_seen_in_the_code_of_any_archive(folder: Path, tmp_path: Path, quick_model: str) -> None:
    path = script(quick_model, folder / "a.pt", tmp_path / "quick.pt")
    with pytest.raises(GenLangSplatError, match=rf"QuickGELU.*--open-clip\.model {QUICK}"):
        load(path)
    load(script(MODEL, folder / "a.pt", tmp_path / "gelu.pt"))


def test_openai_s_entries_in_a_plain_file_are_no_weights(folder: Path, tmp_path: Path, quick_model: str) -> None:
    state = torch.load(folder / "a.pt")
    torch.save({**state, "input_resolution": torch.tensor(32)}, tmp_path / "openai.pt")
    load(tmp_path / "openai.pt", quick_model)
    with pytest.raises(GenLangSplatError, match="QuickGELU"):
        load(tmp_path / "openai.pt")


def test_published_weights_for_quick_gelu_load_with_a_warning(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cached = tmp_path / "home" / ".cache" / "clip" / "openai.pt"
    cached.parent.mkdir(parents=True)
    cached.write_bytes((folder / "a.pt").read_bytes())
    for quick in (False, True):
        published = {"url": "https://example.org/openai.pt", "quick_gelu": quick}
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, MODEL, {"first": published})
        caplog.clear()
        OpenClipEncoder(OpenClipSettings(model=MODEL, weights="first"))
        assert (f"--open-clip.model {QUICK}" in caplog.text) == quick


@pytest.mark.parametrize("as_script", [False, True])
def test_weights_of_another_model_are_named_with_both_models(folder: Path, tmp_path: Path, as_script: bool) -> None:
    path = script(MODEL, folder / "a.pt", tmp_path / "s.pt") if as_script else folder / "a.pt"
    with pytest.raises(GenLangSplatError) as caught:
        load(path, WIDER_MODEL)
    message = str(caught.value)
    assert "They have a ViT of width 32 with 2 layers and 4 x 4 patches of 8 pixels" in message
    assert f"in open_clip {MODEL}" in message
    assert f"{WIDER_MODEL} has a ViT of width 48" in message
    assert "embeddings of width 16" in message


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["text_model.embeddings.token_embedding.weight"], "Hugging Face transformers.*open_clip_pytorch_model.bin"),
        (["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"], r"weights of SAM.*--sam\.checkpoint"),
        (["encoder.0.weight", "decoder.0.weight"], r"LangSplat's autoencoder.*--open-clip\.weights"),
    ],
)
def test_weights_of_other_programs_are_named_with_advice(
    folder: Path, tmp_path: Path, names: list[str], message: str
) -> None:
    torch.save({name: torch.zeros(2) for name in names}, tmp_path / "other.bin")
    with pytest.raises(GenLangSplatError, match=rf"other\.bin has {message}" if "SAM" in message else message):
        load(tmp_path / "other.bin")


def test_stand_ins_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(GenLangSplatError, match=r"w\.pt .*Git LFS pointer"):
        load(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-L-14-336-quickgelu", "RN50", "coca_ViT-B-32"])
def test_sizes_of_a_configuration_and_of_its_weights_agree(name: str) -> None:
    with torch.device("meta"):
        state = open_clip.create_model(name, device="meta", pretrained_hf=False).state_dict()
    assert shape_of_weights(state) == shape_of_config(open_clip.get_model_config(name))
    assert name in matching_models(state)
