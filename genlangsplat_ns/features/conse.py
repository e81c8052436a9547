"""The embedded encoder: ConSE, with weights from ordinary Python packages, so that it needs no download.

ConSE (Norouzi et al. 2013, "Zero-shot learning by convex combination of semantic embeddings") combines two independent
models into an image-text encoder: a classifier predicts 1000 class probabilities for a region, and its embedding is the
mean of the sentence embeddings of the class names, weighted by them. The same sentence model embeds texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.class_table import embed_names
from genlangsplat_ns.features.region_classifier import RegionClassifier
from genlangsplat_ns.features.regions import ViewMasks
from genlangsplat_ns.features.sentences import SentenceModel, with_article

CONSE_IDENTITY = "conse/efficientnet-lite2@960+48x96/all-minilm-l6-v2/1"
"""Name, image model with input size and crops, sentence model, and a version that increases when embeddings change."""

TOP_CLASSES = 30
"""Number of most probable classes in an embedding."""

TEMPERATURE = 1.4
"""Softmax temperature. Above 1, because less probable classes contribute to the outline: on 46 hand-outlined queries
the pixel AUC of the relevancy (without crops) is 0.91, compared to 0.90 at temperature 1.0 and 0.85 at 0.5."""

SHOWN = 60
"""Number of characters of a text that an error shows."""


class ConSEEncoder:
    """Embeds regions with EfficientNet-lite2, and texts, which are few, with all-MiniLM-L6-v2 on the CPU."""

    name = "conse"
    identity = CONSE_IDENTITY
    embedding_dim = SentenceModel.embedding_dim

    def __init__(self, device: str = "cpu", sentences: SentenceModel | None = None) -> None:
        self.classifier = RegionClassifier(torch.device(device))
        self._sentences = sentences or SentenceModel()
        classes = embed_names([with_article(name) for name in class_names()], self._sentences)
        # Sentence embeddings share a large mean, which makes all of them similar.
        self._center = classes.mean(dim=0)
        # Centered, but not normalized.
        self.class_embeddings: Float[Tensor, "num_classes embedding_dim"] = classes - self._center

    def encode_regions(
        self, image: UInt8[Tensor, "height width 3"], masks: ViewMasks
    ) -> Float[Tensor, "num_regions embedding_dim"]:
        """See `ImageTextEncoder.encode_regions`."""
        return mix_classes(self.classifier.logits(image, masks), self.class_embeddings)

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        """See `ImageTextEncoder.encode_texts`."""
        for text in texts:
            if not text.strip():
                raise GenLangSplatError(f"A text to embed is blank ({text!r}). Give at least one word.")
            if not self._sentences.knows(text):
                shortened = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
                raise GenLangSplatError(
                    f"The embedded encoder knows no word of {shortened!r}; it supports English only. Use English "
                    "words, or train with --pipeline.datamanager.encoder openclip, which knows words of every script."
                )
        return F.normalize(self._sentences.encode([with_article(text) for text in texts]) - self._center, dim=-1)


def class_names() -> tuple[str, ...]:
    """Returns open_clip's names of ImageNet's classes; importing all of open_clip would take 250 MB of memory."""
    package = find_spec("open_clip")
    assert package is not None and package.origin is not None, "open_clip is a dependency"
    file = Path(package.origin).with_name("zero_shot_metadata.py")
    return tuple(run_path(str(file))["IMAGENET_CLASSNAMES"])


def mix_classes(
    logits: Float[Tensor, "count num_classes"], class_embeddings: Float[Tensor, "num_classes embedding_dim"]
) -> Float[Tensor, "count embedding_dim"]:
    """Averages centered class embeddings by class probability, and normalizes the mean (ConSE, equation 2)."""
    # Normalization removes the factor by which this softmax differs from that over all logits.
    top, classes = logits.topk(TOP_CLASSES, dim=-1)
    weights = (top / TEMPERATURE).softmax(dim=-1)
    mixed = F.embedding_bag(classes, class_embeddings, per_sample_weights=weights, mode="sum")
    return F.normalize(mixed, dim=-1)
