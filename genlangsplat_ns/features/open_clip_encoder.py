"""The encoder openclip: any image-text model of open_clip, with LangSplat's region crops."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.clip_files import ERRORS_OF_OPEN_CLIP, first_line, load_clip_file
from genlangsplat_ns.features.clip_tokenizer import load_tokenizer
from genlangsplat_ns.features.regions import ViewMasks, cut_out
from genlangsplat_ns.features.settings import OpenClipSettings
from genlangsplat_ns.utils.downloads import silent_connections_end
from genlangsplat_ns.utils.files import file_sha256
from genlangsplat_ns.utils.matrix_products import onednn_matmul
from genlangsplat_ns.utils.unfinished import created, remove, remove_abandoned, store_on_disk, unfinished_path

LOGGER = logging.getLogger(__name__)

CROPS_VERSION = 1
"""Increases whenever the same weights give different embeddings."""

CPU_BATCH, CUDA_BATCH = 8, 128
"""Regions per batch. Larger batches exceed the caches of a CPU and are slower."""


class OpenClipEncoder:
    """Embeds regions and texts with a CLIP model.

    Like in LangSplat, a region is cropped on black, padded to a square and resized without antialiasing.
    """

    name = "openclip"

    def __init__(self, settings: OpenClipSettings, device: str = "cpu", download: bool = False) -> None:
        import open_clip

        self.identity = openclip_identity(settings)
        self.embedding_dim = openclip_embedding_dim(settings)
        self._settings = settings
        self._device = torch.device(device)
        on_cuda = self._device.type == "cuda"
        self._batch_size = settings.batch_size or (CUDA_BATCH if on_cuda else CPU_BATCH)
        precision = settings.precision if settings.precision != "auto" else ("fp16" if on_cuda else "fp32")
        weights = resolve_openclip_weights(settings, download)
        # First, because it may be missing, and loading the model takes long.
        self._tokenize = load_tokenizer(settings.model, download)
        options = {"precision": precision, "device": self._device, "force_preprocess_cfg": _normalization(settings)}
        if weights is None:
            model = _download_model(settings, options)
        else:
            model = load_clip_file(weights, settings.model, **options)
        _warn_of_activation(settings)
        self._model: Any = model.eval().requires_grad_(False)
        self._dtype = open_clip.get_input_dtype(precision) or torch.float32
        preprocessing = open_clip.get_model_preprocess_cfg(model)
        size = preprocessing["size"]
        self._side = int(size[0] if isinstance(size, (tuple, list)) else size)
        self._mean, self._std = (
            torch.tensor(preprocessing[name], device=self._device).view(3, 1, 1) for name in ("mean", "std")
        )

    @torch.no_grad()
    def encode_regions(
        self, image: UInt8[Tensor, "height width 3"], masks: ViewMasks
    ) -> Float[Tensor, "num_regions embedding_dim"]:
        """See `ImageTextEncoder.encode_regions`."""
        pixels = image.to(self._device).permute(2, 0, 1).float()
        embeddings = [torch.zeros(0, self.embedding_dim)]
        for start in range(0, len(masks), self._batch_size):
            crops = torch.stack([self._crop(pixels, mask) for mask in masks.masks[start : start + self._batch_size]])
            with onednn_matmul():
                encoded = self._model.encode_image(crops.to(self._dtype))
            embeddings.append(F.normalize(encoded.float(), dim=-1).cpu())
        return torch.cat(embeddings)

    def _crop(self, pixels: Tensor, mask: Any) -> Float[Tensor, "3 side side"]:
        # Rounded because LangSplat resizes 8-bit images.
        crop = cut_out(pixels, mask, self._side, antialias=False).round() / 255.0
        return (crop - self._mean) / self._std

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        """See `ImageTextEncoder.encode_texts`."""
        for text in texts:
            if not text.strip():
                raise GenLangSplatError(f"A text to embed is blank ({text!r}). Give at least one word.")
        embeddings = torch.zeros(len(texts), self.embedding_dim)
        for template in self._settings.templates if len(texts) else ():
            tokens = self._tokenize([template.replace("{}", text) for text in texts])
            with onednn_matmul():
                encoded = self._model.encode_text(tokens.to(self._device))
            embeddings += F.normalize(encoded.float(), dim=-1).cpu()
        return F.normalize(embeddings, dim=-1)


def _download_model(settings: OpenClipSettings, options: dict[str, Any]) -> Any:
    """Creates the model with weights that open_clip downloads."""
    import open_clip

    source = _source(settings)
    LOGGER.info(
        "Downloading CLIP's weights %s of %s from %s, without a hash to compare",
        settings.weights,
        settings.model,
        source,
    )
    try:
        with silent_connections_end():
            _download_from_url(settings)
            return open_clip.create_model(
                settings.model, pretrained=settings.weights, require_pretrained=True, **options
            )
    except OSError as error:
        raise GenLangSplatError(
            f"CLIP's weights {settings.weights} could not be downloaded from {source} ({first_line(error)}). Try "
            "again, or download them by other means and give the file with --open-clip.weights."
        ) from error
    except ERRORS_OF_OPEN_CLIP as error:
        raise GenLangSplatError(
            f"The weights {settings.weights!r} could not be loaded into {settings.model}: they are damaged or of "
            f"another model ({type(error).__name__}: {first_line(error)}). Download them again, or give the model "
            "they belong to with --open-clip.model."
        ) from error


def _download_from_url(settings: OpenClipSettings) -> None:
    """Downloads weights that are published at an address of their own, and names the file only when it is whole.

    open_clip itself would later take the half file of a killed download for the weights.
    """
    import open_clip

    published = _published(settings)
    if published.get("hf_hub") or not published.get("url"):
        return
    target = _file_of_url(published["url"])
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent)
    folder = unfinished_path(target)
    try:
        with created(folder, as_folder=True):
            file = Path(open_clip.download_pretrained_from_url(published["url"], str(folder)))
            store_on_disk(file)
            os.replace(file, target)
    finally:
        remove(folder)


def _file_of_url(url: str) -> Path:
    """Returns where open_clip keeps the file of an address."""
    return Path.home() / ".cache" / "clip" / Path(url).name


def _warn_of_activation(settings: OpenClipSettings) -> None:
    """Warns of published weights for QuickGELU in a model with GELU. Stored runs may have used them, so they load."""
    import open_clip

    if _published(settings).get("quick_gelu") and not (open_clip.get_model_config(settings.model) or {}).get(
        "quick_gelu"
    ):
        LOGGER.warning(
            "CLIP's weights %s were trained with the activation QuickGELU, but %s has GELU, so embeddings are less "
            "accurate. Give --open-clip.model %s-quickgelu.",
            *(settings.weights, settings.model, settings.model),
        )


def openclip_identity(settings: OpenClipSettings) -> str:
    """Returns the identity of the encoder: model and weights, with a hash if the weights are a file."""
    weights = settings.weights
    if _is_path(weights):
        if not Path(weights).is_file():
            raise GenLangSplatError(
                f"The weights file {weights} of --open-clip.weights does not exist. Give an existing file."
            )
        weights = f"{Path(weights).name}@{file_sha256(Path(weights))[:12]}"
    return f"openclip/{settings.model}/{weights}/{CROPS_VERSION}"


def openclip_embedding_dim(settings: OpenClipSettings) -> int:
    """Returns the width of the embeddings from open_clip's model configurations."""
    import open_clip

    config = open_clip.get_model_config(settings.model)
    if config is None:
        raise GenLangSplatError(
            f"open_clip has no model {settings.model!r}. Choose one of {', '.join(open_clip.list_models())}."
        )
    return int(config["embed_dim"])


def check_image_model(name: str) -> None:
    """Checks that the installed timm has the image model that a model of open_clip takes from it.

    Raises:
        GenLangSplatError: timm is missing or too old.
    """
    import open_clip

    image_model = (open_clip.get_model_config(name) or {}).get("vision_cfg", {}).get("timm_model_name")
    if image_model is None:
        return
    try:
        import timm

        version, known = timm.__version__, timm.is_model(image_model.split(".")[0])
        # open_clip imports its parts from here; timm has it since version 0.8.
        known = known and importlib.util.find_spec("timm.layers") is not None
    except ImportError:
        version, known = "none", False
    if not known:
        raise GenLangSplatError(
            f"open_clip's {name} needs the image model {image_model}, which the installed timm ({version}) does not "
            "have; nerfstudio pins timm 0.6.7 but does not import it. Run `pip install --no-deps -U timm "
            "open_clip_torch`, or choose a model that needs no timm, such as ViT-B-16."
        )


def openclip_weights_present(settings: OpenClipSettings) -> bool:
    """Whether the weights are on this machine; loads and downloads nothing."""
    return find_weights(settings) is not None


def resolve_openclip_weights(settings: OpenClipSettings, download: bool) -> Path | None:
    """Returns the weights file, or None if open_clip may download it. Reads no file.

    Raises:
        GenLangSplatError: The weights are unknown, missing and not to be downloaded, or timm lacks the image model.
    """
    check_image_model(settings.model)
    found = find_weights(settings)
    if found is not None:
        return found
    import open_clip

    published = open_clip.list_pretrained_tags_by_model(settings.model)
    if settings.weights not in published:
        raise GenLangSplatError(
            f"open_clip has no weights {settings.weights!r} of {settings.model}; it has {', '.join(published)}. "
            "Choose one of them, or give a file, with --open-clip.weights."
        )
    if not download:
        raise GenLangSplatError(
            f"CLIP's weights {settings.model} {settings.weights} are not on this machine. Run again with "
            f"--download-weights to download them from {_source(settings)}, give a file with --open-clip.weights, or "
            "choose the encoder conse, which needs no download."
        )
    return None


def find_weights(settings: OpenClipSettings) -> Path | None:
    """Returns the weights file if it exists where open_clip looks for it."""
    from huggingface_hub import try_to_load_from_cache

    if _is_path(settings.weights):
        return Path(settings.weights) if Path(settings.weights).is_file() else None
    published = _published(settings)
    if published.get("hf_hub"):
        repository, _, name = published["hf_hub"].rpartition("/")
        names = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        found = [try_to_load_from_cache(repository, candidate) for candidate in names]
        return next((Path(file) for file in found if isinstance(file, str)), None)
    file = _file_of_url(published.get("url", ""))
    return file if file.is_file() else None


def _published(settings: OpenClipSettings) -> dict[str, Any]:
    """Returns open_clip's entry of published weights, empty if it has none."""
    import open_clip

    return open_clip.get_pretrained_cfg(settings.model, settings.weights) or {}


def _normalization(settings: OpenClipSettings) -> dict[str, Any]:
    """Returns mean and standard deviation of the pixels, as far as they are known.

    A weights file does not contain them. It gets those of the model's published weights if these agree, such as all
    of SigLIP; else open_clip's default, OpenAI's.
    """
    import open_clip

    names = ("mean", "std")
    published = _published(settings)
    if not published and _is_path(settings.weights):
        tags = open_clip.list_pretrained_tags_by_model(settings.model)
        entries = [open_clip.get_pretrained_cfg(settings.model, tag) or {} for tag in tags]
        known = {tuple(tuple(entry.get(name) or ()) for name in names) for entry in entries}
        published = entries[0] if len(known) == 1 else {}
    return {name: published[name] for name in names if published.get(name)}


def _source(settings: OpenClipSettings) -> str:
    published = _published(settings)
    return f"https://huggingface.co/{published['hf_hub']}" if published.get("hf_hub") else str(published.get("url"))


def _is_path(weights: str) -> bool:
    return "/" in weights or "\\" in weights or Path(weights).suffix in (".pt", ".pth", ".bin", ".safetensors")
