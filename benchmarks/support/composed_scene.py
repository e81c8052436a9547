"""A table with named objects and exact labels, seen from all around, with simulated outputs of a mask model and CLIP.

The objects are real and mesh-derived splats, and their words have real CLIP text vectors. Only the regions and their
errors are synthetic, so that the amount of each error can be set and every answer compared with the ground truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32, UInt8
from scipy.ndimage import zoom
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.store import ViewFeatures
from genlangsplat_ns.levels import LEVELS
from support.composed_objects import (
    BACKGROUND,
    CATALOG,
    LabeledGaussians,
    SplitView,
    draw_objects,
    join,
    make_room,
    orbit,
    place,
    read_object,
    read_words,
    render,
)

FIELD_PIXELS = 24
"""Distance over which the field that shifts boundaries changes."""

Owners = list[tuple[int, ...]]
"""The sources (objects, and after them patches) of each region; more than one for merged regions."""

Regions = tuple[np.ndarray, Owners]
"""A region map of one level, -1 for none, and the sources of the regions."""

MODALITIES = ("text", "mixed")
"""Where an embedding starts, see `RegionSettings.modality`."""

OBJECT_PIECES: dict[str, tuple[int, int]] = {"subpart": (4, 6), "part": (2, 3), "whole": (1, 1)}
"""Minimum and maximum number of pieces of an object at each level."""

BACKGROUND_PIECES: dict[str, tuple[int, int]] = {"subpart": (3, 4), "part": (2, 2), "whole": (1, 1)}
"""The same for a patch of the background."""

MIN_PIXELS = 12
"""A source with fewer visible pixels gets no region, and pieces are not meant to be smaller."""


@dataclass(frozen=True)
class ComposedScene:
    """Gaussians, cameras, and the object of every Gaussian and every pixel."""

    seed: int
    """What the scene was drawn from."""
    gaussians: LabeledGaussians
    """The objects and the background behind them."""
    views: tuple[SplitView, ...]
    """The cameras, in the order of the orbit."""
    objects: tuple[str, ...]
    """LVIS name of each object."""
    texts: Float[Tensor, "num_objects embedding_dim"]
    """Unit CLIP vector of each object's text."""
    images: UInt8[Tensor, "num_views height width 3"]
    """The rendered images."""
    labels: Int32[Tensor, "num_views height width"]
    """Index of the object that a pixel shows, -1 where the background dominates or the pixel is almost empty."""
    patches: Int32[Tensor, "num_views height width"]
    """Index in `BACKGROUND` of the patch that a pixel shows where there is no object, -1 elsewhere."""
    text_mean: Float[Tensor, " embedding_dim"]
    """Mean of the unit CLIP vectors of all texts of the catalog: their common part."""
    photographs: Float[Tensor, "num_photographs embedding_dim"]
    """Unit CLIP vectors of photographs, none of which is nearest to the word of an object of this scene."""

    def split(self, name: str) -> list[int]:
        """Indices of the views of one split."""
        return [index for index, view in enumerate(self.views) if view.split == name]


@dataclass(frozen=True)
class RegionSettings:
    """How the regions of a view and their embeddings are generated; lengths are relative to a unit embedding."""

    modality: str = "mixed"
    """`text` starts from the unit vector of the object's text, `mixed` from a point in the cone of image vectors."""
    text_strength: float = 0.22
    """In `mixed`, the length of the text's direction (its difference from the mean text) relative to the mean image."""
    object_offset: float = 0.46
    """Length of the fixed direction of each object, which represents its appearance, relative to the start."""
    region_noise: float = 0.54
    """Length of the independent random direction of every region of every view, relative to a unit vector."""
    mislabeled: float = 0.0
    """Share of regions that have the vector of another object or patch."""
    merged: float = 0.0
    """Share of pairs of touching regions of two objects that are merged into one region with the mean vector."""
    split: float = 0.0
    """Share of regions that are split in two, each half with its own noise."""
    missing: float = 0.0
    """Share of regions that are missing."""
    boundary_shift: float = 0.0
    """Maximum displacement of boundaries in pixels, along smooth random fields."""
    seed: int = 0
    """Seed of what is the same in all views: the objects' offsets and the photographs of the patches."""

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise GenLangSplatError(f"Found modality {self.modality}; choose one of {', '.join(MODALITIES)}.")


def compose(
    folder: Path,
    seed: int,
    num_objects: int = 8,
    num_views: int = 40,
    width: int = 324,
    height: int = 216,
    max_gaussians: int = 7000,
    held_out_every: int = 8,
    repeated: int = 0,
) -> ComposedScene:
    """Generates a scene: objects on a table in a room, cameras around it, images and labels.

    Args:
        folder: The folder of all data sets.
        seed: Determines the scene. The objects and the room do not depend on the number of views and the image size.
        num_objects: Number of objects, 6 to 12 for scenes like those of LERF, at most 14.
        num_views: Number of cameras.
        width, height: Image size in pixels.
        max_gaussians: Maximum number of Gaussians of an object; the room has about 26,000.
        held_out_every: One of this many views is held out.
        repeated: Number of words that two of the objects have.

    Raises:
        GenLangSplatError: If there are not enough objects.
    """
    random = np.random.default_rng([seed, 0])
    items = draw_objects(num_objects - repeated, random)
    items += items[:repeated]
    placed, radius = place([read_object(folder, item, max_gaussians, random) for item in items], random)
    gaussians = join([*placed, make_room(radius, np.random.default_rng([seed, 1]))])
    views = orbit(radius, num_views, width, height, held_out_every, np.random.default_rng([seed, 2]))
    pictures = [render(gaussians, view, num_objects) for view in views]
    images, labels, patches = (torch.stack(maps) for maps in zip(*pictures, strict=True))

    words, vectors = read_words(folder)
    rows = torch.tensor([words.index(item.word) for item in items])
    stored = np.load(folder / "clip_embeddings" / "flickr8k_1000_vitb32.npy").astype(np.float32)
    photographs = F.normalize(torch.from_numpy(stored), dim=1)
    foreign = ~torch.isin((photographs @ vectors.T).argmax(dim=1), rows)
    return ComposedScene(
        seed=seed,
        gaussians=gaussians,
        views=views,
        objects=tuple(item.word for item in items),
        texts=vectors[rows],
        images=images,
        labels=labels,
        patches=patches,
        text_mean=vectors[[words.index(item.word) for item in CATALOG]].mean(dim=0),
        photographs=photographs[foreign],
    )


def region_features(
    scene: ComposedScene, view_index: int, settings: RegionSettings, random: np.random.Generator | None = None
) -> ViewFeatures:
    """Generates the regions of a view at three levels and their embeddings, with the errors in the settings.

    The whole is the visible part of an object; parts and subparts divide it into pieces by position, differently in
    every view, like the masks of a mask model. Patches of the background are also regions, each with the real vector
    of a photograph.

    Real image vectors of CLIP ViT-B/32 (696 photographs of watches) have a cosine of 0.27 with their own word, of 0.17
    with the words of the catalog, of 0.77 with each other and of 0.52 between any two photographs (Flickr8k). The
    defaults of `mixed` give 0.28, 0.18, 0.77 (same object) and 0.51 (two objects). Those of `text` give 0.80 with the
    own word and 0.64 with the others, because the words themselves have 0.81 between them; the patches stay at 0.16.

    Args:
        scene: The scene.
        view_index: Index of the view.
        settings: Properties of the regions.
        random: Draws what differs between views; None uses a generator of the two seeds and the view's index.
    """
    random = np.random.default_rng([scene.seed, settings.seed, view_index]) if random is None else random
    labels, patches = scene.labels[view_index].numpy(), scene.patches[view_index].numpy()
    num_objects = len(scene.objects)
    sources = np.where(labels >= 0, labels, np.where(patches >= 0, patches + num_objects, -1))
    vectors = source_vectors(scene, settings)
    maps, rows = [], []
    count = 0
    for level in LEVELS:
        regions, owners = _cut_sources(sources, num_objects, level, random)
        regions, owners = _merge(regions, owners, num_objects, settings.merged, random)
        regions, owners = _split(regions, owners, settings.split, random)
        missing = np.flatnonzero(random.random(len(owners)) < settings.missing)
        regions = np.where(np.isin(regions, missing), -1, regions)
        regions = _shift_boundaries(regions, settings.boundary_shift, random)
        seen = np.unique(regions[regions >= 0])
        maps.append(np.where(regions >= 0, np.searchsorted(seen, regions) + count, -1))
        rows += [_draw_vector(vectors, owners[region], settings.mislabeled, random) for region in seen]
        count += len(seen)
    noise = _looks(scene, count, random) * settings.region_noise
    embeddings = F.normalize(torch.stack(rows) + noise, dim=1)
    return ViewFeatures(torch.from_numpy(np.stack(maps).astype(np.int32)), embeddings)


def source_vectors(scene: ComposedScene, settings: RegionSettings) -> Float[Tensor, "num_sources embedding_dim"]:
    """The common part, over all views, of the regions of each object and then of each patch of the background.

    Args:
        scene: The scene.
        settings: Properties of the regions.
    """
    random = np.random.default_rng(settings.seed)
    vectors = scene.texts
    if settings.modality == "mixed":
        vectors = scene.photographs.mean(dim=0) + settings.text_strength * F.normalize(vectors - scene.text_mean, dim=1)
    vectors = vectors + settings.object_offset * _looks(scene, len(vectors), random)
    behind = random.permutation(len(scene.photographs))[: len(BACKGROUND)]
    return torch.cat([F.normalize(vectors, dim=1), scene.photographs[torch.from_numpy(behind)]])


def unlike_looks(
    scene: ComposedScene, texts: Float[Tensor, "count embedding_dim"], random: np.random.Generator
) -> Float[Tensor, "count embedding_dim"]:
    """Synthetic image vectors of objects with other words, generated like `mixed` for the scene's objects.

    Args:
        scene: The scene, for the photographs and the mean text.
        texts: Unit vectors of the words.
        random: Draws appearance and noise.
    """
    usual = RegionSettings()
    means = scene.photographs.mean(dim=0) + usual.text_strength * F.normalize(texts - scene.text_mean, dim=1)
    things = F.normalize(means + usual.object_offset * _looks(scene, len(texts), random), dim=1)
    return F.normalize(things + usual.region_noise * _looks(scene, len(texts), random), dim=1)


def _looks(scene: ComposedScene, count: int, random: np.random.Generator) -> Float[Tensor, "count embedding_dim"]:
    """Random unit directions with the distribution of photographs around their mean."""
    spread = scene.photographs - scene.photographs.mean(dim=0)
    mixture = torch.from_numpy(random.normal(size=(count, len(spread))).astype(np.float32))
    return F.normalize(mixture @ spread, dim=1)


def _cut_sources(sources: np.ndarray, num_objects: int, level: str, random: np.random.Generator) -> Regions:
    """Splits every visible source into its pieces for a level."""
    regions = np.full(sources.shape, -1)
    owners: list[tuple[int, ...]] = []
    for source in range(num_objects + len(BACKGROUND)):
        mask = sources == source
        fewest, most = (OBJECT_PIECES if source < num_objects else BACKGROUND_PIECES)[level]
        pieces = min(int(random.integers(fewest, most + 1)), int(mask.sum()) // MIN_PIXELS)
        if pieces:
            regions[mask] = _cluster(np.argwhere(mask), pieces, random) + len(owners)
            owners += [(source,)] * pieces
    return regions, owners


def _cluster(pixels: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """The group of each pixel among `count` groups of near pixels: k-means from random centers, fitted to a subset."""
    pixels = pixels.astype(np.float32)
    some = pixels[random.permutation(len(pixels))[:300]]
    centers = some[:count].copy()
    for _ in range(8 if count > 1 else 0):
        nearest = _nearest(some, centers)
        for group in np.unique(nearest):
            centers[group] = some[nearest == group].mean(axis=0)
    return _nearest(pixels, centers)


def _nearest(points: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Index of the nearest center of each point."""
    return ((centers**2).sum(axis=1)[:, None] - 2 * centers @ points.T).argmin(axis=0)


def _merge(regions: np.ndarray, owners: Owners, num_objects: int, rate: float, random: np.random.Generator) -> Regions:
    """Merges some of the pairs of touching regions of two objects."""
    count = len(owners)
    sides = [(regions[:, :-1], regions[:, 1:]), (regions[:-1], regions[1:])]
    # Encode a border as one number, because numpy finds distinct numbers much faster than distinct rows.
    touching = {
        tuple(sorted(divmod(int(code), count)))
        for first, second in sides
        for code in np.unique((first * count + second)[(first != second) & (first >= 0) & (second >= 0)])
    }
    regions, owners, joined = regions.copy(), list(owners), set[int]()
    for first, second in sorted(touching):
        both = owners[first] + owners[second]
        if max(both) >= num_objects or len(set(both)) == 1 or {first, second} & joined:
            continue
        if random.random() < rate:
            regions[regions == second] = first
            owners[first] = both
            joined |= {first, second}
    return regions, owners


def _split(regions: np.ndarray, owners: Owners, rate: float, random: np.random.Generator) -> Regions:
    """Splits some regions in two along a line through their center in a random direction."""
    regions, owners = regions.copy(), list(owners)
    for region in np.flatnonzero(random.random(len(owners)) < rate):
        pixels = np.argwhere(regions == region)
        if len(pixels) >= 2 * MIN_PIXELS:
            far = (pixels - pixels.mean(axis=0)) @ random.normal(size=2) > 0
            regions[tuple(pixels[far].T)] = len(owners)
            owners.append(owners[region])
    return regions, owners


def _shift_boundaries(regions: np.ndarray, pixels: float, random: np.random.Generator) -> np.ndarray:
    """Reads the map at positions displaced by up to this many pixels, by a field that changes over `FIELD_PIXELS`."""
    if not pixels:
        return regions
    coarse = [side // FIELD_PIXELS + 2 for side in regions.shape]
    factors = [side / cells for side, cells in zip(regions.shape, coarse, strict=True)]
    places = []
    for axis, own in enumerate(np.indices(regions.shape)):
        shift = zoom(random.uniform(-pixels, pixels, coarse), factors, order=1)
        places.append(np.clip(np.rint(own + shift), 0, regions.shape[axis] - 1).astype(np.int64))
    return regions[tuple(places)]


def _draw_vector(vectors: Tensor, owners: tuple[int, ...], mislabeled: float, random: np.random.Generator) -> Tensor:
    """The mean vector of a region's sources, or with some probability that of another source."""
    if random.random() < mislabeled:
        others = [source for source in range(len(vectors)) if source not in owners]
        return vectors[int(random.choice(others))]
    return vectors[list(owners)].mean(dim=0)
