"""Writes a copy of a run without some of its Gaussians."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.runs import StoredRun, name_data, write_beside

LOGGER = logging.getLogger(__name__)


def write_without(run: StoredRun, config: Any, remove: Bool[Tensor, " num_gaussians"], overwrite: bool = False) -> Path:
    """Writes a new run without some Gaussians and returns its config.yml, which all commands open like any other.

    The nerfstudio `config` determines its folder.

    Raises:
        GenLangSplatError: No Gaussian would be left.
    """
    if bool(remove.all()):
        raise GenLangSplatError("Every Gaussian is selected, so nothing would be left. Raise the threshold.")
    name_data(run, config.get_base_dir(), config)
    written = write_beside(run, config.get_base_dir(), _restricted(run.load_state(), ~remove), config, overwrite)
    LOGGER.info("The run without the removed Gaussians: %s.", written)
    return written


def _restricted(state: dict[str, Any], keep: Bool[Tensor, " num_gaussians"]) -> dict[str, Any]:
    """Returns a checkpoint with only the kept Gaussians, also in the optimizer states, so that it can be resumed."""
    names = [name for name in state["pipeline"] if ".gauss_params." in name]
    pipeline = {name: value[keep] if name in names else value for name, value in state["pipeline"].items()}
    for name in (name.rpartition(".")[2] for name in names):
        for moments in state.get("optimizers", {}).get(name, {}).get("state", {}).values():
            for key, value in moments.items():
                if isinstance(value, Tensor) and value.shape[:1] == keep.shape:
                    moments[key] = value[keep]
    return {**state, "pipeline": pipeline}
