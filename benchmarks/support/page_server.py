"""Serves a run for the measurement of its page, also with many more Gaussians than it has."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import nn

from genlangsplat_ns.language.settings import QuerySettings, SelectionSettings
from genlangsplat_ns.model import GenLangSplatModel
from genlangsplat_ns.run import open_run
from genlangsplat_ns.web.live_scene import LiveScene
from genlangsplat_ns.web.server import make_app
from genlangsplat_ns.web.serving import bound, serve

SPREAD = 0.002
"""Distance of a copied Gaussian from its origin, in the frame of the run."""


def serve_run(config: Path, gaussians: int | None, address: Connection) -> None:
    """Opens a run, sends the port of its page, and serves it until the process is ended."""
    with bound("127.0.0.1", 0) as taken:
        scene = open_run(config)
        if gaussians is not None:
            enlarge(scene.model, gaussians)
        live = LiveScene(scene, QuerySettings(), SelectionSettings(), (), str(config))
        port = taken.getsockname()[1]
        address.send(port)
        serve(make_app(live, port), taken, live.stop)


@torch.no_grad()
def enlarge(model: GenLangSplatModel, count: int) -> None:
    """Copies Gaussians of a model until it has `count`; copies lie beside their origin."""
    memory = model.field.memory
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(count) % model.num_points
    for name, values in list(model.gauss_params.items()):
        model.gauss_params[name] = nn.Parameter(values[rows])
    model.means.data += SPREAD * torch.randn(model.means.shape, generator=generator)
    model.set_memory(memory)
