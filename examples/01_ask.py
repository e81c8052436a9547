"""Ask a scene for texts, and save what it answers.

    python examples/01_ask.py --run gallery-run

The first example that you run also builds and trains the small gallery, in the folder of `--run`.
"""

from __future__ import annotations

from pathlib import Path

import tyro
from PIL import Image

from gallery_run import DEFAULT_FOLDER, gallery_run, middle_view
from genlangsplat_ns import TextQuery
from genlangsplat_ns.language.visualize import relevancy_overlay


def main(run: Path = DEFAULT_FOLDER) -> None:
    """Asks a held-out view for three texts.

    Args:
        run: Folder of the example scene and its run.
    """
    scene = gallery_run(run)
    view = middle_view(scene)

    # One text with the default settings.
    answer = scene.ask("a cat", view)
    print(f"{answer.text}: best at pixel {answer.peak}, relevancy {answer.score:.2f}")

    # Several texts at once, rendered once. `answer.map` is the relevancy of every pixel, `answer.mask` those above
    # the threshold.
    query = scene.embed(TextQuery(("a cat", "a motorcycle", "a temple"), threshold=0.7))
    answered = scene.answer(query, scene.camera(view))
    for answer, point in zip(answered.answers, answered.points, strict=True):
        place = ", ".join(f"{value:.2f}" for value in point)
        print(f"{answer.text}: {answer.mask.float().mean():.1%} of the view, best at ({place}) in the scene")
        picture = (255 * relevancy_overlay(answered.rgb, answer.map)).byte().numpy()
        file = run / f"{answer.text.replace(' ', '-')}.png"
        Image.fromarray(picture).save(file)
        print(f"  {file}")


if __name__ == "__main__":
    tyro.cli(main)
