"""A run without an object: the same scene, less the Gaussians that a text chooses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Bool
from rich.markup import escape
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.memory import DecoderName
from genlangsplat_ns.run import open_pipeline
from genlangsplat_ns.scene.chosen_gaussians import Choice
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.utils.files import atomic_path, check_new_file, safe_name


def remove_from_run(
    config_path: Path, choice: Choice, output_dir: Path, overwrite: bool, decoder: DecoderName | None = None
) -> Path:
    """Writes a new run without the chosen Gaussians; ns-render, ns-viewer and gen-langsplat open it like any other.

    Args:
        config_path: The run's config.yml.
        choice: The Gaussians to leave out.
        output_dir: Where the folder of the new run goes, as ns-train's --output-dir.
        overwrite: Whether a run of the same name may be replaced.
        decoder: What decodes latents; None for what the run says.

    Returns:
        The config.yml of the new run.

    Raises:
        GenLangSplatError: The run cannot be opened, nothing or everything is chosen, or the new run exists or cannot
            be written.
    """
    if not config_path.is_file():
        raise GenLangSplatError(f"There is no {config_path}. Expected the config.yml that ns-train wrote.")
    # The same trust as in every command that opens a run: nerfstudio's configs name the classes they are made of.
    config: Any = yaml.load(config_path.read_text(), Loader=yaml.Loader)
    texts = safe_name(" ".join(choice.query.texts))
    config.output_dir, config.timestamp = output_dir.resolve(), f"{config.timestamp}-without-{texts}"
    written = config.get_base_dir() / "config.yml"
    check_new_file(written, overwrite)
    pipeline, checkpoint = open_pipeline(config_path, decoder)
    scene = LanguageScene(pipeline.model, pipeline.datamanager)
    stays = ~choice.of(scene).keep
    if not bool(stays.any()):
        raise GenLangSplatError("Every Gaussian is chosen, so nothing would be left. Raise the threshold.")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    with atomic_path(written.parent / config.relative_model_dir / checkpoint.name) as temporary:
        torch.save(_without(state, stays), temporary)
    transforms = config_path.parent / "dataparser_transforms.json"
    if transforms.is_file():
        shutil.copyfile(transforms, written.parent / transforms.name)
    with atomic_path(written) as temporary:
        temporary.write_text(yaml.dump(config), encoding="utf-8")
    CONSOLE.print(f"The run without them: {escape(str(written))}.")
    return written


def _without(state: dict[str, Any], stays: Bool[Tensor, " num_gaussians"]) -> dict[str, Any]:
    """A checkpoint with some of its Gaussians; what optimizers know of the others goes, too, so that it can go on."""
    names = [name for name in state["pipeline"] if ".gauss_params." in name]
    pipeline = {name: value[stays] if name in names else value for name, value in state["pipeline"].items()}
    for name in (name.rpartition(".")[2] for name in names):
        for moments in state.get("optimizers", {}).get(name, {}).get("state", {}).values():
            for key, value in moments.items():
                if isinstance(value, Tensor) and value.shape[:1] == stays.shape:
                    moments[key] = value[stays]
    return {**state, "pipeline": pipeline}
