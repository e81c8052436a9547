"""The commands that are killed and whose files fail, each on a scene of a few views, and what they leave behind.

A stage starts from a copy of one base folder, which always lies at the same path, because configs name paths.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene_io.checkpoints import latest_checkpoint
from tests.end_to_end.quick_extraction import ColorEncoder

IMPORTED = (
    *("genlangsplat_ns.cli", "genlangsplat_ns.config", "genlangsplat_ns.run", "genlangsplat_ns.demo.gallery"),
    *("genlangsplat_ns.scene.compression", "genlangsplat_ns.scene.export", "genlangsplat_ns.scene.evaluation"),
    *("genlangsplat_ns.scene.labeling", "genlangsplat_ns.scene.query_views", "genlangsplat_ns.scene.lifting"),
    *("genlangsplat_ns.features.watershed", "genlangsplat_ns.scene.extraction", "genlangsplat_ns.scene.run_report"),
    *("pretrain.__main__", "pretrain.embedding_commands", "pretrain.report", "tests.end_to_end.conftest"),
    *("nerfstudio.utils.eval_utils", "torch.utils.tensorboard", "tyro", "skimage.segmentation"),
)
"""What the commands import late, so that no child process has to import it."""

RGB_STEPS = 24
"""Steps of the RGB phase, enough for two refinements."""

ADAM_STEPS = 12
"""Steps of the optimization of the latents."""

TEXT = "something green"

RUN = Path("outputs/tiny/gen-langsplat-lite/run")
"""The run, below the folder of a stage."""

CONFIG = RUN / "config.yml"


class ColorTextEncoder(ColorEncoder):
    """The fake encoder for colors, which embeds every text as a direction of its own."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        rows = []
        for text in texts:
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
            color = np.random.default_rng(seed).uniform(0.05, 1, 3).astype(np.float32)
            rows.append(np.concatenate([color, color**2]) @ self.projection)
        return torch.nn.functional.normalize(torch.from_numpy(np.stack(rows)), dim=-1)


def use_fast_encoder() -> None:
    """Lets all commands of this process use the fake encoder."""
    from genlangsplat_ns.features import extractor

    extractor.load_encoder = lambda *arguments, **settings: ColorTextEncoder()  # type: ignore[assignment]


def command(*words: str | Path) -> None:
    """Runs `gen-langsplat` in this process, like the console script."""
    from genlangsplat_ns import cli

    sys.argv = ["gen-langsplat", *map(str, words)]
    cli.main()


def pretrain(*words: str | Path) -> None:
    """Runs `python -m pretrain` in this process."""
    from pretrain.__main__ import main

    sys.argv = ["pretrain", *map(str, words)]
    main()


def run_config(folder: Path, **model: Any) -> Any:
    """A short run on the scene of the folder."""
    from tests.end_to_end.conftest import make_config

    config = make_config(folder / "scene", folder / "outputs", RGB_STEPS, **model)
    config.steps_per_save = 8
    manager = config.pipeline.datamanager
    manager.encoder, manager.masks = "conse", "watershed"
    return config


def train_on(folder: Path, **model: Any) -> None:
    """Trains, or resumes from the newest checkpoint, as a user does."""
    from tests.end_to_end.conftest import train

    config = run_config(folder, **model)
    if model.get("language_solver") == "adam":
        config.max_num_iterations = RGB_STEPS + ADAM_STEPS
    checkpoints = config.get_checkpoint_dir()
    if latest_checkpoint(checkpoints) is not None:
        config.load_dir = checkpoints
    try:
        train(config)
    except GenLangSplatError as error:
        if "This run is complete" not in str(error):
            raise


def prepare_base(folder: Path) -> None:
    """Makes what stages start from: a scene with features, a finished run on it, and embeddings."""
    from genlangsplat_ns.demo.gallery import GallerySettings, build_gallery

    folder.mkdir()
    build_gallery(folder / "scene", GallerySettings(num_views=6, width=64, height=48, num_points=300))
    train_on(folder)
    stores = (folder / "scene" / "language_features").glob("*")
    for number, store in enumerate(stores):
        for name in ("first", "second"):
            pretrain_store(store, folder / "embeddings", f"{name}{number}")


def pretrain_store(store: Path, embeddings: Path, scene: str) -> None:
    """Copies the embeddings of a feature store, as those of a scene of that name."""
    from genlangsplat_ns.features.store import FeatureStore
    from pretrain.scene_files import write_scene

    found = FeatureStore.existing(store)
    frames = {}
    for key in found.keys():  # noqa: SIM118 - no mapping
        rows = found.load(key).embeddings.half()
        frames[f"{scene}/{key}"] = rows, torch.zeros(len(rows), dtype=torch.uint8)
    write_scene(embeddings, found.identity, "made", scene, frames, {})


@dataclass(frozen=True)
class Stage:
    """One command: what it starts from, what it does, and what it must leave."""

    name: str
    """Name in the tables."""
    run: Callable[[Path], None]
    """The work, in a child process. The same call again continues or repeats it."""
    results: Callable[[Path], dict[str, bytes | Tensor]]
    """Reads what the work left."""
    remove: tuple[str, ...] = ()
    """What it does not start from, below the base folder."""
    tolerance: float | None = None
    """The least cosine of the resumed result and the uninterrupted one; None if they are the same bit for bit."""

    def prepare(self, folder: Path) -> None:
        """Makes the base folder."""
        prepare_base(folder)

    def place(self, base: Path, folder: Path) -> None:
        """Copies what the stage starts from."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base, folder)
        for name in self.remove:
            shutil.rmtree(folder / name)


def files(*patterns: str) -> Callable[[Path], dict[str, bytes | Tensor]]:
    """Reads the files of a stage, byte by byte."""

    def read(folder: Path) -> dict[str, bytes | Tensor]:
        found = [path for pattern in patterns for path in folder.glob(pattern) if not path.name.startswith(".")]
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found) if path.is_file()}

    return read


def tensors_of(run: Path, *parts: str) -> Callable[[Path], dict[str, bytes | Tensor]]:
    """Reads tensors of the model in the newest checkpoint of a run."""

    def read(folder: Path) -> dict[str, bytes | Tensor]:
        path = latest_checkpoint(folder / run / "nerfstudio_models")
        if path is None:
            return {}
        model = torch.load(path, map_location="cpu", weights_only=True)["pipeline"]
        return {name: value for name, value in model.items() if any(part in name for part in parts)}

    return read


def mean_colors(run: Path) -> Callable[[Path], dict[str, bytes | Tensor]]:
    """Reads numbers of a training whose order of views restarts at a resume: moments of its Gaussians and latents."""
    of_model = tensors_of(run, "means", "opacities", "features_dc", "latents", "memory")

    def read(folder: Path) -> dict[str, bytes | Tensor]:
        tensors = of_model(folder)
        found: dict[str, bytes | Tensor] = {"entries": " ".join(sorted(tensors)).encode()}
        for name, value in tensors.items():
            if name.startswith("_model.memory"):
                continue
            assert isinstance(value, Tensor)
            rows = value.double().flatten(1)
            found[name] = torch.cat([rows.mean(dim=0), rows.std(dim=0)])
        return found

    return read


def compressed(folder: Path) -> None:
    target = folder / RUN.with_name("run-int8")
    # A finished copy is not overwritten, so it is there already.
    if not target.exists():
        command("compress", "--load-config", folder / CONFIG, "--text", TEXT)


EXPORTED = ("splats.ply", "splats.safetensors")


def exported(folder: Path) -> None:
    command(
        *("export", "--load-config", folder / CONFIG, "--output", folder / "out" / EXPORTED[0]),
        *("--latents", "file", "--overwrite"),
    )


def shared(folder: Path) -> None:
    command(
        *("share", "--load-config", folder / CONFIG, "--texts", TEXT, "--output-dir", folder / "page", "--overwrite"),
    )


def pretrained(folder: Path) -> None:
    pretrain(
        *("train", "--embeddings", folder / "embeddings", "--output", folder / "trained" / "tiny.safetensors"),
        *("--held-out", "second0", "--latent-dim", "4", "--architecture", "linear", "--training.steps", "40"),
        *("--training.checkpoint-every", "8", "--training.eval-every", "20", "--training.batch-size", "16"),
    )


def scores(folder: Path) -> dict[str, bytes | Tensor]:
    """Reads an evaluation without the time that it took."""
    path = folder / "out/evaluation.json"
    document = json.loads(path.read_text()) if path.is_file() else {}
    document.pop("seconds", None)
    return {"evaluation": json.dumps(document).encode()}


LANGUAGE = ("latents", "memory")

KILLED = [
    Stage(
        "extraction",
        lambda folder: command(
            *("extract", "--data", folder / "scene", "--encoder", "conse", "--masks", "watershed"),
            *("--max-image-side", "480"),
        ),
        files("scene/language_features/*/*.safetensors"),
        remove=("scene/language_features", "outputs"),
    ),
    Stage("RGB phase", train_on, mean_colors(RUN), remove=("outputs",), tolerance=0.99),
    Stage(
        "Adam",
        lambda folder: train_on(folder, language_solver="adam", language_steps=ADAM_STEPS),
        mean_colors(RUN),
        remove=("outputs",),
        tolerance=0.99,
    ),
    Stage("lifting", lambda folder: command("lift", "--load-config", folder / CONFIG), tensors_of(RUN, *LANGUAGE)),
    Stage("pre-training", pretrained, files("trained/tiny.safetensors")),
    Stage("compress", compressed, tensors_of(RUN.with_name("run-int8"), *LANGUAGE)),
    Stage("export", exported, files("out/*")),
]
"""The stages of the kill series."""

if find_spec("genlangsplat_ns.commands.share") is not None:
    KILLED.append(Stage("share", shared, files("page/**/*")))

WRITING = [
    Stage(
        "query",
        lambda folder: command(
            *("query", "--load-config", folder / CONFIG, "--text", TEXT, "--output-dir", folder / "out")
        ),
        files("out/*"),
    ),
    Stage(
        "label",
        lambda folder: command(
            *("label", "--load-config", folder / CONFIG, "--texts", TEXT, "something red", "--threshold", "0.3"),
            *("--output-dir", folder / "out", "--overwrite"),
        ),
        files("out/*"),
    ),
    Stage(
        "describe",
        lambda folder: command(
            *("describe", "--load-config", folder / CONFIG, "--output", folder / "out/groups.json", "--overwrite")
        ),
        files("out/*"),
    ),
    Stage(
        "evaluate",
        lambda folder: command("evaluate", "--load-config", folder / CONFIG, "--output-dir", folder / "out"),
        scores,
    ),
    Stage(
        "convert",
        lambda folder: command(
            *("convert", "--data", folder / "scene", "--encoder", "conse", "--masks", "watershed"),
            *("--max-image-side", "480", "--to-langsplat", folder / "out", "--overwrite"),
        ),
        files("out/*"),
    ),
]
"""Further commands that write files, for the series of faults."""


def twice(work: Callable[[Path], None]) -> Callable[[Path], None]:
    """Does the same work in two processes at once."""

    def run(folder: Path) -> None:
        child = os.fork()
        try:
            work(folder)
        except SystemExit as exit:
            if child == 0:
                os._exit(int(exit.code is not None and exit.code != 0))
            raise
        if child == 0:
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == 0, f"the other process ended with {status}"

    return run


def large_rendering(folder: Path) -> None:
    """Renders and differentiates a scene that needs a few hundred megabytes."""
    from genlangsplat_ns.rasterization import Gaussians, View, render

    generator = torch.Generator().manual_seed(0)
    count = 200_000
    means = (torch.rand(count, 3, generator=generator) - 0.5).requires_grad_()
    quats = torch.zeros(count, 4)
    quats[:, 0] = 1
    gaussians = Gaussians(means, quats, torch.full((count, 3), 0.02), torch.full((count,), 0.5))
    pose = torch.eye(4)
    pose[2, 3] = 2.0
    camera = torch.tensor([[600.0, 0.0, 320.0], [0.0, 600.0, 240.0], [0.0, 0.0, 1.0]])
    rendered, _, _ = render(gaussians, View(pose, camera, 640, 480), torch.rand(count, 16))
    rendered.sum().backward()


def small_demo(threads: int) -> Callable[[Path], None]:
    """Builds the gallery, extracts, trains both phases and asks, with a number of threads."""

    def run(folder: Path) -> None:
        torch.set_num_threads(threads)
        demo = folder / "demo"
        prepare_base(demo)
        command("query", "--load-config", demo / CONFIG, "--text", TEXT, "--output-dir", demo / "out")

    return run


def all_of_demo(folder: Path) -> dict[str, bytes | Tensor]:
    """Reads everything that a small demo makes, except times."""
    patterns = "scene/images/*", "scene/*.ply", "scene/language_features/*/*.safetensors", "out/*"
    return {**files(*patterns)(folder / "demo"), **tensors_of(RUN, "_model.")(folder / "demo")}


SPECIAL = [
    Stage("demo", small_demo(1), all_of_demo),
    Stage("demo with two threads", small_demo(2), all_of_demo),
    Stage("two extractions", twice(KILLED[0].run), KILLED[0].results, KILLED[0].remove),
    Stage("large rendering", large_rendering, files("scene/transforms.json")),
]
"""Work that is neither killed nor has files that fail."""

STAGES = {stage.name: stage for stage in (*KILLED, *WRITING, *SPECIAL)}
"""All of them by name."""
