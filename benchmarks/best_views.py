"""Weights of regions by their best view, and levels by size in the scene, on composed scenes.

    python benchmarks/best_views.py DATA OUT.json 0 1 2 3 4 5
"""


import json, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np, torch, torch.nn.functional as F
from genlangsplat_ns.features.store import ViewFeatures
from genlangsplat_ns.language.projection import projection_autoencoder
from genlangsplat_ns.levels import LEVELS
from genlangsplat_ns.lifting.average import LatentMean
from genlangsplat_ns.lifting.memory_fit import fit_memory
from genlangsplat_ns.lifting.memory_regions import MemoryRegions
from genlangsplat_ns.lifting.regions import RegionView
from genlangsplat_ns.lifting.residuals import composite_latents
from genlangsplat_ns.lifting.robust import lift_latents
from genlangsplat_ns.lifting.settings import LiftSettings
from support.composed_lift import DIRTY, SceneSetup, LiftedScene
from support.composed_run import ENCODER
from support.composed_scene import RegionSettings, _looks

CLEAN, MISLABELED = RegionSettings(), replace(DIRTY, mislabeled=0.3)
code = projection_autoencoder(ENCODER, 512, 16)


def noisier_small(setup, features, index):
    rng = np.random.default_rng([setup.scene.seed, 77, index])
    rows = features.regions.reshape(3, -1).long()
    area = torch.zeros(len(features.embeddings))
    level = torch.zeros(len(features.embeddings), dtype=torch.long)
    for l in range(3):
        ids, counts = rows[l][rows[l] >= 0].unique(return_counts=True)
        area[ids] = counts.float()
        level[ids] = l
    scale = torch.zeros_like(area)
    for l in range(3):
        own = area[level == l]
        scale[level == l] = (own.median() / own.clamp_min(1)).sqrt().clamp(0, 2.5)
    noise = _looks(setup.scene, len(area), rng) * (0.54 * scale)[:, None]
    return ViewFeatures(features.regions, F.normalize(features.embeddings + noise, dim=1))


def confuse_levels(setup, features, index, share=0.3):
    """In each object of a view, with this probability, the three maps change places (a random other order)."""
    rng = np.random.default_rng([setup.scene.seed, 78, index])
    sources = setup.sources(index).numpy()
    maps = features.regions.numpy().copy()
    for source in np.unique(sources[sources >= 0]):
        if rng.random() < share:
            order = [(1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0), (2, 0, 1)][rng.integers(5)]
            at = sources == source
            maps[:, at] = maps[np.array(order)][:, at]
    # a region cut by this (its pixels at two levels) counts at each: rows must be unique per level
    out, vectors, count = [], [], 0
    for l in range(3):
        ids = np.unique(maps[l][maps[l] >= 0])
        out.append(np.where(maps[l] >= 0, np.searchsorted(ids, maps[l]) + count, -1))
        vectors.append(features.embeddings[ids])
        count += len(ids)
    return ViewFeatures(torch.from_numpy(np.stack(out).astype(np.int32)), torch.cat(vectors))


def inside_of(view):
    """(N, R) weight of Gaussians in each region."""
    out = torch.zeros(view.operator.num_gaussians, len(view.latents))
    for l in range(3):
        rows = view.regions[l][view.regions[l] >= 0].unique().long()
        out[:, rows] = view.operator.backproject((view.regions[l][..., None] == rows).float())
    return out


def views_of(setup, features):
    return [
        RegionView(
            setup.weights[i],
            features[i].regions,
            code.encode(features[i].embeddings),
            embeddings=features[i].embeddings,
        )
        for i in setup.scene.split("train")
    ]


def sizes_of(setup, views):
    means = setup.scene.gaussians.means
    found = []
    for view in views:
        w = inside_of(view)
        w = torch.where(w >= 0.1 * w.amax(0, keepdim=True), w, 0)
        total = w.sum(0).clamp_min(1e-9)
        center = w.T @ means / total[:, None]
        spread = (w.T @ means.square().sum(1)) / total - center.square().sum(1)
        found.append(spread.clamp_min(0).sqrt())
    return found


def relevel(setup, features, rank):
    views = views_of(setup, features)
    sizes = sizes_of(setup, views)
    out = list(features)
    train = setup.scene.split("train")
    # thresholds that keep the shares of pixels of each level
    for v, i in enumerate(train):
        regions = features[i].regions
        rows = regions.long()
        size = torch.cat([sizes[v], torch.tensor([0.0])])
        if rank:
            key = torch.where(rows >= 0, size[rows], float("nan"))
            have = rows >= 0
            # stable order of the present ones; a missing level stays missing where two remain: fill from whole down
            order = torch.where(have, key, float("inf")).argsort(dim=0, stable=True)
            new = torch.gather(rows, 0, order)
            n = have.sum(0)
            new = torch.where((n == 3)[None], new, rows)
        else:
            new = torch.full_like(rows, -1)
            cuts = setup.cuts
            lev = torch.bucketize(size, cuts)
            for l in range(3):
                r = rows[l]
                for target in range(3):
                    at = (r >= 0) & (lev[r] == target)
                    # the largest source level paints last
                    new[target][at] = r[at]
        # rows must belong to one level each: a region painted at two levels gets a copy
        maps, vec, count = [], [], 0
        for l in range(3):
            ids = new[l][new[l] >= 0].unique()
            maps.append(torch.where(new[l] >= 0, torch.searchsorted(ids, new[l].clamp_min(0)) + count, -1))
            vec.append(features[i].embeddings[ids])
            count += len(ids)
        out[i] = ViewFeatures(torch.stack(maps).int(), torch.cat(vec))
    return tuple(out)


def set_cuts(setup, features):
    views = views_of(setup, features)
    sizes = sizes_of(setup, views)
    counts = [0, 0, 0]
    alls = torch.cat(sizes)
    for view in views:
        for l in range(3):
            counts[l] += len(view.regions[l][view.regions[l] >= 0].unique())
    total = sum(counts)
    setup.cuts = torch.quantile(alls, torch.tensor([counts[0] / total, (counts[0] + counts[1]) / total]))


@torch.no_grad()
def finish(setup, views, weights):
    shape = (len(setup.scene.gaussians.means), 3, 16)
    mean = LatentMean(*shape)
    for view, w in zip(views, weights):
        mean.add(view, w)
    lifted = mean.solve()
    consensus = [view.consensus(composite_latents(view, lifted.latents)) for view in views]
    memory = fit_memory(MemoryRegions.from_consensus(consensus, weights), ENCODER)
    return LiftedScene(setup, code, lifted, memory, {})


@torch.no_grad()
def main():
    data, out, seeds = Path(sys.argv[1]), Path(sys.argv[2]), [int(s) for s in sys.argv[3:]]
    rows, foreign = json.loads(out.read_text()) if out.exists() else [], None
    for seed in seeds:
        start = time.time()
        setup = SceneSetup(data, seed, foreign)
        foreign = setup.foreign

        def record(errors, method, scene):
            got = setup.ask(scene.run("memory"))
            rows.append({"seed": seed, "errors": errors, "method": method, **got})
            print(
                seed,
                errors,
                method,
                f"{got['miou']:.3f} {got['localization']:.3f}",
                f"{time.time() - start:.0f} s",
                flush=True,
            )
            out.write_text(json.dumps(rows))

        dirty = setup.features(DIRTY)
        done = {(r["seed"], r["errors"], r["method"]) for r in rows}
        many = {
            "none": setup.features(CLEAN),
            "dirty": dirty,
            "mislabeled": setup.features(MISLABELED),
            "dirty, small ones noisier": tuple(noisier_small(setup, f, i) for i, f in enumerate(dirty)),
        }
        for errors, features in many.items():
            if {(seed, errors, m) for m in ("robust", "robust x best view", "best view alone")} <= done:
                continue
            views = views_of(setup, features)
            shape = (len(setup.scene.gaussians.means), 3)
            lifted = lift_latents(views, *shape, 16, LiftSettings(), with_consensus=True)
            robust = lifted.region_weights
            memory = fit_memory(MemoryRegions.from_consensus(lifted.region_consensus, robust), ENCODER)
            if (seed, errors, "robust") not in done:
                record(errors, "robust", LiftedScene(setup, code, lifted, memory, {}))
            strong = robust if float(torch.cat(robust).mean()) < 1 else [torch.ones_like(w) for w in robust]
            mass = [
                view.operator.backproject(torch.ones(view.operator.height, view.operator.width, 1))[:, 0]
                for view in views
            ]
            best = torch.stack(mass).amax(0).clamp_min(1e-9)
            vis, cov, agree = [], [], []
            for view, own, c in zip(views, mass, lifted.region_consensus):
                w = inside_of(view)
                total = w.sum(0).clamp_min(1e-9)
                vis.append((w * (own / best)[:, None]).sum(0) / total)
                cov.append((w * (w / own.clamp_min(1e-9)[:, None])).sum(0) / total)
                agree.append(c.agreements.clamp_min(0.0).clamp_max(1.0))
            one = [torch.ones_like(a) for a in agree]
            mult = lambda *lists, p=1.0: [
                torch.stack(list(parts)).prod(0).pow(p).clamp_min(1e-3) for parts in zip(*lists)
            ]
            variants = {"robust x best view": mult(strong, vis, cov, agree), "best view alone": mult(vis, cov, agree)}
            for name, weights in variants.items():
                if (seed, errors, name) not in done:
                    record(errors, name, finish(setup, views, weights))
        for base in ("dirty",):
            for confused in (True, False):
                features = many[base]
                if confused:
                    features = tuple(confuse_levels(setup, f, i) for i, f in enumerate(features))
                set_cuts(setup, features)
                label = base + (", levels confused" if confused else ", levels right")
                for name, f in (
                    ("robust", features),
                    ("re-levelled by rank in a pixel", relevel(setup, features, True)),
                    ("re-levelled by size in the scene", relevel(setup, features, False)),
                ):
                    if name == "robust" and not confused:
                        continue
                    views = views_of(setup, f)
                    lifted = lift_latents(
                        views, len(setup.scene.gaussians.means), 3, 16, LiftSettings(), with_consensus=True
                    )
                    memory = fit_memory(
                        MemoryRegions.from_consensus(lifted.region_consensus, lifted.region_weights), ENCODER
                    )
                    record(label, name, LiftedScene(setup, code, lifted, memory, {}))


main()
