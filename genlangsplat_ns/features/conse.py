"""The embedded encoder: ConSE, with all weights inside ordinary Python packages, so that nothing is ever downloaded.

ConSE (Norouzi et al. 2013, "Zero-shot learning by convex combination of semantic embeddings") makes an image-text
encoder of two models that never saw each other: a classifier says which of its 1000 classes a region looks like, and
the region's embedding is the mean of the *sentence* embeddings of the class names, weighted by the class probabilities.
Any text can then be compared with it through the same sentence model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.region_classifier import RegionClassifier
from genlangsplat_ns.features.regions import ViewMasks
from genlangsplat_ns.features.sentences import SentenceModel, with_article
from genlangsplat_ns.features.wheels import import_file_of_wheel

CONSE_IDENTITY = "conse/efficientnet-lite2@960+48x96/all-minilm-l6-v2/1"
"""Name; image model with the long side it sees and the crops it looks at; sentence model; and a version that grows
whenever embeddings change."""

TOP_CLASSES = 30
"""How many of the most probable classes make up an embedding."""

TEMPERATURE = 1.4
"""Divides the classifier's logits. Above one, because a region of a view is less certain than a photograph of one thing
and the classifier's second thoughts carry the outline: on 46 hand-outlined queries the pixel AUC of the relevancy
(without crops) is 0.91, with the classifier's own probabilities (1.0) 0.90, with sharper ones (0.5) 0.85."""


class ConSEEncoder:
    """Embeds regions by EfficientNet-lite2 class probabilities and texts by all-MiniLM-L6-v2; see the module's text.

    Args:
        device: Where the classifier runs. Texts are always embedded on the CPU: they are few.

    Attributes:
        class_embeddings: Centerd embeddings of the class names, not normalized; every region is a mixture of them.
        classifier: What classifies the regions.

    Raises:
        GenLangSplatError: If one of the packages with the weights is not installed.
    """

    name = "conse"
    identity = CONSE_IDENTITY
    embedding_dim = SentenceModel.embedding_dim

    def __init__(self, device: str = "cpu") -> None:
        self.classifier = RegionClassifier(torch.device(device))
        self._sentences = SentenceModel()
        # Only the list of names: the package around it would take a quarter of a gigabyte.
        names = import_file_of_wheel("open_clip", "zero_shot_metadata.py").IMAGENET_CLASSNAMES
        classes = self._sentences.encode([with_article(name) for name in names])
        # Sentence embeddings share a large mean; with it, everything resembles everything.
        self._center = classes.mean(dim=0)
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
                raise GenLangSplatError(f"A text to embed is blank ({text!r}); give it at least one word.")
            if not self._sentences.knows(text):
                raise GenLangSplatError(
                    f"The embedded encoder knows no word of {text!r}; it reads English. Write English words, or train "
                    "with --pipeline.datamanager.encoder openclip, which has seen some of every script."
                )
        return F.normalize(self._sentences.encode([with_article(text) for text in texts]) - self._center, dim=-1)


def mix_classes(
    logits: Float[Tensor, "count num_classes"], class_embeddings: Float[Tensor, "num_classes embedding_dim"]
) -> Float[Tensor, "count embedding_dim"]:
    """Combines class embeddings by class probabilities into unit embeddings: ConSE, equation 2.

    Args:
        logits: The classifier's outputs before the softmax.
        class_embeddings: Centerd embeddings of the class names.
    """
    # The softmax over the few largest logits equals their share of the softmax over all, up to the length that is
    # normalized away anyway.
    top, classes = logits.topk(TOP_CLASSES, dim=-1)
    weights = (top / TEMPERATURE).softmax(dim=-1)
    mixed = F.embedding_bag(classes, class_embeddings, per_sample_weights=weights, mode="sum")
    return F.normalize(mixed, dim=-1)
