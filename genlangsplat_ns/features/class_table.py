"""The sentence embeddings of ImageNet's class names, stored because they take most of the encoder's start."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from genlangsplat_ns.features.sentences import SentenceModel
from genlangsplat_ns.utils.files import write_tensors

LOGGER = logging.getLogger(__name__)

PACKAGED = Path(str(resources.files("genlangsplat_ns"))) / "assets" / "conse-classes.safetensors"
"""The table of the package, written by `python -m pretrain embed-classes`."""


def embed_names(
    names: Sequence[str], sentences: SentenceModel, table: Path = PACKAGED
) -> Float[Tensor, "num_names embedding_dim"]:
    """Returns the embeddings of names: those of a table, if it is of the same names and model; else computes them."""
    stored = _read(table, source_of(names, sentences))
    return sentences.encode(names) if stored is None else stored


def write_table(path: Path, names: Sequence[str], sentences: SentenceModel) -> None:
    """Computes the embeddings of names and writes them with what they were computed from."""
    write_tensors(path, {"embeddings": sentences.encode(names)}, {"source": source_of(names, sentences)})


def source_of(names: Sequence[str], sentences: SentenceModel) -> str:
    """Returns a hash of the names and of the files of the sentence model."""
    return hashlib.sha256(json.dumps([sentences.source, *names]).encode()).hexdigest()


def _read(table: Path, source: str) -> Tensor | None:
    if not table.is_file():
        return None
    try:
        with safe_open(table, framework="pt") as file:
            if (file.metadata() or {}).get("source") == source:
                embeddings: Tensor = file.get_tensor("embeddings")
                return embeddings
    except (SafetensorError, OSError) as error:
        LOGGER.warning("The table %s is damaged (%s), so the embeddings are computed.", table, error)
        return None
    LOGGER.info("The table %s is of other names or another sentence model, so the embeddings are computed.", table)
    return None
