"""Fly through a scene and watch an answer: a video, or pictures where ffmpeg is missing.

    python examples/05_video.py --run gallery-run

The command line does the same: `gen-langsplat query --interpolate 6 --video`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import tyro

from gallery_run import DEFAULT_FOLDER, gallery_run
from genlangsplat_ns import TextQuery
from genlangsplat_ns.scene.query_views import query_views
from genlangsplat_ns.scene.settings import CameraSettings


def main(run: Path = DEFAULT_FOLDER) -> None:
    """Flies between the held-out views.

    Args:
        run: Folder of the example scene and its run.
    """
    scene = gallery_run(run)
    # A camera path of the viewer's render tab is CameraSettings(camera_path=Path("path.json")).
    cameras = CameraSettings(split="eval", interpolate=6)
    video = shutil.which("ffmpeg") is not None
    document = query_views(scene, TextQuery(("a motorcycle",)), run / "flight", cameras, video=video)
    shown = max(result["score"] for result in document["results"])
    files = sorted({result["overlay"] for result in document["results"]})
    print(f"{len(document['results'])} frames, highest relevancy {shown:.2f}: {run / 'flight' / files[0]}")


if __name__ == "__main__":
    tyro.cli(main)
