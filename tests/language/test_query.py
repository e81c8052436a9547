"""A query is checked when it is made, scored in chunks, and read by a stated rule."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language import query as query_module
from genlangsplat_ns.language.decoding import DecodedEmbeddings
from genlangsplat_ns.language.query import (
    EmbeddedQuery,
    TextQuery,
    answer_texts,
    choose_level,
    embed_query,
    find_peak,
    relevancy_maps,
    relevancy_of_zero,
    score_latents,
)
from genlangsplat_ns.language.relevancy import relevancy

LATENT_DIM, EMBEDDING_DIM = 4, 6


class HashEncoder:
    """Gives every text its own fixed unit vector."""

    def __init__(self):
        self.calls = 0

    def encode_texts(self, texts):
        self.calls += 1
        rows = [torch.randn(EMBEDDING_DIM, generator=torch.Generator().manual_seed(sum(map(ord, t)))) for t in texts]
        return F.normalize(torch.stack(rows), dim=-1)


class LinearDecoder:
    """A decoder that is not normalized and counts the rows it is given."""

    def __init__(self):
        self.weight = torch.randn(LATENT_DIM, EMBEDDING_DIM, generator=torch.Generator().manual_seed(5))
        self.rows = 0

    def __call__(self, latents):
        self.rows += len(latents)
        torch.testing.assert_close(latents.norm(dim=-1), torch.ones(len(latents)))
        return 3.0 * latents @ self.weight


def maps_pixel_by_pixel(latents, decode, query: EmbeddedQuery):
    """The readable twin of relevancy_maps."""
    height, width, levels, _ = latents.shape
    maps = torch.zeros(len(query.query.texts), levels, height, width)
    for y in range(height):
        for x in range(width):
            for level in range(levels):
                latent = latents[y, x, level]
                if latent.norm() <= query_module.EMPTY_NORM:
                    continue
                embedding = decode((latent / latent.norm())[None])[0]
                embedding = embedding / embedding.norm()
                scores = relevancy(embedding, query.positives, query.negatives, query.query.temperature)
                maps[:, level, y, x] = scores
    return maps


@pytest.fixture
def embedded() -> EmbeddedQuery:
    return embed_query(TextQuery(("a cat", "a rocket"), temperature=4.0), HashEncoder())


def some_latents(height=5, width=7, levels=3):
    latents = torch.randn(height, width, levels, LATENT_DIM, generator=torch.Generator().manual_seed(1))
    latents *= 0.1 + torch.rand(height, width, 1, 1, generator=torch.Generator().manual_seed(2))
    latents[0] = 0.0
    latents[1, :, 2] = 1e-4
    return latents


@pytest.mark.parametrize("chunk", [1, 8, 10_000])
def test_maps_equal_the_pixel_by_pixel_twin_whatever_the_chunk(embedded, monkeypatch, chunk):
    latents = some_latents()
    monkeypatch.setattr(score_latents, "__defaults__", (chunk,))
    maps = relevancy_maps(latents, LinearDecoder(), embedded)
    torch.testing.assert_close(maps, maps_pixel_by_pixel(latents, LinearDecoder(), embedded))


def test_empty_pixels_score_zero_and_are_never_decoded(embedded):
    decoder = LinearDecoder()
    maps = relevancy_maps(some_latents(), decoder, embedded)
    assert (maps[:, :, 0] == 0).all() and (maps[:, 2, 1] == 0).all()
    assert decoder.rows == 5 * 7 * 3 - 7 * 3 - 7
    assert (maps[:, :2, 1:] > 0).all() and (maps[:, 2, 2:] > 0).all()


def test_a_wholly_empty_view_answers_zero_without_failing(embedded):
    maps = relevancy_maps(torch.zeros(4, 5, 3, LATENT_DIM), LinearDecoder(), embedded)
    answers = answer_texts(maps, embedded.query)
    assert [answer.score for answer in answers] == [0.0, 0.0]
    assert not any(answer.mask.any() for answer in answers)


def test_brightness_of_a_latent_does_not_matter(embedded):
    latents = torch.randn(4, 5, 3, LATENT_DIM, generator=torch.Generator().manual_seed(1))
    decode = LinearDecoder()
    torch.testing.assert_close(
        relevancy_maps(latents, decode, embedded), relevancy_maps(0.1 * latents, decode, embedded)
    )


def test_all_texts_are_encoded_in_one_call():
    encoder = HashEncoder()
    embedded = embed_query(TextQuery(("a cat", "a rocket")), encoder)
    assert encoder.calls == 1
    assert embedded.positives.shape == (2, EMBEDDING_DIM) and embedded.negatives.shape == (4, EMBEDDING_DIM)
    torch.testing.assert_close(embedded.positives[1:], encoder.encode_texts(["a rocket"]))


def test_a_text_is_encoded_once_as_long_as_its_encoder_lives():
    encoder = HashEncoder()
    first = embed_query(TextQuery(("a cat",)), encoder)
    again = embed_query(TextQuery(("a cat",), threshold=0.3), encoder)
    assert encoder.calls == 1 and torch.equal(first.positives, again.positives)
    embed_query(TextQuery(("a cat", "a dog")), encoder)
    assert encoder.calls == 2
    assert embed_query(TextQuery(("a cat",)), HashEncoder()).positives is not first.positives


def test_prompts_average_the_sentences_a_text_is_put_into():
    encoder = HashEncoder()
    embedded = embed_query(TextQuery(("a cat",), ("stuff",), prompts=True), encoder)
    for vectors, text in ((embedded.positives, "a cat"), (embedded.negatives, "stuff")):
        sentences = encoder.encode_texts([prompt.replace("{}", text) for prompt in query_module.PROMPTS])
        torch.testing.assert_close(vectors, F.normalize(sentences.mean(dim=0, keepdim=True), dim=-1))


def test_what_is_decoded_scores_like_its_embeddings(embedded):
    embeddings = F.normalize(torch.randn(10, EMBEDDING_DIM, generator=torch.Generator().manual_seed(1)), dim=-1)
    torch.testing.assert_close(embedded.score_decoded(DecodedEmbeddings(embeddings)), embedded.score(embeddings))


def test_a_latent_of_zero_scores_as_what_it_is_decoded_to(embedded):
    latents = some_latents()
    assert relevancy_of_zero(latents, lambda rows: rows @ torch.ones(LATENT_DIM, EMBEDDING_DIM), embedded).tolist() == [
        pytest.approx(0.5)
    ] * len(embedded.query.texts)
    mean = embedded.positives[:1] + 0.1
    expected = embedded.score(F.normalize(mean, dim=-1))[0]
    torch.testing.assert_close(relevancy_of_zero(latents, lambda rows: mean.expand(len(rows), -1), embedded), expected)


def test_a_line_is_split_at_semicolons_and_any_script_survives():
    assert query_module.split_texts(" a fox;; 狐狸 ;🦊 picture ; ") == ("a fox", "狐狸", "🦊 picture")
    assert query_module.split_texts(" ; ") == ()
    assert TextQuery(("狐狸", "🦊")).texts == ("狐狸", "🦊")


LEVEL_MAPS = torch.tensor([[[0.2, 0.4], [0.0, 0.6]], [[0.4, 0.9], [0.0, 0.6]], [[0.6, 0.2], [0.5, 0.6]]])


def test_mean_averages_the_levels_that_show_something():
    choice = choose_level(LEVEL_MAPS, "mean")
    assert choice.name == "mean"
    torch.testing.assert_close(choice.map, torch.tensor([[0.4, 0.5], [0.5, 0.6]]))


def test_auto_takes_the_level_with_the_highest_raw_peak():
    choice = choose_level(LEVEL_MAPS, "auto")
    assert choice.name == "part"
    torch.testing.assert_close(choice.map, LEVEL_MAPS[1])


def test_auto_takes_the_first_of_tied_levels():
    assert choose_level(torch.stack([LEVEL_MAPS[1], LEVEL_MAPS[1], LEVEL_MAPS[0]]), "auto").name == "subpart"


def test_a_named_level_is_taken_as_it_is():
    torch.testing.assert_close(choose_level(LEVEL_MAPS, "whole").map, LEVEL_MAPS[2])
    with pytest.raises(GenLangSplatError, match="2 levels"):
        choose_level(LEVEL_MAPS[:2], "whole")


def test_answers_carry_score_peak_and_mask_of_their_text():
    maps = torch.stack([LEVEL_MAPS, LEVEL_MAPS.flip(-1)])
    answers = answer_texts(maps, TextQuery(("one", "two"), level="part", threshold=0.5))
    assert [answer.text for answer in answers] == ["one", "two"]
    assert answers[0].peak == (1, 0) and answers[1].peak == (0, 0)
    assert answers[0].score == pytest.approx(0.9)
    assert answers[0].mask.tolist() == [[False, True], [False, True]]
    assert answers[0].level == "part"


def test_the_mask_is_strictly_above_the_threshold():
    answer = answer_texts(torch.full((1, 3, 2, 2), 0.5), TextQuery(("one",), threshold=0.5))[0]
    assert not answer.mask.any()


def test_the_peak_is_the_first_in_reading_order_on_ties():
    assert find_peak(torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])) == (2, 0)


def test_texts_are_trimmed_and_blank_negatives_left_out():
    query = TextQuery((" a cat ",), negatives=("object", "", " things "))
    assert query.texts == ("a cat",) and query.negatives == ("object", "things")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": ()}, "no text"),
        ({"texts": ("a cat", " \t")}, "blank text"),
        ({"negatives": ("", "  ")}, "no negative"),
        ({"negatives": ()}, "no negative"),
        ({"texts": ("a cat " * 2000,)}, "11,999 characters|12,000 characters"),
        ({"negatives": ("x" * 10_000,)}, "10,000 characters"),
        ({"texts": ("Object ",)}, '"Object".*never beat itself'),
        ({"texts": ("a cat", "the sea"), "negatives": ("The Sea",)}, "Take it out of the negatives"),
        ({"level": "medium"}, '"medium".*subpart'),
        ({"threshold": 1.2}, "1.2"),
        ({"threshold": -0.1}, "-0.1"),
        ({"threshold": float("nan")}, "nan"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_bad_queries_are_refused_with_a_reason(changes, message):
    with pytest.raises(GenLangSplatError, match=message):
        TextQuery(**{"texts": ("a cat",), **changes})


def test_queries_are_values():
    query = TextQuery(("a cat",))
    assert query == TextQuery(("a cat",))
    assert dataclasses.replace(query, threshold=0.7) != query
    with pytest.raises(dataclasses.FrozenInstanceError):
        query.threshold = 0.1
