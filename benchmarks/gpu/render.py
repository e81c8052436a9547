"""Renders and lifts a run on the device that torch sees, and stores it: `python -m gpu.render RUN FILE VIEWS`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from genlangsplat_ns.demo.gallery import QUERIES
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.run import open_run
from genlangsplat_ns.scene.lifting import lift_scene
from gpu.sentences import use_stored_sentences


def render(run: Path, path: Path, num_views: int) -> None:
    """Stores images, lifted latents, and the relevancy of a text in both modes."""
    use_stored_sentences()
    scene = open_run(run)
    query = scene.embed(TextQuery((QUERIES[0].text,)))
    views = scene.views("train")[:num_views]
    answered = {mode: [scene.answer(query, scene.camera(view), mode) for view in views] for mode in MODES}
    lifted, _ = lift_scene(scene.model, scene.datamanager)
    tensors = {
        "images": torch.stack([view.rgb for view in answered["gaussian"]]),
        "latents": lifted.latents,
        "maps": torch.stack([view.answers[0].map for view in answered["rendered"]]),
        "scores": torch.stack([view.answers[0].map for view in answered["gaussian"]]),
    }
    save_file({name: values.detach().cpu().contiguous() for name, values in tensors.items()}, path)


MODES = ("gaussian", "rendered")

if __name__ == "__main__":
    render(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
