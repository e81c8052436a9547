"""The columns of the rasterizer benchmark: our builds and other programs, by the passes that each supports."""

from __future__ import annotations

import json
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from plyfile import PlyData, PlyElement
from torch import Tensor

from genlangsplat_ns.rasterization import autograd, compositing_weights, rasterization
from genlangsplat_ns.rasterization.inputs import check_scene
from genlangsplat_ns.rasterization.library import load_kernels
from genlangsplat_ns.rasterization.ssim import structural_similarity
from support.garden import GardenScene
from support.timing import Stopwatch, Timing, repeat, timing_of

CHANNELS = (3, 16, 48)
LAMBDA_SIMILARITY = 0.2
"""Weight of the structural similarity in splatfacto's loss."""


def render(scene: GardenScene, leaves: list[Tensor], absgrad: bool = False) -> Tensor:
    """The image of our rasterizer."""
    camera = (scene.viewmat[None], scene.K[None], scene.width, scene.height)
    return rasterization(*leaves, *camera, absgrad=absgrad)[0]


def time_backward(outputs: list[Tensor], inputs: list[Tensor], repetitions: int) -> Timing:
    """Times the backward pass for a gradient of ones."""
    ones = [torch.ones_like(output) for output in outputs]
    return repeat(repetitions, lambda: torch.autograd.grad(outputs, inputs, ones, retain_graph=True))


def time_ours(scene: GardenScene, repetitions: int) -> dict[str, Timing]:
    """The build that the environment variable GENLANGSPLAT_ISA selects."""
    return {
        **_time_projection(scene, repetitions),
        **_time_compositing(scene, repetitions),
        **_time_weights(scene, repetitions),
        **_time_training_step(scene, repetitions),
    }


def _time_projection(scene: GardenScene, repetitions: int) -> dict[str, Timing]:
    timings = {}
    random = torch.Generator().manual_seed(0)
    harmonics = torch.randn(len(scene.means), 16, 3, generator=random, requires_grad=True)
    for row, values, degree in (("projection", None, 0), ("projection and harmonics", harmonics, 3)):
        leaves = scene.leaves(3)[:4]

        def project(leaves=leaves, values=values, degree=degree):
            checked = check_scene(*leaves, scene.viewmat, scene.K, scene.width, scene.height)
            return autograd.project(*checked, values, degree)

        timings[row] = repeat(repetitions, project)
        means2d, conics, _, opacities, colors, _ = project()
        outputs = [means2d, conics, opacities] if colors is None else [means2d, conics, opacities, colors]
        inputs = leaves if values is None else [*leaves, values]
        timings[f"{row}, backward"] = time_backward(outputs, inputs, repetitions)
    return timings


def _time_compositing(scene: GardenScene, repetitions: int) -> dict[str, Timing]:
    timings = {}
    means2d, conics, depths, opacities, _, radii = autograd.project(scene.gaussians, scene.view)
    kernels = load_kernels()
    for channels in CHANNELS:
        features = scene.features(channels)
        splats = (means2d, conics, opacities, depths, radii, features, scene.width, scene.height)
        binning = repeat(
            repetitions, lambda splats=splats: autograd.SceneHandle(kernels, autograd.splat_inputs(*splats))
        )
        if channels == CHANNELS[0]:
            timings["binning"] = binning
        leaves = scene.leaves(channels)
        timings[f"render {channels}"] = repeat(repetitions, lambda leaves=leaves: render(scene, leaves))
        image = render(scene, leaves, absgrad=True)
        timings[f"render {channels}, backward"] = time_backward([image], leaves, repetitions)
        frozen = [*(leaf.detach() for leaf in leaves[:4]), leaves[4]]
        timings[f"render {channels}, backward to features"] = time_backward(
            [render(scene, frozen)], [leaves[4]], repetitions
        )
        parts = [tensor.detach().clone().requires_grad_() for tensor in (means2d, conics, opacities, features)]

        def composite(parts=parts):
            picture = (scene.width, scene.height)
            return autograd.Composite.apply(*parts, None, depths, radii, *picture, True)[0]

        both = repeat(repetitions, composite)
        # The autograd function bins and composites in one call; the time of binning was measured separately.
        timings[f"composite {channels}"] = Timing(
            [wall - binning.median for wall in both.wall],
            [time - np.median(binning.processor) for time in both.processor],
        )
        timings[f"composite {channels}, backward"] = time_backward([composite()], parts, repetitions)
    return timings


def _time_weights(scene: GardenScene, repetitions: int) -> dict[str, Timing]:
    timings = {}
    for title, half_precision in (("", False), (" in half precision", True)):

        def extract(half_precision=half_precision):
            return compositing_weights(scene.gaussians, scene.view, half_precision=half_precision)

        timings[f"weights{title}"] = repeat(repetitions, extract)
        weights = extract()
        for channels in CHANNELS:
            features, targets = scene.features(channels), torch.rand(scene.height, scene.width, channels)
            products = {"W F": partial(weights.composite, features), "W^T G": partial(weights.backproject, targets)}
            for row, product in products.items():
                timings[f"{row} {channels}{title}"] = repeat(repetitions, product)
    return timings


def photometric_loss(image: Tensor, target: Tensor) -> Tensor:
    """Splatfacto's loss: L1 and structural similarity."""
    similarity = structural_similarity(*(picture.permute(0, 3, 1, 2) for picture in (image, target)))
    return (1 - LAMBDA_SIMILARITY) * (image - target).abs().mean() + LAMBDA_SIMILARITY * (1 - similarity)


def _time_training_step(scene: GardenScene, repetitions: int) -> dict[str, Timing]:
    target = torch.rand(1, scene.height, scene.width, 3, generator=torch.Generator().manual_seed(1))
    leaves = scene.leaves(3)
    optimizers = [torch.optim.Adam([leaf], lr=1e-6, fused=True) for leaf in leaves]

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        photometric_loss(render(scene, leaves, absgrad=True), target).backward()
        for optimizer in optimizers:
            optimizer.step()

    return {
        "loss and its gradient": _time_loss(scene, repetitions),
        "Adam": _time_adam(scene, repetitions),
        "RGB step": repeat(repetitions, step),
    }


def _time_loss(scene: GardenScene, repetitions: int) -> Timing:
    random = torch.Generator().manual_seed(1)
    image, target = (torch.rand(1, scene.height, scene.width, 3, generator=random) for _ in range(2))
    image.requires_grad_()
    return repeat(repetitions, lambda: photometric_loss(image, target).backward())


def _time_adam(scene: GardenScene, repetitions: int) -> Timing:
    leaves = scene.leaves(3)
    for leaf in leaves:
        leaf.grad = torch.ones_like(leaf)
    optimizers = [torch.optim.Adam([leaf], lr=1e-6, fused=True) for leaf in leaves]
    return repeat(repetitions, lambda: [optimizer.step() for optimizer in optimizers])


def time_outside(scene: GardenScene, command: str, repetitions: int, steps: int = 20) -> dict[str, Timing]:
    """Training steps of another program, as the difference between runs of `steps` and of twice as many.

    Args:
        scene: The training scene. The command gets it as a data set in nerfstudio's format.
        command: A shell command with the placeholders {scene} (the folder) and {steps}.
        repetitions: Number of runs of each length.
        steps: Length of the shorter run.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(scene, Path(folder))
        lengths = {}
        for count in (steps, 2 * steps):
            line = command.format(scene=folder, steps=count)
            watches = [Stopwatch() for _ in range(repetitions)]
            for watch in watches:
                with watch:
                    subprocess.run(line, shell=True, check=True, capture_output=True)
            lengths[count] = timing_of(watches)
    short, long = lengths.values()
    wall = [(twice - once) / steps for once, twice in zip(short.wall, long.wall, strict=True)]
    # The processor time of a child is not counted for this process, so only wall time is known.
    return {"RGB step": Timing(wall, [])}


def write_dataset(scene: GardenScene, folder: Path) -> None:
    """Writes the images, cameras and points of the scene as a data set that splatting programs can read."""
    (folder / "images").mkdir()
    frames = []
    for index, viewmat in enumerate(scene.viewmats):
        camera = (viewmat[None], scene.K[None], scene.width, scene.height)
        image = rasterization(*scene.gaussians.tensors(), scene.colors, *camera)[0][0]
        name = f"images/{index:03}.png"
        Image.fromarray((image.clamp(0, 1) * 255).round().byte().numpy()).save(folder / name)
        # From OpenCV's axes to OpenGL's, which the format requires.
        pose = torch.linalg.inv(viewmat) @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
        frames.append({"file_path": name, "transform_matrix": pose.tolist()})
    K = scene.K.tolist()
    intrinsics = {"fl_x": K[0][0], "fl_y": K[1][1], "cx": K[0][2], "cy": K[1][2], "w": scene.width, "h": scene.height}
    document = {"camera_model": "OPENCV", **intrinsics, "ply_file_path": "points.ply", "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(document))
    columns = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    rows = np.empty(len(scene.means), columns)
    for name, values in zip("xyz", scene.means.numpy().T, strict=True):
        rows[name] = values
    for name, values in zip(("red", "green", "blue"), scene.colors.numpy().T, strict=True):
        rows[name] = (values * 255).round()
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(folder / "points.ply"))
