"""The columns of the rasterizer benchmark: our builds, two torch implementations, numba, and other programs.

Each function times the passes it supports and returns the timings by row. All of them do the same work on the same
scene. Results of columns that share a row are compared before they are timed.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from plyfile import PlyData, PlyElement
from torch import Tensor

from garden import GardenScene
from genlangsplat_ns.rasterization import Gaussians, autograd, compositing_weights, cpu, rasterization, reference
from genlangsplat_ns.rasterization.inputs import check_scene
from genlangsplat_ns.rasterization.library import load_kernels
from genlangsplat_ns.rasterization.ssim import structural_similarity
from timing import Stopwatch, Timing, repeat, timing_of

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
            return cpu.project(*checked, values, degree)

        timings[row] = repeat(repetitions, project)
        means2d, conics, _, opacities, colors, _ = project()
        outputs = [means2d, conics, opacities] if colors is None else [means2d, conics, opacities, colors]
        inputs = leaves if values is None else [*leaves, values]
        timings[f"{row}, backward"] = time_backward(outputs, inputs, repetitions)
    return timings


def _time_compositing(scene: GardenScene, repetitions: int) -> dict[str, Timing]:
    timings = {}
    means2d, conics, depths, opacities, _, radii = cpu.project(scene.gaussians, scene.view)
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


def photometric_loss(image: Tensor, target: Tensor, similarity: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Splatfacto's loss: L1 and structural similarity."""
    pictures = (picture.permute(0, 3, 1, 2) for picture in (image, target))
    return (1 - LAMBDA_SIMILARITY) * (image - target).abs().mean() + LAMBDA_SIMILARITY * (1 - similarity(*pictures))


def _time_training_step(scene: GardenScene, repetitions: int) -> dict[str, Timing]:
    target = torch.rand(1, scene.height, scene.width, 3, generator=torch.Generator().manual_seed(1))
    leaves = scene.leaves(3)
    optimizers = [torch.optim.Adam([leaf], lr=1e-6, fused=True) for leaf in leaves]

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        photometric_loss(render(scene, leaves, absgrad=True), target, structural_similarity).backward()
        for optimizer in optimizers:
            optimizer.step()

    return {
        "loss and its gradient": _time_loss(scene, structural_similarity, repetitions),
        "Adam": _time_adam(scene, repetitions, fused=True),
        "RGB step": repeat(repetitions, step),
    }


def _time_loss(scene: GardenScene, similarity: Callable[[Tensor, Tensor], Tensor], repetitions: int) -> Timing:
    random = torch.Generator().manual_seed(1)
    image, target = (torch.rand(1, scene.height, scene.width, 3, generator=random) for _ in range(2))
    image.requires_grad_()
    return repeat(repetitions, lambda: photometric_loss(image, target, similarity).backward())


def _time_adam(scene: GardenScene, repetitions: int, fused: bool) -> Timing:
    leaves = scene.leaves(3)
    for leaf in leaves:
        leaf.grad = torch.ones_like(leaf)
    optimizers = [torch.optim.Adam([leaf], lr=1e-6, fused=fused) for leaf in leaves]
    return repeat(repetitions, lambda: [optimizer.step() for optimizer in optimizers])


def _reference_pass(scene: GardenScene, forward: Stopwatch, backward: Stopwatch) -> list[Tensor]:
    """One forward and backward pass of the torch reference, tile by tile to limit the size of the graph."""
    leaves = scene.leaves(3)
    with forward:
        splats = reference.project(Gaussians(*leaves[:4]), scene.view)
        tiles = list(reference.TileGrid.of(splats, scene.width, scene.height))
        members = torch.cat([tile[2] for tile in tiles])
        gathered = [tensor[members] for tensor in (splats.means2d, splats.conics, leaves[3], leaves[4])]
        sizes = [len(tile[2]) for tile in tiles]
        parts = list(zip(*(tensor.detach().split(sizes) for tensor in gathered), strict=True))
        parts = [[part.requires_grad_() for part in tile] for tile in parts]
    for (rows, columns, _), tile in zip(tiles, parts, strict=True):
        with forward:
            image = reference.tile_weights(rows, columns, *tile[:3]) @ tile[3]
        with backward:
            image.backward(torch.ones_like(image))
    with backward:
        gradients = [torch.cat([tile[k].grad for tile in parts]) for k in range(4)]
        return list(torch.autograd.grad(gathered, leaves, gradients))


def time_torch_reference(scene: GardenScene, repetitions: int) -> dict[str, Timing]:
    """The readable torch reference, with pytorch_msssim and torch's default Adam for the rest of a step."""
    from pytorch_msssim import ssim

    watches = [(Stopwatch(), Stopwatch()) for _ in range(repetitions)]
    for forward, backward in watches:
        gradients = _reference_pass(scene, forward, backward)
    ours = scene.leaves(3)
    check_same("the reference's gradients", gradients, torch.autograd.grad(render(scene, ours).sum(), ours))
    leaves = scene.leaves(3)[:3]

    def project() -> list[Tensor]:
        splats = reference.project(Gaussians(*leaves, scene.opacities), scene.view)
        seen = splats.radii > 0
        return [splats.means2d[seen], splats.conics[seen]]

    return {
        "projection": repeat(repetitions, project),
        "projection, backward": time_backward(project(), leaves, repetitions),
        "render 3": timing_of([forward for forward, _ in watches]),
        "render 3, backward": timing_of([backward for _, backward in watches]),
        "loss and its gradient": _time_loss(scene, lambda a, b: ssim(a, b, data_range=1.0), repetitions),
        "Adam": _time_adam(scene, repetitions, fused=False),
    }


def time_gsplat_torch(scene: GardenScene, repetitions: int) -> dict[str, Timing]:
    """The parts of gsplat's own torch code that run without CUDA: projection and harmonics, but not compositing."""
    from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci, _spherical_harmonics

    leaves = scene.leaves(3)[:3]
    harmonics = torch.randn(len(scene.means), 16, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    position = torch.linalg.inv(scene.viewmat)[:3, 3]

    def project() -> list[Tensor]:
        covariances, _ = _quat_scale_to_covar_preci(leaves[1], leaves[2], True, False)
        camera = (scene.viewmat[None], scene.K[None], scene.width, scene.height)
        radii, means2d, _, conics, _ = _fully_fused_projection(leaves[0], covariances, *camera)
        seen = radii > 0
        return [means2d[seen], conics[seen]]

    def shade() -> list[Tensor]:
        return [*project(), _spherical_harmonics(3, leaves[0] - position, harmonics)]

    return {
        "projection": repeat(repetitions, project),
        "projection, backward": time_backward(project(), leaves, repetitions),
        "projection and harmonics": repeat(repetitions, shade),
        "projection and harmonics, backward": time_backward(shade(), [*leaves, harmonics], repetitions),
    }


def time_numba(scene: GardenScene, repetitions: int) -> dict[str, Timing]:
    """The numba implementation, without absolute gradients. Compilation is not included."""
    import numba_splatter as peer

    means, quats, scales, opacities = (tensor.numpy() for tensor in scene.gaussians.tensors())
    camera = (scene.viewmat.numpy(), scene.K.numpy(), scene.width, scene.height)
    project = partial(peer.project, means, quats, scales, *camera)
    means2d, conics, depths, radii = project()
    lists = partial(peer.bin, means2d, conics, opacities, depths, radii, scene.width, scene.height)
    splats, tile_start, entries = lists()
    timings = {"projection": repeat(repetitions, project), "binning": repeat(repetitions, lists)}
    for channels in CHANNELS:
        features = scene.features(channels).numpy()
        inputs = (splats, features, tile_start, entries, scene.width, scene.height)
        composite = partial(peer.composite, *inputs)
        image = composite()
        expected = render(scene, [*scene.gaussians.tensors(), scene.features(channels)])[0]
        check_same("numba's picture", [torch.from_numpy(image)], [expected])
        ones = np.ones_like(image)
        timings[f"composite {channels}, backward"] = repeat(
            repetitions, partial(peer.composite_backward, *inputs, image, ones)
        )
        timings[f"composite {channels}"] = repeat(repetitions, composite)
    return timings


def check_same(what: str, found: list[Tensor], expected: list[Tensor] | tuple[Tensor, ...]) -> None:
    """Raises an error if two columns did different work."""
    for value, wanted in zip(found, expected, strict=True):
        if not (value - wanted).norm() <= 1e-2 * wanted.norm():
            raise AssertionError(f"{what} differ from those of the rasterizer, so the times are not comparable")


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
