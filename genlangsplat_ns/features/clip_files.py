"""Loads CLIP models from weights files of several formats, and says which model a file belongs to."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.utils.weight_files import WeightsFile, read_weights

ERRORS_OF_OPEN_CLIP = (
    *(OSError, EOFError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError),
    pickle.UnpicklingError,
)
"""What `open_clip.create_model` raises for weights of another model, which it converts before it compares them.

Only that call may be in a block that catches these.
"""

OPENAI_ENTRIES = ("input_resolution", "context_length", "vocab_size")
"""Entries of OpenAI's archives that are no weights."""

QUICK_GELU = "1.702"
"""The factor of QuickGELU, which OpenAI's models and some others have instead of GELU."""


class ClipShape(NamedTuple):
    """The sizes that tell CLIP models apart; None where they are unknown."""

    image: str | None
    """The image model: patches, width, layers and input size of a transformer, or layers and width of a ResNet."""
    text_width: int | None
    text_layers: int | None
    embedding_dim: int | None

    def __str__(self) -> str:
        text = "" if self.text_width is None else f", a text model of width {self.text_width}"
        layers = "" if self.text_layers is None else f" with {self.text_layers} layers"
        width = "" if self.embedding_dim is None else f", and embeddings of width {self.embedding_dim}"
        return f"{self.image or 'an image model of another kind'}{text}{layers}{width}"


def load_clip_file(path: Path, name: str, **options: Any) -> Any:
    """Creates a model of open_clip with the weights of a file.

    Safetensors, PyTorch files, checkpoints of open_clip's training, and TorchScript archives such as those of OpenAI
    are read; no code of the file runs.

    Args:
        path: The file.
        name: open_clip's name of the model.
        options: Further arguments of `open_clip.create_model`.
    """
    import open_clip

    file = read_weights(path)
    _check_kind(path, file)
    _check_activation(path, name, file)
    if file.is_plain and not set(OPENAI_ENTRIES) & file.tensors.keys():
        try:
            return open_clip.create_model(name, pretrained=str(path), require_pretrained=True, **options)
        except ERRORS_OF_OPEN_CLIP as error:
            raise _another_model(path, name, file, error) from error
    # open_clip 3 renamed the argument.
    base = "pretrained_text" if "pretrained_text" in signature(open_clip.create_model).parameters else "pretrained_hf"
    model = open_clip.create_model(name, **{base: False}, **options)
    # A TorchScript archive also has the mask of the text model, which is no weight.
    extra = {*OPENAI_ENTRIES, "attn_mask", "text.attn_mask"} - model.state_dict().keys()
    weights = {key: value for key, value in file.tensors.items() if key not in extra}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise _another_model(path, name, file, error) from error
    return model


def _check_kind(path: Path, file: WeightsFile) -> None:
    if file.kind is None or file.kind == "CLIP":
        return
    if "transformers" in file.kind and "CLIP" in file.kind:
        advice = (
            "Give open_clip's file instead: open_clip_model.safetensors or open_clip_pytorch_model.bin of the same "
            "repository, or for OpenAI's models --open-clip.model ViT-B-16-quickgelu --open-clip.weights openai."
        )
    elif file.kind == "SAM 2":
        advice = "Give CLIP's weights here; those of SAM 2.1 belong to --sam2.checkpoint."
    elif file.kind.startswith(("SAM", "MobileSAM")):
        advice = "Give CLIP's weights here; those of SAM belong to --sam.checkpoint."
    else:
        advice = "Give CLIP's weights with --open-clip.weights."
    raise GenLangSplatError(f"{path} has weights of {file.kind}, not of open_clip. {advice}")


def _check_activation(path: Path, name: str, file: WeightsFile) -> None:
    """Refuses weights for QuickGELU in a model with GELU: both have the same shapes, but the embeddings are wrong."""
    import open_clip

    quick = QUICK_GELU in file.code or bool(set(OPENAI_ENTRIES) & file.tensors.keys())
    if quick and not (open_clip.get_model_config(name) or {}).get("quick_gelu", False):
        fitting = [match for match in matching_models(file.tensors) if match.endswith("-quickgelu")]
        raise GenLangSplatError(
            f"The weights {path} were trained with the activation QuickGELU, like OpenAI's, but {name} has GELU. "
            f"Give --open-clip.model {' or '.join(fitting or [f'{name}-quickgelu'])}."
        )


def first_line(error: Exception) -> str:
    """Returns the beginning of an exception's message."""
    if isinstance(error, pickle.UnpicklingError):
        # torch's message recommends unsafe loading.
        return "it contains more than weights"
    return str(error).strip().split("\n")[0][:200]


def _another_model(path: Path, name: str, file: WeightsFile, error: Exception) -> GenLangSplatError:
    import open_clip

    fitting = matching_models(file.tensors)
    known = f" (in open_clip {' or '.join(fitting)})" if fitting else ""
    expected = shape_of_config(open_clip.get_model_config(name) or {})
    return GenLangSplatError(
        f"The weights {str(path)!r} could not be loaded into {name}: they are damaged or of another model "
        f"({type(error).__name__}: {first_line(error)}). They have {shape_of_weights(file.tensors)}{known}; {name} has "
        f"{expected}. Download them again, or give the model they belong to with --open-clip.model."
    )


def matching_models(tensors: Mapping[str, Tensor]) -> list[str]:
    """Returns the models of open_clip with the sizes of some weights; none if a size is unknown."""
    import open_clip

    shape = shape_of_weights(tensors)
    if None in shape:
        return []
    names: list[str] = open_clip.list_models()
    return [name for name in names if shape_of_config(open_clip.get_model_config(name)) == shape]


def shape_of_config(config: Mapping[str, Any]) -> ClipShape:
    """Returns the sizes of a model of open_clip by its configuration."""
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    layers, width, size = vision.get("layers"), vision.get("width"), vision.get("image_size", 224)
    image = None
    if isinstance(layers, int) and "timm_model_name" not in vision:
        patch = vision.get("patch_size", 16)
        side = size[0] if isinstance(size, (list, tuple)) else size
        image = _transformer(patch, width, layers, side // patch)
    elif isinstance(layers, (list, tuple)):
        image = _residual(layers, width)
    return ClipShape(image, text.get("width"), text.get("layers"), config.get("embed_dim"))


def shape_of_weights(tensors: Mapping[str, Tensor]) -> ClipShape:
    """Returns the sizes of a model of open_clip or OpenAI by its weights."""
    # Newer models of open_clip have a prefix for the text model.
    plain = {name.removeprefix("text."): tuple(tensor.shape) for name, tensor in tensors.items()}
    image = None
    first, positions = plain.get("visual.conv1.weight"), plain.get("visual.positional_embedding")
    if first and positions:
        grid = round((positions[0] - 1) ** 0.5)
        image = _transformer(first[-1], first[0], _count(plain, "visual.transformer.resblocks."), grid)
    elif first:
        layers = [_count(plain, f"visual.layer{number}.") for number in range(1, 5)]
        image = _residual(layers, 2 * first[0])
    width, projection = plain.get("ln_final.weight"), plain.get("text_projection")
    return ClipShape(
        image,
        width[0] if width else None,
        _count(plain, "transformer.resblocks.") or None,
        projection[-1] if projection else None,
    )


def _transformer(patch: int, width: int, layers: int, grid: int) -> str:
    return f"a ViT of width {width} with {layers} layers and {grid} x {grid} patches of {patch} pixels"


def _residual(layers: Any, width: int) -> str:
    return f"a ResNet of width {width} with {'-'.join(map(str, layers))} layers"


def _count(names: Mapping[str, Any], prefix: str) -> int:
    """Returns the number of numbered layers below a prefix."""
    return len({name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)})
