"""Trains two scenes on the card, and compares what the card computes with what the CPU computes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file

from fox import ask_views, held_out_psnr, mean
from genlangsplat_ns.demo.gallery import GallerySettings
from genlangsplat_ns.demo.run import run_demo
from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.run import open_run
from gpu.check import ROOT
from gpu.part import Settings, Skipped
from gpu.sentences import FOX, use_stored_sentences
from gpu.training import newest_run, short_config, stage_costs, train

RGB_STEPS = 2_000
TINY_GALLERY = GallerySettings(num_views=10, width=128, height=96, num_points=1_500)
QUICK_STEPS = 60
COMPARED_VIEWS = 5


def gallery(settings: Settings) -> None:
    """Trains the built-in gallery and asks its texts in held-out views."""
    use_stored_sentences()
    steps = settings.size(RGB_STEPS, QUICK_STEPS)

    def train_scene(data: Path, output: Path) -> Path:
        return train(short_config(data, output, "gallery", steps, settings.device))

    document = run_demo(
        settings.folder / "gallery", train_scene, open_run, TINY_GALLERY if settings.quick else GallerySettings()
    )
    settings.report("RGB steps", steps)
    settings.report("localization", document["localization"])
    settings.report("mean IoU", document["miou"])
    settings.report("held-out PSNR", document["psnr"]["eval"], "dB")
    _report_costs(settings, settings.folder / "gallery")


def fox(settings: Settings) -> None:
    """Trains the fox scene with the whole language phase and asks for the fox."""
    if not (settings.fox / "transforms.json").is_file():
        raise Skipped(f"the fox scene is not in {settings.fox}: give it with --fox")
    use_stored_sentences()
    steps = settings.size(RGB_STEPS, QUICK_STEPS)
    # A copy, because features are stored beside the photographs, and those of an earlier run would be read.
    data = settings.folder / "fox-scene"
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(settings.fox, data, ignore=shutil.ignore_patterns("language_features"))
    config = short_config(data, settings.folder / "fox", "fox", steps, settings.device)
    config.pipeline.datamanager.max_image_side = settings.size(480, 96)
    scene = open_run(train(config))
    rows = ask_views(scene, TextQuery((FOX[0],)))
    settings.report("RGB steps", steps)
    settings.report("held-out PSNR", held_out_psnr(scene), "dB")
    settings.report("peaks on the fox", mean([row["hit"] for row in rows if row["visible"]]))
    outlined = [row["iou"][TextQuery.threshold] for row in rows if row["outlined"] and row["visible"]]
    settings.report("mean IoU of 'a fox'", mean(outlined))
    _report_costs(settings, settings.folder / "fox")


def _report_costs(settings: Settings, folder: Path) -> None:
    for name, stage in stage_costs(newest_run(folder)).items():
        settings.report(f"seconds of {name}", float(stage["wall_seconds"]), "s")


def agreement(settings: Settings) -> None:
    """Renders and lifts the gallery on the CPU and on the device, and compares both."""
    run = newest_run(settings.folder / "gallery")
    results = []
    for device in ("cpu", settings.device):
        path = settings.folder / f"rendered-{len(results)}.safetensors"
        command = [sys.executable, "-W", "ignore", "-m", "gpu.render", str(run), str(path), str(COMPARED_VIEWS)]
        environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})}
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        results.append(load_file(path))
    expected, found = results
    difference = (found["images"] - expected["images"]).abs()
    settings.report("images: mean difference", float(difference.mean()))
    settings.report("images: largest difference", float(difference.max()))
    for name in ("maps", "scores"):
        settings.report(f"relevancy ({name}): mean difference", float((found[name] - expected[name]).abs().mean()))
    both = expected["latents"].any(-1) & found["latents"].any(-1)
    seen = expected["latents"].any(-1) | found["latents"].any(-1)
    cosines = F.cosine_similarity(found["latents"][both], expected["latents"][both], dim=-1)
    settings.report("latents: mean cosine", float(cosines.mean()))
    worst = cosines.sort().values[: max(1, len(cosines) // 100)]
    settings.report("latents: mean cosine of the worst percent", float(worst.mean()))
    settings.report("latents on one device alone", 1 - float(both.sum() / seen.sum().clamp_min(1)))
