"""Queries are validated on creation, and texts are embedded once."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language import query as query_module
from genlangsplat_ns.language.decoding import DecodedEmbeddings
from genlangsplat_ns.language.query import PROMPTS, EmbeddedQuery, TextQuery, embed_query, embed_texts
from genlangsplat_ns.language.settings import QuerySettings, split_texts

EMBEDDING_DIM = 6


class HashEncoder:
    """Embeds every text as its own fixed unit vector."""

    def __init__(self):
        self.calls = 0

    def encode_texts(self, texts):
        self.calls += 1
        rows = [torch.randn(EMBEDDING_DIM, generator=torch.Generator().manual_seed(sum(map(ord, t)))) for t in texts]
        return F.normalize(torch.stack(rows), dim=-1)


@pytest.fixture
def embedded() -> EmbeddedQuery:
    return embed_query(TextQuery(("a cat", "a rocket"), temperature=4.0), HashEncoder())


def test_all_texts_are_encoded_in_one_call():
    encoder = HashEncoder()
    embedded = embed_query(TextQuery(("a cat", "a rocket")), encoder)
    assert encoder.calls == 1
    assert embedded.positives.shape == (2, EMBEDDING_DIM) and embedded.negatives.shape == (4, EMBEDDING_DIM)
    torch.testing.assert_close(embedded.positives[1:], encoder.encode_texts(["a rocket"]))


def test_a_text_is_encoded_once_per_encoder():
    encoder = HashEncoder()
    first = embed_query(TextQuery(("a cat",)), encoder)
    again = embed_query(TextQuery(("a cat",), threshold=0.3), encoder)
    assert encoder.calls == 1 and torch.equal(first.positives, again.positives)
    embed_query(TextQuery(("a cat", "a dog")), encoder)
    assert encoder.calls == 2
    assert embed_query(TextQuery(("a cat",)), HashEncoder()).positives is not first.positives


def test_prompts_average_the_sentences_of_a_text():
    encoder = HashEncoder()
    embedded = embed_query(TextQuery(("a cat",), negatives=("stuff",), prompts=True), encoder)
    for vectors, text in ((embedded.positives, "a cat"), (embedded.negatives, "stuff")):
        sentences = encoder.encode_texts([prompt.replace("{}", text) for prompt in PROMPTS])
        torch.testing.assert_close(vectors, F.normalize(sentences.mean(dim=0, keepdim=True), dim=-1))


def test_the_embeddings_of_the_oldest_sentences_are_forgotten(monkeypatch):
    monkeypatch.setattr(query_module, "MAX_EMBEDDED", 2)
    encoder = HashEncoder()
    first = embed_texts(["a", "b", "c"], encoder)
    assert list(query_module._EMBEDDED[encoder]) == ["b", "c"]
    torch.testing.assert_close(embed_texts(["c", "a"], encoder), first[[2, 0]])


def test_decoded_latents_score_like_their_embeddings(embedded):
    embeddings = F.normalize(torch.randn(10, EMBEDDING_DIM, generator=torch.Generator().manual_seed(1)), dim=-1)
    torch.testing.assert_close(embedded.score_decoded(DecodedEmbeddings(embeddings)), embedded.score(embeddings))


def test_a_line_is_split_at_semicolons_and_any_script_survives():
    assert split_texts(" a fox;; 狐狸 ;🦊 picture ; ") == ("a fox", "狐狸", "🦊 picture")
    assert split_texts(" ; ") == ()
    assert TextQuery(("狐狸", "🦊")).texts == ("狐狸", "🦊")


def test_texts_are_trimmed_and_blank_negatives_dropped():
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
        ({"texts": ("a cat", "a \ud800mug")}, r"no Unicode"),
        ({"texts": ("Object ",)}, '"Object".*cannot score above itself'),
        ({"texts": ("a cat", "the sea"), "negatives": ("The Sea",)}, "Remove it from the negatives"),
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


def test_a_query_is_made_from_texts_and_settings():
    settings = QuerySettings(negatives=("wall; floor",), level="auto", threshold=0.3, prompts=True)
    query = TextQuery.of(split_texts("a cat; a dog", "a fox"), settings)
    assert query.texts == ("a cat", "a dog", "a fox") and query.negatives == ("wall", "floor")
    assert (query.level, query.threshold, query.prompts) == ("auto", 0.3, True)


def test_a_query_with_another_threshold_gives_the_same_scores(embedded):
    other = embedded.with_threshold(0.1)
    assert other.query.threshold == 0.1 and other.scores_like(embedded)
    assert embedded.with_threshold(embedded.query.threshold) is embedded
    assert not embedded.subset([0]).scores_like(embedded)


def test_batches_hold_all_texts_in_their_order(embedded):
    assert embedded.batches(2) == [embedded]
    parts = embedded.batches(1)
    assert [part.query.texts for part in parts] == [("a cat",), ("a rocket",)]
    torch.testing.assert_close(torch.cat([part.positives for part in parts]), embedded.positives)
