"""Small valid files of every format that is read, from which fuzzing starts."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genlangsplat_ns.features.langsplat import write_langsplat_view
from genlangsplat_ns.features.store import FeatureStore, StoreIdentity
from genlangsplat_ns.features.view_file import ViewFeatures
from genlangsplat_ns.language.autoencoder import FORMAT, Autoencoder, AutoencoderIdentity, save_autoencoder
from genlangsplat_ns.language.memory import SceneMemory
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.photographs.exif import ShotData
from genlangsplat_ns.photographs.prepare import PreparedPhotograph
from genlangsplat_ns.scene_io.ply import write_ply
from genlangsplat_ns.utils.files import tensors_sha256
from genlangsplat_ns.utils.stopwatch import StageCost
from pretrain.checkpoint import CHECKPOINT_NAME, write_checkpoint
from tests.evaluation.label_writers import annotation, coco, isat, labelme, png, shape
from tests.pretrain.sens_writer import SensWriter, smooth_picture
from tests.robustness.picture_seeds import picture_bytes
from tests.robustness.seed import Seed
from tests.scene_io.gaussian_fakes import make_gaussians
from tests.views.scene_files import colmap_scene, nerfstudio_scene

FIXTURES = Path(__file__).parents[1] / "fixtures"


def encoded(document: Any) -> bytes:
    """A JSON document as a file."""
    return json.dumps(document).encode()


def splat_files(folder: Path) -> list[Seed]:
    """Files of all formats of splats; of packed ones also what is inside."""
    fixtures = FIXTURES / "splats"
    names = ["level0.ksplat", "level1.ksplat", "level2.ksplat", "splat-transform.sog", "supersplat.compressed.ply"]
    seeds = [Seed(name, (fixtures / name).read_bytes()) for name in [*names, "version3.spz", "version4.spz"]]
    ply = _small_ply(folder)
    seeds += [Seed("binary.ply", ply), Seed("text.ply", _as_text(ply), "text")]
    rows = [struct.pack("<6f8B", n, -2.0, 3.0, 0.5, 0.25, 2.0, 255, 0, 51, 60, 255, 128, 128, 0) for n in range(6)]
    seeds.append(Seed("a.splat", b"".join(rows)))
    spz = gzip.decompress((fixtures / "version3.spz").read_bytes())
    seeds.append(Seed("unpacked.spz", spz, seal=lambda inner: gzip.compress(inner, 1, mtime=0)))
    with zipfile.ZipFile(fixtures / "splat-transform.sog") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for number, (name, content) in enumerate(members.items()):
        kind: Kind = "json" if name.endswith(".json") else "bytes"
        seeds.append(Seed(f"{number}.sog", content, kind, lambda inner, name=name: _zipped({**members, name: inner})))
    return seeds


def _zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


MESH = b"""ply
format ascii 1.0
comment offset 1 2 3
element vertex 3
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
element face 1
property list uchar int vertex_indices
property list uchar float weights
property float area
end_header
0 0 0 255 0 0
1 0 0 0 255 0
0 1 0 0 0 255
3 0 1 2 2 0.5 0.5 1.5
"""


def _small_ply(folder: Path) -> bytes:
    write_ply(folder / "small.ply", make_gaussians(4, 1), offset=(1.0, 2.0, 3.0), antialiased=True)
    return (folder / "small.ply").read_bytes()


def _as_text(binary: bytes) -> bytes:
    header, body = binary.split(b"end_header\n")
    width = header.count(b"property")
    rows = np.frombuffer(body, "<f4").reshape(-1, width)
    lines = [" ".join(f"{value:.6g}" for value in row) for row in rows]
    return header.replace(b"binary_little_endian", b"ascii") + b"end_header\n" + "\n".join([*lines, ""]).encode()


def seed_point_files(folder: Path) -> list[Seed]:
    """Point clouds as text and in both byte orders, with lists of equal and of different lengths."""
    header = b"ply\nformat binary_little_endian 1.0\nelement vertex 3\nproperty double x\nproperty double y\n"
    header += b"property double z\nproperty float intensity\nproperty list uchar int track\nend_header\n"
    equal = b"".join(struct.pack("<3dfB2i", n, 1, 2, 0.5, 2, 7, 8) for n in range(3))
    ragged = b"".join(struct.pack(f"<3dfB{n}i", n, 1, 2, 0.5, n, *range(n)) for n in range(3))
    big = header.replace(b"little", b"big") + b"".join(struct.pack(">3dfB1i", n, 1, 2, 9, 1, 7) for n in range(3))
    files = {"equal.ply": header + equal, "ragged.ply": header + ragged, "big.ply": big}
    seeds = [Seed(name, content) for name, content in files.items()]
    return [*seeds, Seed("mesh.ply", MESH, "text"), Seed("splats.ply", _small_ply(folder))]


def transforms_files(folder: Path) -> list[Seed]:
    """transforms.json of nerfstudio with lists of splits, masks and seed points, and one of instant-ngp."""
    nerfstudio_scene(folder / "a", ply_file_path="points.ply", applied_transform=np.eye(4)[:3].tolist(), k1=0.1)
    nerfstudio_scene(folder / "b")
    document = json.loads((folder / "a" / "transforms.json").read_text())
    document["frames"] = document["frames"][:4]
    names = [frame["file_path"] for frame in document["frames"]]
    document |= {"train_filenames": names[:3], "val_filenames": names[3:], "camera_model": "OPENCV"}
    document["frames"][0] |= {"mask_path": "masks/00.png", "depth_file_path": "depth/00.png", "fl_x": 31.0}
    ngp = {"camera_angle_x": 0.9, "aabb_scale": 4, "frames": [dict(frame) for frame in document["frames"]]}
    for frame in ngp["frames"]:
        frame["file_path"] = frame["file_path"].removesuffix(".png")
    return [Seed("a/transforms.json", encoded(document), "json"), Seed("b/transforms.json", encoded(ngp), "json")]


def colmap_files(folder: Path) -> list[Seed]:
    """The files of a text and of a binary model, and a list of a split."""
    names = [f"{number:02d}.png" for number in range(3)]
    seeds = []
    for form, binary in (("text", False), ("binary", True)):
        root = colmap_scene(folder / form, names=names, binary=binary)
        for path in sorted((root / "sparse" / "0").iterdir()):
            name = path.relative_to(folder).as_posix()
            seeds.append(Seed(name, path.read_bytes(), "bytes" if binary else "text"))
    seeds.append(Seed("text/train_list.txt", "\n".join(names[:2]).encode(), "text"))
    return seeds


def label_files(folder: Path) -> list[Seed]:
    """Labels of every layout, each in its own folder."""
    square = np.full((4, 5), 255, np.uint8)
    mask = shape([[2, 3], [6, 6]], "mask", mask=png(square))
    circle = shape([[5.0, 5.0], [7.0, 5.0]], "circle", label="ring")
    runs = {"size": [12, 20], "counts": [24, 3, 213]}
    compressed = {"size": [12, 20], "counts": "h03e6"}
    boxed = annotation([], bbox=[2, 3, 5, 5])
    embedded = labelme(shape(), imageData=png(np.zeros((12, 20, 3), np.uint8)))
    del embedded["imageWidth"], embedded["imageHeight"]
    documents = {
        "isat": isat(),
        "labelme": labelme(shape(), mask, circle),
        "embedded": embedded,
        "coco": coco(annotation([[2, 3, 9, 3, 9, 8]]), annotation(runs), annotation(compressed), boxed),
    }
    seeds = [Seed(f"{name}/frame_1.json", encoded(document), "json") for name, document in documents.items()]
    picture = picture_bytes("PNG", "L", (20, 12))
    seeds.append(Seed("masks/frame_1/cup.png", picture))
    seeds.append(Seed("classes/classes.txt", b"cup\nglass of water\n", "text"))
    (folder / "classes" / "00").mkdir(parents=True)
    for name in ("cup", "glass of water"):
        (folder / "classes" / "00" / f"{name}.png").write_bytes(picture)
    return seeds


def view_features() -> ViewFeatures:
    """Features of a view of 14 x 9 pixels: ten regions in three levels."""
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randint(-1, 3, (9, 14), generator=generator) for _ in LEVELS]
    regions = torch.stack([torch.where(item >= 0, item + 3 * number, item) for number, item in enumerate(levels)])
    rows = torch.nn.functional.normalize(torch.randn(9, 8, generator=generator), dim=1)
    return ViewFeatures(regions.int(), rows)


def feature_files(folder: Path) -> list[Seed]:
    """The manifest, the costs and a view of a feature store."""
    (folder / "scene").mkdir()
    store = FeatureStore.open(folder / "scene", StoreIdentity("fake", "fake/1", 8, "tiles", {"size": 4}, LEVELS))
    store.save("view", view_features())
    place = store.folder.relative_to(folder).as_posix()
    seeds = [Seed(f"{place}/manifest.json", (store.folder / "manifest.json").read_bytes(), "json")]
    view = (store.folder / "view.safetensors").read_bytes()
    costs = {"view": [9, *(float(number) for number in range(2 * len(asdict(StageCost()))))]}
    seeds.append(Seed(f"{place}/costs.json", encoded(costs), "json"))
    return [*seeds, *_safetensors_seeds(f"{place}/view.safetensors", view, entry="view")]


def _safetensors_seeds(file: str, content: bytes, entry: str | None = None) -> list[Seed]:
    """The bytes of a safetensors file, its header, and the JSON document in one entry of its metadata."""
    length = int.from_bytes(content[:8], "little")
    header, body = content[8 : 8 + length], content[8 + length :]

    def with_header(inner: bytes) -> bytes:
        return len(inner).to_bytes(8, "little") + inner + body

    seeds = [Seed(file, content), Seed(file, header, "json", with_header)]
    if entry is not None:
        document = json.loads(header)

        def with_entry(inner: bytes) -> bytes:
            changed = {
                **document,
                "__metadata__": {**document["__metadata__"], entry: inner.decode("utf-8", "replace")},
            }
            return with_header(encoded(changed))

        seeds.append(Seed(file, document["__metadata__"][entry].encode(), "json", with_entry))
    return seeds


def langsplat_files(folder: Path) -> list[Seed]:
    """LangSplat's two files of a view."""
    write_langsplat_view(folder, "view", view_features())
    seeds = []
    for name in ("view_s.npy", "view_f.npy"):
        content = (folder / name).read_bytes()
        seeds += [
            Seed(name, content),
            Seed(name, content[:128], "text", lambda inner, rest=content[128:]: inner + rest),
        ]
    return seeds


def autoencoder_files(folder: Path) -> list[Seed]:
    """An autoencoder, also with identities whose hash is right."""
    torch.manual_seed(0)
    autoencoder = Autoencoder(AutoencoderIdentity("small", "fake/1", 12, 4, "linear", held_out_cosine=0.9))
    save_autoencoder(folder / "a.safetensors", autoencoder)
    content = (folder / "a.safetensors").read_bytes()
    weights = {name: value.half() for name, value in autoencoder.state_dict().items()}

    def sealed(inner: bytes) -> bytes:
        from safetensors.torch import save

        text = inner.decode("utf-8", "replace")
        return save(weights, {"format": FORMAT, "identity": text, "sha256": tensors_sha256(weights, text)})

    identity = encoded(asdict(autoencoder.identity))
    return [*_safetensors_seeds("a.safetensors", content), Seed("a.safetensors", identity, "json", sealed)]


def weight_files(folder: Path) -> list[Seed]:
    """Weights as safetensors, as PyTorch files of both kinds, and as a TorchScript archive."""
    from safetensors.torch import save

    state = {"visual.conv1.weight": torch.rand(2, 3), "module.bias": torch.rand(4)}
    buffers = {"new.pt": io.BytesIO(), "old.pt": io.BytesIO(), "script.pt": io.BytesIO()}
    torch.save({"state_dict": state, "epoch": 3}, buffers["new.pt"])
    torch.save(state, buffers["old.pt"], _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), buffers["script.pt"])
    seeds = [Seed(name, buffer.getvalue()) for name, buffer in buffers.items()]
    return [*seeds, *_safetensors_seeds("a.safetensors", save(state))]


def checkpoint_files(folder: Path) -> list[Seed]:
    """A checkpoint with Gaussians and a memory; also its pickle with the checksums of the archive right."""
    gaussians = {f"_model.gauss_params.{name}": value for name, value in make_gaussians(3, 1).tensors().items()}
    rows = torch.nn.functional.normalize(torch.randn(4, 12), dim=1)
    memory = SceneMemory(rows[:, :4], torch.zeros(4), rows * 0.9, 50.0, "fake/1").state_dict()
    state = {**gaussians, **{f"memory.{name}": value for name, value in memory.items()}}
    buffer = io.BytesIO()
    torch.save({"step": 7, "pipeline": state}, buffer)
    content = buffer.getvalue()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in members if name.endswith("data.pkl"))
    inside = Seed("a.ckpt", members[pickled], seal=lambda inner: _zipped({**members, pickled: inner}))
    return [Seed("a.ckpt", content), inside]


def sens_files(folder: Path) -> list[Seed]:
    """Recordings of all three color compressions."""
    frames = [smooth_picture(number) for number in range(2)]
    return [Seed(f"{kind}.sens", SensWriter(frames, kind=kind).data()) for kind in ("raw", "png", "jpeg")]


def embedding_files(folder: Path) -> list[Seed]:
    """A file of embeddings of pre-training."""
    from tests.pretrain.embedding_fakes import write_scenes

    (file,) = write_scenes(folder, 1)
    name = file.path.relative_to(folder).as_posix()
    return _safetensors_seeds(name, file.path.read_bytes(), entry="content")


def training_checkpoints(folder: Path) -> list[Seed]:
    """The checkpoint of pre-training."""
    write_checkpoint(folder, {"seed": 0}, {"step": 3, "weights": torch.rand(4)})
    content = (folder / CHECKPOINT_NAME).read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in members if name.endswith("data.pkl"))
    inside = Seed(CHECKPOINT_NAME, members[pickled], seal=lambda inner: _zipped({**members, pickled: inner}))
    return [Seed(CHECKPOINT_NAME, content), inside]


def vocabularies(folder: Path) -> list[Seed]:
    """A list of texts."""
    return [Seed("words.txt", "cup\nteapot\n\nGlas Wasser, kühl\n".encode(), "text")]


def scene_lists(folder: Path) -> list[Seed]:
    """A list of ScanNet's scenes, and a pose of a frame."""
    (folder / "scene0001_00" / "color").mkdir(parents=True)
    (folder / "scene0001_00" / "color" / "0.jpg").write_bytes(picture_bytes("JPEG"))
    pose = "\n".join(" ".join(map(str, row)) for row in np.eye(4).tolist())
    return [Seed("list.txt", b"scene0001_00\n", "text"), Seed("scene0001_00/pose/0.txt", pose.encode(), "text")]


def camera_paths(folder: Path) -> list[Seed]:
    """A camera path with a crop."""
    frame = {"camera_to_world": np.eye(4).flatten().tolist(), "fov": 50.0, "aspect": 1.5}
    crop: dict[str, Any] = {"crop_center": [0.0] * 3, "crop_scale": [3.0, 4.0, 4.0], "crop_rot": [0.0] * 3}
    crop["crop_bg_color"] = {"r": 0, "g": 255, "b": 0}
    stored = {"camera_type": "perspective", "render_width": 48, "render_height": 32, "seconds": 1, "fps": 2}
    return [Seed("path.json", encoded({**stored, "camera_path": [frame, frame], "crop": crop}), "json")]


def frame_files(folder: Path) -> list[Seed]:
    """The frame of a run."""
    document = {"transform": np.eye(4)[:3].tolist(), "scale": 0.5}
    return [Seed("dataparser_transforms.json", encoded(document), "json")]


def report_files(folder: Path) -> list[Seed]:
    """The report of a run."""
    stages = {"RGB phase": {"wall_seconds": 1.0, "processor_seconds": 2.0}, "lifting": {"wall_seconds": 3.0}}
    costs = {"stages": stages, "wall_seconds": 9.0, "peak_memory_gb": 1.5, "views": 8, "machine": "a machine"}
    costs |= {"stored_features": {"views": 3}, "bytes": {"checkpoint": 1000}, "not_counted": ["a training before"]}
    return [Seed("report.json", encoded({"costs": costs, "health": {}, "metrics": {}}), "json")]


def run_cost_files(folder: Path) -> list[Seed]:
    """The costs of a run by checkpoint."""
    part = {"first_step": 0, "end_step": 100, "stages": {"RGB phase": asdict(StageCost())}}
    return [Seed("costs.json", encoded({"parts": [part], "checkpoints": {"99": [part]}}), "json")]


def preparation_files(folder: Path) -> list[Seed]:
    """What from-photos keeps between calls."""
    shot = ShotData("Maker Model 4.2 mm", 0.8, (52.5, 13.4))
    entry = {"key": "1 a", **asdict(PreparedPhotograph("a.jpg", 16, 12, "00ff", 0.5, shot, "a.jpg.png"))}
    outcome = {"photographs": 9, "placed": 8, "unplaced": [{"name": "a.jpg", "reason": "it is blurred"}]}
    outcome |= {"others": [{"photographs": 3, "example": "b.jpg"}], "error": 0.7, "points": 90}
    outcome["points_per_photograph"] = 11.0
    return [
        Seed("photographs.json", encoded({"a.jpg": entry}), "json"),
        Seed("outcome.json", encoded(outcome), "json"),
        Seed("source.json", encoded({"source": "/photographs"}), "json"),
    ]


CONFIG = """!!python/object:nerfstudio.engine.trainer.TrainerConfig
_target: &id001 !!python/name:nerfstudio.engine.trainer.Trainer ''
data: &id002 !!python/object/apply:pathlib.PosixPath
- data
- scene
machine: !!python/object:nerfstudio.configs.base_config.MachineConfig
  seed: 42
method_name: splatfacto
pipeline: !!python/object:nerfstudio.pipelines.base_pipeline.VanillaPipelineConfig
  datamanager: !!python/object:nerfstudio.data.datamanagers.full_images_datamanager.FullImageDatamanagerConfig
    data: *id002
    dataparser: !!python/object:nerfstudio.data.dataparsers.nerfstudio_dataparser.NerfstudioDataParserConfig
      eval_mode: fraction
      scale_factor: 1.0
  model: !!python/object:nerfstudio.models.splatfacto.SplatfactoModelConfig
    background_color: !!python/tuple [0.0, 1.0]
    camera_optimizer: !!python/object:nerfstudio.cameras.camera_optimizers.CameraOptimizerConfig
      mode: 'off'
relative_model_dir: !!python/object/apply:pathlib.PosixPath
- nerfstudio_models
"""
"""The settings of a run that are read, as ns-train writes them."""


def config_files(folder: Path) -> list[Seed]:
    """The config.yml of a run."""
    return [Seed("config.yml", CONFIG.encode(), "text")]
