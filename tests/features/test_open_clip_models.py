"""Image-text models other than CLIP: what open_clip says of them, their image models of timm, and their tokenizers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import open_clip.pretrained
import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.clip_tokenizer import load_tokenizer
from genlangsplat_ns.features.encoders import encoder_embedding_dim
from genlangsplat_ns.features.open_clip_encoder import (
    OpenClipEncoder,
    _normalization,
    check_image_model,
    resolve_openclip_weights,
)
from genlangsplat_ns.features.settings import OpenClipSettings
from tests.features.tiny_clip import DIM, MEAN, MODEL, STD, model_config, settings_for

pytestmark = pytest.mark.usefixtures("offline", "nothing_loaded")

HALF = (0.5, 0.5, 0.5)

MODELS: tuple[tuple[str, str, int, int, bool, tuple[float, ...]], ...] = (
    ("ViT-B-16-SigLIP2", "webli", 768, 224, True, HALF),
    ("ViT-B-16-SigLIP2-512", "webli", 768, 512, True, HALF),
    ("ViT-L-16-SigLIP2-256", "webli", 1024, 256, True, HALF),
    ("ViT-SO400M-14-SigLIP2", "webli", 1152, 224, True, HALF),
    ("ViT-gopt-16-SigLIP2-256", "webli", 1536, 256, True, HALF),
    ("PE-Core-T-16-384", "meta", 512, 384, False, HALF),
    ("PE-Core-B-16", "meta", 1024, 224, False, HALF),
    ("PE-Core-L-14-336", "meta", 1024, 336, False, HALF),
    ("PE-Core-bigG-14-448", "meta", 1280, 448, False, HALF),
    ("ViT-B-16-quickgelu", "dfn2b", 512, 224, False, MEAN),
    ("ViT-L-14", "dfn2b_s39b", 768, 224, False, MEAN),
    ("ViT-H-14-quickgelu", "dfn5b", 1024, 224, False, MEAN),
)
"""Model, weights, width of embeddings, side of its images, whether its tokenizer is on the hub, and mean of pixels:
the table in docs/features.md."""


def require(model: str) -> dict[str, Any]:
    config: dict[str, Any] | None = open_clip.get_model_config(model)
    if config is None:
        pytest.skip(f"open_clip {open_clip.__version__} has no {model}; version 3 has it")
    return config


@pytest.mark.parametrize(("model", "weights", "width", "side", "hub", "mean"), MODELS)
def test_models_are_as_in_the_documents(model, weights, width, side, hub, mean):
    config = require(model)
    settings = OpenClipSettings(model, weights)
    assert encoder_embedding_dim("openclip", settings) == width
    assert config["vision_cfg"].get("image_size", 224) == side
    assert bool(config["text_cfg"].get("hf_tokenizer_name")) == hub
    assert tuple(_normalization(settings).get("mean", MEAN)) == mean


@pytest.mark.parametrize(("model", "width"), [("ViT-B-16-SigLIP2", 768), ("PE-Core-T-16-384", 512)])
def test_models_with_an_image_model_of_timm_embed_images_and_texts(model, width):
    config = require(model)
    try:
        check_image_model(model)
    except GenLangSplatError as error:
        pytest.skip(str(error))
    side, length = config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"]
    with torch.device("meta"):
        made = open_clip.create_model(model, device="meta")
        rows = made.encode_image(torch.zeros(2, 3, side, side)), made.encode_text(torch.zeros(2, length).long())
    assert [tuple(row.shape) for row in rows] == [(2, width), (2, width)]


def test_an_image_model_that_timm_does_not_have_is_an_error_with_the_way_to_it(monkeypatch):
    import timm

    monkeypatch.setattr(timm, "is_model", lambda name: False)
    for ask in (check_image_model, lambda name: resolve_openclip_weights(OpenClipSettings(name, "webli"), True)):
        with pytest.raises(GenLangSplatError, match=r"SigLIP2 needs the image model vit_base_patch16_siglip_224.*timm"):
            ask("ViT-B-16-SigLIP2")
    check_image_model("ViT-B-16")


# --------------------------------------------------------------------------------------------- a tokenizer of the hub


SIGLIP = "tiny-siglip"


@pytest.fixture
def siglip(tmp_path) -> Path:
    """Random weights of a tiny model with SigLIP's kind of text model and tokenizer, which is a local folder."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install transformers")
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install tokenizers")
    words = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", "a", "fox", "red", "cup"])}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    fast.save_pretrained(tmp_path / "tokenizer")
    config = model_config(32)
    config |= {"custom_text": True, "init_logit_bias": -10}
    config["text_cfg"] = {
        **{"context_length": 8, "vocab_size": len(words), "width": 16, "heads": 2, "layers": 2},
        **{"hf_tokenizer_name": str(tmp_path / "tokenizer"), "tokenizer_kwargs": {"clean": "canonicalize"}},
        **{"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    }
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{SIGLIP}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(open_clip.create_model(SIGLIP).state_dict(), tmp_path / "siglip.pt")
    return tmp_path / "siglip.pt"


def test_texts_of_a_sigmoid_model_are_cleaned_and_embedded_by_its_own_tokenizer(siglip, image, masks):
    encoder = OpenClipEncoder(OpenClipSettings(SIGLIP, str(siglip)))
    rows = encoder.encode_texts(["a fox", "A FOX!", "red cup"])
    assert rows.shape == (3, DIM) and encoder.embedding_dim == DIM
    # Its texts lose case and punctuation.
    torch.testing.assert_close(rows[0], rows[1])
    assert F.cosine_similarity(rows[0], rows[2], dim=0) < 0.999
    model = open_clip.create_model(SIGLIP, pretrained=str(siglip)).eval()
    with torch.no_grad():
        expected = model.encode_text(torch.tensor([[3, 4, *[0] * 6], [5, 6, *[0] * 6]]), normalize=True)
    torch.testing.assert_close(rows[[0, 2]], expected, atol=1e-5, rtol=0)
    assert encoder.encode_regions(image, masks).shape == (len(masks), DIM)


def test_a_tokenizer_that_is_not_on_this_machine_is_named_when_the_encoder_is_loaded(siglip):
    for file in (siglip.parent / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(GenLangSplatError, match=rf"tokenizer of {SIGLIP} is not on this machine.*--download-weights"):
        OpenClipEncoder(OpenClipSettings(SIGLIP, str(siglip)))


@pytest.mark.parametrize("download", [False, True])
def test_a_tokenizer_is_fetched_only_when_that_is_allowed(siglip, monkeypatch, download):
    asked: list[dict[str, object]] = []

    def get_tokenizer(model: str, **options: object) -> Callable[[list[str]], torch.Tensor]:
        asked.append(options)
        return lambda texts: torch.zeros(len(texts), 1)

    monkeypatch.setattr(open_clip, "get_tokenizer", get_tokenizer)
    load_tokenizer(SIGLIP, download)
    load_tokenizer(MODEL, download)
    assert asked == [{"local_files_only": not download}, {}]


def test_a_tokenizer_without_its_package_says_what_to_install(siglip, monkeypatch):
    def refuse(model: str, **options: object) -> None:
        raise ImportError("No module named 'transformers'")

    monkeypatch.setattr(open_clip, "get_tokenizer", refuse)
    with pytest.raises(GenLangSplatError, match=r"'transformers'.*pip install transformers sentencepiece"):
        load_tokenizer(SIGLIP)


# ---------------------------------------------------------------------------------------------------- weights as files


def test_a_file_gets_the_normalization_of_the_published_weights_if_they_agree(folder, monkeypatch):
    settings = settings_for(folder / "a.pt")
    half = {"mean": HALF, "std": HALF, "hf_hub": "tiny/clip/"}
    other = {"mean": MEAN, "std": STD, "hf_hub": "tiny/other/"}
    for published, expected in (({"first": half, "second": half}, HALF), ({"first": half, "second": other}, None)):
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, MODEL, published)
        assert _normalization(settings).get("mean") == expected
    assert _normalization(OpenClipSettings(MODEL, "second"))["mean"] == MEAN
