"""Describes a scene as a document: groups of Gaussians with the texts that describe them best."""

from __future__ import annotations

from typing import Any

from genlangsplat_ns.language.query import TextQuery
from genlangsplat_ns.language.selection import GaussianSelection
from genlangsplat_ns.scene.language_scene import LanguageScene


def describe_scene(
    scene: LanguageScene, vocabulary: TextQuery, level: str, num_groups: int, num_texts: int
) -> dict[str, Any]:
    """Groups the Gaussians of a scene by the latents of a level and describes each group with texts of a vocabulary.

    Returns:
        The level, the negatives, and for each of at most `num_groups` groups the number of Gaussians, centroid, box and
        `num_texts` texts, scored with the negatives and temperature of the vocabulary.

    Raises:
        GenLangSplatError: The level is unknown, a number is not positive, or no Gaussian has a latent.
    """
    groups = []
    for group in scene.field.describe(scene.embed(vocabulary), level, num_groups, num_texts):
        members = GaussianSelection(group.members, scene.field.means.cpu())
        scored = [
            {"text": vocabulary.texts[index], "score": round(score, 4)}
            for index, score in zip(group.texts, group.scores, strict=True)
        ]
        groups.append({"gaussians": members.count, "centroid": members.centroid, "box": members.box, "texts": scored})
    return {"level": level, "negatives": vocabulary.negatives, "groups": groups}
