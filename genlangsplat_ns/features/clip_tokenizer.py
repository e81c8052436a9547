"""The tokenizers of open_clip's models: CLIP's own, which is part of open_clip, or one from the Hugging Face hub."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.clip_files import first_line

LOGGER = logging.getLogger(__name__)

Tokenizer = Callable[[list[str]], Tensor]
"""Turns texts into tokens, (num_texts, context_length)."""


def load_tokenizer(model: str, download: bool = False) -> Tokenizer:
    """Loads the tokenizer of a model.

    Args:
        model: open_clip's name of the model.
        download: Whether the files of a tokenizer on the Hugging Face hub are downloaded if they are missing.

    Raises:
        GenLangSplatError: The tokenizer is not on this machine, or needs a package that is not installed.
    """
    import open_clip

    text = (open_clip.get_model_config(model) or {}).get("text_cfg", {})
    repository = text.get("hf_tokenizer_name")
    if repository and download:
        LOGGER.info("Loading the tokenizer of %s from https://huggingface.co/%s", model, repository)
    options: dict[str, Any] = {"local_files_only": not download} if repository else {}
    try:
        tokenizer: Any = open_clip.get_tokenizer(model, **options)
    except ImportError as error:
        raise GenLangSplatError(
            f"The tokenizer of {model} needs a package that is not installed ({first_line(error)}). Run "
            "`pip install transformers sentencepiece`, or choose a model with CLIP's own tokenizer, such as ViT-B-16."
        ) from error
    except (OSError, ValueError) as error:
        raise GenLangSplatError(
            f"The tokenizer of {model} is not on this machine ({first_line(error)}). Run once with network access and "
            "--download-weights, or choose a model with CLIP's own tokenizer, such as ViT-B-16."
        ) from error
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is not None and not hasattr(inner, "batch_encode_plus"):
        # transformers 5 removed this name of the call, which open_clip 2 uses.
        inner.batch_encode_plus = inner.__call__
    result: Tokenizer = tokenizer
    return result
