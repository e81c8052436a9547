"""Select the Gaussians that answer a text, combine selections, and write them as splat files.

    python examples/02_cut_out.py --run gallery-run

Programs for splats open the files; ns-viewer opens runs, as `gen-langsplat remove` writes them.
"""

from __future__ import annotations

from pathlib import Path

import tyro

from gallery_run import DEFAULT_FOLDER, gallery_run, middle_view
from genlangsplat_ns.language.settings import SelectionSettings
from genlangsplat_ns.scene.export import export_scene


def main(run: Path = DEFAULT_FOLDER) -> None:
    """Cuts a cat out of the gallery.

    Args:
        run: Folder of the example scene and its run.
    """
    scene = gallery_run(run)

    # Groups that are much smaller than the largest one are removed, unless the clean-up is switched off.
    cat = scene.select("a cat")
    raw = scene.select("a cat", SelectionSettings(clean_up=False))
    print(f"a cat: {cat.count:,} of {len(cat.keep):,} Gaussians, {raw.count:,} before the clean-up")
    print(f"center {cat.centroid}, box {cat.box}")

    # Selections are sets. `grown` adds what lies nearby; the difference excludes what answers another text.
    with_border = cat.grown(0.02) - scene.select("a motorcycle")
    export_scene(scene, run / "cat.ply", with_border.keep, overwrite=True)
    export_scene(scene, run / "gallery-without-cat.ply", ~cat.keep, overwrite=True)
    print(f"Wrote {run / 'cat.ply'} ({with_border.count:,} Gaussians) and {run / 'gallery-without-cat.ply'}.")

    # The opacity of the selection alone in a view, which is a soft mask without occlusion.
    view = middle_view(scene)
    print(f"It covers {scene.render_opacity(view, cat.keep).mean():.1%} of {view.name}.")


if __name__ == "__main__":
    tyro.cli(main)
