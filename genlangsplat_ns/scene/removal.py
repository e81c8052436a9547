"""A run without an object: the same scene, less some Gaussians."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.runs import StoredRun, write_beside

LOGGER = logging.getLogger(__name__)


def write_without(run: StoredRun, config: Any, remove: Bool[Tensor, " num_gaussians"], overwrite: bool = False) -> Path:
    """Writes a new run without some Gaussians; ns-render, ns-viewer and gen-langsplat open it like any other.

    Args:
        run: The run to start from.
        config: The nerfstudio config of the new run, which says where it goes.
        remove: The Gaussians to leave out.
        overwrite: Whether to replace a run of the same name.

    Returns:
        The config.yml of the new run.

    Raises:
        GenLangSplatError: No Gaussian would be left.
    """
    if bool(remove.all()):
        raise GenLangSplatError("Every Gaussian is chosen, so nothing would be left. Raise the threshold.")
    written = write_beside(run, config.get_base_dir(), _without(run.load_state(), ~remove), config, overwrite)
    LOGGER.info("The run without them: %s.", written)
    return written


def _without(state: dict[str, Any], stays: Bool[Tensor, " num_gaussians"]) -> dict[str, Any]:
    """A checkpoint with some of its Gaussians, also in the optimizers, so that it can be resumed."""
    names = [name for name in state["pipeline"] if ".gauss_params." in name]
    pipeline = {name: value[stays] if name in names else value for name, value in state["pipeline"].items()}
    for name in (name.rpartition(".")[2] for name in names):
        for moments in state.get("optimizers", {}).get(name, {}).get("state", {}).values():
            for key, value in moments.items():
                if isinstance(value, Tensor) and value.shape[:1] == stays.shape:
                    moments[key] = value[stays]
    return {**state, "pipeline": pipeline}
