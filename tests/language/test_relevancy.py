"""Relevancy is LERF's: the minimum two-way softmax of the text against each negative."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from genlangsplat_ns.language.relevancy import relevancy_of_cosines
from genlangsplat_ns.language.settings import DEFAULT_NEGATIVES


def relevancy(embeddings, positives, negatives, temperature=10.0):
    """Relevancy of unit embeddings."""
    return relevancy_of_cosines(embeddings @ positives.T, embeddings @ negatives.T, temperature)


def relevancy_by_definition(embeddings, positives, negatives, temperature):
    """The definition, one embedding, text and negative at a time."""
    scores = torch.empty(len(embeddings), len(positives))
    for i, embedding in enumerate(embeddings):
        for j, positive in enumerate(positives):
            pairs = []
            for negative in negatives:
                logits = temperature * torch.stack([embedding @ positive, embedding @ negative])
                pairs.append(torch.softmax(logits, dim=0)[0])
            scores[i, j] = min(pairs)
    return scores


def unit_rows(count: int, dim: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_texts=st.integers(1, 4),
    num_negatives=st.integers(1, 5),
    temperature=st.floats(0.1, 200.0),
)
def test_equals_the_definition_and_stays_in_range(seed, num_texts, num_negatives, temperature):
    embeddings, positives = unit_rows(7, 5, seed), unit_rows(num_texts, 5, seed + 1)
    negatives = unit_rows(num_negatives, 5, seed + 2)
    scores = relevancy(embeddings, positives, negatives, temperature)
    torch.testing.assert_close(
        scores, relevancy_by_definition(embeddings, positives, negatives, temperature), rtol=1e-3, atol=1e-5
    )
    assert (scores >= 0).all() and (scores <= 1).all()


def test_worked_example():
    embedding = torch.tensor([[1.0, 0.0]])
    positive = torch.tensor([[0.8, 0.6]])
    negatives = torch.tensor([[0.0, 1.0], [0.6, 0.8]])
    # The second negative is closer: sigmoid(10 * (0.8 - 0.6)).
    expected = 1 / (1 + math.exp(-2.0))
    assert relevancy(embedding, positive, negatives).item() == pytest.approx(expected, abs=1e-5)


def test_a_text_equal_to_a_negative_never_exceeds_one_half():
    texts = unit_rows(3, 8, 0)
    scores = relevancy(unit_rows(50, 8, 1), texts[:1], texts)
    assert (scores <= 0.5 + 1e-6).all()


def test_scale_and_bias_of_a_sigmoid_model_change_no_ranking():
    """SigLIP's logits are `scale * cosine + bias`: the bias cancels in pairs, and the scale is a temperature."""
    embeddings, positives, negatives = unit_rows(40, 8, 0), unit_rows(1, 8, 1), unit_rows(4, 8, 2)
    cosines, others = embeddings @ positives.T, embeddings @ negatives.T
    plain = relevancy_of_cosines(cosines, others, 10.0)
    torch.testing.assert_close(relevancy_of_cosines(cosines - 0.11, others - 0.11, 10.0), plain)
    assert torch.equal(relevancy_of_cosines(cosines, others, 3.0)[:, 0].argsort(), plain[:, 0].argsort())


def test_more_negatives_never_raise_the_score():
    embeddings, positives, negatives = unit_rows(20, 8, 0), unit_rows(2, 8, 1), unit_rows(5, 8, 2)
    assert (relevancy(embeddings, positives, negatives) <= relevancy(embeddings, positives, negatives[:2])).all()


def test_keeps_leading_axes_and_empty_batches():
    texts, negatives = unit_rows(2, 8, 0), unit_rows(4, 8, 1)
    assert relevancy(torch.zeros(3, 4, 8), texts, negatives).shape == (3, 4, 2)
    assert relevancy(torch.zeros(0, 8), texts, negatives).shape == (0, 2)


def test_extreme_temperatures_do_not_overflow():
    texts, negatives = unit_rows(2, 8, 0), unit_rows(4, 8, 1)
    assert torch.isfinite(relevancy(unit_rows(10, 8, 2), texts, negatives, temperature=1e6)).all()


def test_the_default_negatives_are_those_of_lerf():
    assert set(DEFAULT_NEGATIVES) == {"object", "things", "stuff", "texture"}
