"""The encoder openclip: region crops like LangSplat's, texts and loading."""

from __future__ import annotations

import re

import cv2
import numpy as np
import open_clip
import open_clip.factory
import open_clip.pretrained
import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.encoders import (
    ImageTextEncoder,
    encoder_embedding_dim,
    encoder_identity,
    load_encoder,
    release_encoders,
)
from genlangsplat_ns.features.open_clip_encoder import OpenClipEncoder
from genlangsplat_ns.features.regions import RegionMask, ViewMasks
from genlangsplat_ns.features.settings import OpenClipSettings
from tests.features.tiny_clip import (
    DIM,
    MODEL,
    crops_of,
    plain_embeddings,
    settings_for,
)

pytestmark = pytest.mark.usefixtures("offline", "nothing_loaded")


@pytest.mark.parametrize("weights", ["a.pt", "a.safetensors"])
def test_regions_are_embedded_as_langsplat_does_one_crop_at_a_time(folder, image, masks, weights):
    rows = OpenClipEncoder(settings_for(folder / weights, batch_size=4)).encode_regions(image, masks)
    expected = plain_embeddings(crops_of(image, masks), folder / "a.pt")
    assert F.cosine_similarity(rows, expected).min() > 0.999
    # The threshold is meaningful because other regions and other scalings are below it.
    assert (expected @ expected.T - 2 * torch.eye(len(masks))).max() < 0.999
    averaged = plain_embeddings(crops_of(image, masks, cv2.INTER_AREA), folder / "a.pt")
    assert F.cosine_similarity(averaged, expected).min() < 0.99


@pytest.mark.parametrize("batch_size", [1, 2, 3, 11, 500])
def test_rows_keep_the_order_of_the_masks_for_any_batch_size(folder, encoder, image, masks, batch_size):
    batched = OpenClipEncoder(settings_for(folder / "a.pt", batch_size=batch_size))
    sizes: list[int] = []
    hook = batched._model.visual.register_forward_pre_hook(lambda model, inputs: sizes.append(len(inputs[0])))
    rows = batched.encode_regions(image, masks)
    hook.remove()
    assert sum(sizes) == len(masks)
    assert max(sizes) == min(batch_size, len(masks))
    torch.testing.assert_close(rows, encoder.encode_regions(image, masks), atol=1e-5, rtol=0)
    backwards = ViewMasks(90, 120, 3, masks.masks[::-1])
    torch.testing.assert_close(batched.encode_regions(image, backwards), rows.flip(0), atol=1e-5, rtol=0)


def test_rows_are_unit_vectors_of_single_precision(encoder, image, masks):
    rows = encoder.encode_regions(image, masks)
    assert rows.shape == (11, DIM)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(11))


def test_half_precision_gives_nearly_the_same_rows(folder, encoder, image, masks):
    half_precision = OpenClipEncoder(settings_for(folder / "a.pt", precision="bf16"))
    rows, expected = half_precision.encode_regions(image, masks), encoder.encode_regions(image, masks)
    assert rows.dtype == torch.float32
    assert 0.99 < F.cosine_similarity(rows, expected).min() < 1 - 1e-7
    assert F.cosine_similarity(half_precision.encode_texts(["a fox"]), encoder.encode_texts(["a fox"])).item() > 0.99


def test_a_view_without_regions_gives_no_rows(encoder, image):
    rows = encoder.encode_regions(image, ViewMasks(90, 120, 3, []))
    assert rows.shape == (0, DIM)


def test_an_overlapped_mask_is_embedded_whole(encoder, image):
    below, above = np.zeros((90, 120), dtype=bool), np.zeros((90, 120), dtype=bool)
    below[10:60, 10:60] = True
    above[20:50, 30:110] = True
    both = [RegionMask.from_pixels(0, pixels) for pixels in (below, above)]
    alone = torch.cat([encoder.encode_regions(image, ViewMasks(90, 120, 1, [mask])) for mask in both])
    torch.testing.assert_close(encoder.encode_regions(image, ViewMasks(90, 120, 1, both)), alone, atol=1e-5, rtol=0)
    remainder = ViewMasks(90, 120, 1, [RegionMask.from_pixels(0, below & ~above)])
    assert F.cosine_similarity(encoder.encode_regions(image, remainder), alone[:1]).item() < 0.99


def test_texts_are_unit_vectors_that_do_not_depend_on_their_company(encoder):
    texts = ["a fox", "an old wooden picture frame on a papered wall", "cat"]
    together = encoder.encode_texts(texts)
    alone = torch.cat([encoder.encode_texts([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3))
    assert F.cosine_similarity(together[0], together[1], dim=0) < 0.99
    assert encoder.encode_texts([]).shape == (0, DIM)


def test_texts_are_what_open_clip_makes_of_them(folder, encoder):
    model = open_clip.create_model(MODEL, pretrained=str(folder / "a.pt")).eval()
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer(MODEL)(["a fox", "cat"]), normalize=True)
    torch.testing.assert_close(encoder.encode_texts(["a fox", "cat"]), expected, atol=1e-5, rtol=0)


def test_the_sentences_around_a_text_are_averaged(folder, encoder):
    templates = ("a photo of a {}.", "{}", "a drawing of {} in {}.")
    rows = OpenClipEncoder(settings_for(folder / "a.pt", templates=templates)).encode_texts(["fox", "red cup"])
    for row, text in zip(rows, ["fox", "red cup"], strict=True):
        sentences = encoder.encode_texts([f"a photo of a {text}.", text, f"a drawing of {text} in {text}."])
        torch.testing.assert_close(row, F.normalize(sentences.mean(dim=0), dim=0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_a_blank_text_is_refused(encoder, text):
    with pytest.raises(GenLangSplatError, match="blank"):
        encoder.encode_texts(["a fox", text])


def test_the_identity_of_published_weights_is_their_name():
    assert encoder_identity("openclip") == "openclip/ViT-B-16/laion2b_s34b_b88k/1"


def test_the_identity_of_a_file_is_its_hash(folder, encoder, tmp_path):
    identities = {encoder_identity("openclip", settings_for(folder / name)) for name in ("a.pt", "b.pt")}
    assert len(identities) == 2
    assert encoder.identity in identities
    assert re.fullmatch(rf"openclip/{MODEL}/a\.pt@[0-9a-f]{{12}}/1", encoder.identity)
    (tmp_path / "a.pt").write_bytes((folder / "a.pt").read_bytes())
    assert encoder_identity("openclip", settings_for(tmp_path / "a.pt")) == encoder.identity


def test_the_identity_follows_a_file_that_is_replaced(tmp_path):
    settings = settings_for(tmp_path / "weights.pt")
    identities = []
    for content in (b"first", b"the second"):
        (tmp_path / "weights.pt").write_bytes(content)
        identities.append(encoder_identity("openclip", settings))
    assert identities[0] != identities[1]


def test_the_width_of_embeddings_comes_from_the_table_of_models(folder, monkeypatch):
    monkeypatch.setattr(open_clip, "create_model", None)
    assert encoder_embedding_dim("openclip") == 512
    assert encoder_embedding_dim("openclip", OpenClipSettings(model="ViT-H-14", weights="laion2b_s32b_b79k")) == 1024
    assert encoder_embedding_dim("openclip", OpenClipSettings(model=MODEL)) == DIM


def test_the_default_model_has_the_recorded_shapes():
    with torch.device("meta"):
        model = open_clip.create_model(OpenClipSettings().model, device="meta")
        row = model.encode_image(torch.zeros(1, 3, 224, 224))
    assert sum(weight.numel() for weight in model.parameters()) == 149_620_737
    assert open_clip.get_model_preprocess_cfg(model)["size"] in (224, (224, 224))
    assert row.shape == (1, encoder_embedding_dim("openclip"))


def test_an_encoder_is_loaded_once_until_it_is_released(folder):
    settings = settings_for(folder / "a.pt")
    first = load_encoder("openclip", open_clip=settings)
    assert load_encoder("openclip", open_clip=settings_for(folder / "a.pt")) is first
    other = load_encoder("openclip", open_clip=settings_for(folder / "b.pt"))
    assert other.identity != first.identity
    release_encoders()
    again = load_encoder("openclip", open_clip=settings)
    assert again is not first
    assert again.identity == first.identity


def test_the_encoder_keeps_the_promises_of_all_encoders(folder, encoder):
    assert isinstance(encoder, ImageTextEncoder)
    settings = settings_for(folder / "a.pt")
    assert encoder.name == "openclip"
    assert encoder.identity == encoder_identity("openclip", settings)
    assert encoder.embedding_dim == encoder_embedding_dim("openclip", settings)


def test_the_encoder_stays_out_of_checkpoints_of_modules_that_hold_it(encoder):
    holder = torch.nn.Module()
    holder.encoder = encoder
    assert holder.state_dict() == {}
    assert list(holder.parameters()) == []
