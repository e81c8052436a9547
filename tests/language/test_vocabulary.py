"""Vocabularies are files with one text per line, and the nearest texts name an embedding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language import vocabulary
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.vocabulary import Vocabulary, read_vocabulary


def test_blank_lines_and_duplicates_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("a cat\n\n  a fox \na cat\n", encoding="utf-8")
    assert read_vocabulary(path) == ("a cat", "a fox")


def test_the_default_vocabulary_is_valid_for_queries() -> None:
    texts = read_vocabulary(None)
    assert len(set(texts)) == len(texts) > 100
    assert TextQuery(texts).texts == texts


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xff\xfe\xff"])
def test_the_error_names_a_file_without_texts(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(GenLangSplatError, match=r"words\.txt"):
        read_vocabulary(path)


def test_a_missing_or_too_long_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GenLangSplatError, match="cannot be read"):
        read_vocabulary(tmp_path / "absent.txt")
    monkeypatch.setattr(vocabulary, "MAX_TEXTS", 2)
    (tmp_path / "long.txt").write_text("a\nb\nc\n")
    with pytest.raises(GenLangSplatError, match="has 3 texts, expected 1 to 2"):
        read_vocabulary(tmp_path / "long.txt")


def test_texts_are_sorted_by_their_best_level() -> None:
    texts = Vocabulary(("x", "y", "z"), torch.eye(3))
    levels = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2, 0.0], [0.0, 1.0, 0.1]]), dim=1)
    names = texts.nearest(levels, 5)
    assert [name for name, _ in names] == ["y", "x", "z"]
    assert dict(names)["y"] == pytest.approx(float(levels[1, 1]))
