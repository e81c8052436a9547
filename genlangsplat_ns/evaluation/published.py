"""Scores that papers report on the labeled data sets, for comparison. None of them was reproduced here."""

from __future__ import annotations

from dataclasses import dataclass

from genlangsplat_ns.evaluation.protocols import Family

OVERALL = "overall"
"""The mean over a data set's scenes with equal weights."""

LERF_SCENES = ("ramen", "figurines", "teatime", "waldo_kitchen")
OVS3D_SCENES = ("bed", "bench", "room", "sofa", "lawn")


@dataclass(frozen=True)
class PublishedScore:
    """The scores in 0 to 1, None if not stated, that one source reports for a method on a scene or `overall`."""

    method: str
    dataset: str
    """`lerf-ovs` or `3d-ovs`."""
    scene: str
    family: Family
    source: str
    localization: float | None
    miou: float | None
    acc_iou25: float | None = None
    """Share of masks with an IoU above 0.25."""


def published_scores(dataset: str, scene: str) -> tuple[PublishedScore, ...]:
    """Returns the scores of a scene and of its whole data set, `lerf-ovs` or `3d-ovs`; others have none."""
    return tuple(score for score in PUBLISHED if score.dataset == dataset and score.scene in (scene, OVERALL))


def is_published_scene(dataset: str, scene: str) -> bool:
    """Whether papers report on a scene."""
    return scene in {"lerf-ovs": LERF_SCENES, "3d-ovs": OVS3D_SCENES}.get(dataset, ())


def _share(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 4)


_LERF_BY_SCENE: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "LERF": ((62.0, 75.0, 84.8, 72.7, 73.6), (28.2, 38.6, 45.0, 37.9, 37.4)),
    "LangSplat": ((73.2, 80.4, 88.1, 95.5, 84.3), (51.2, 44.7, 65.1, 44.5, 51.4)),
    "Gen-LangSplat": ((72.8, 80.7, 88.9, 95.1, 84.4), (50.9, 45.3, 65.8, 44.3, 51.6)),
}
"""Localization and IoU per scene and their means, from tables 1 and 2 of the Gen-LangSplat paper."""

_OVS3D_BY_SCENE: dict[str, tuple[float, ...]] = {
    "LSeg": (56.0, 6.0, 19.2, 4.5, 17.5, 20.6),
    "ODISE": (52.6, 24.1, 52.5, 48.3, 39.8, 43.5),
    "OV-Seg": (79.8, 88.9, 71.4, 66.1, 81.2, 77.5),
    "FFD": (56.6, 6.1, 25.1, 3.7, 42.9, 26.9),
    "LERF": (73.5, 53.2, 46.6, 27.0, 73.7, 54.8),
    "3D-OVS": (89.5, 89.3, 92.8, 74.0, 88.2, 86.8),
    "LangSplat": (92.5, 94.2, 94.1, 90.0, 96.1, 93.4),
}
"""IoU per scene and their mean, from table 3 of the Gen-LangSplat paper."""

_OverallRow = tuple[str, str, float | None, float, float | None]

_OVERALL: dict[tuple[str, Family], tuple[_OverallRow, ...]] = {
    ("lerf-ovs", "rendered maps"): (
        ("LEGaussians", "LangSplatV2 paper (other papers say 46.9)", 67.4, 24.6, None),
        ("GOI", "LangSplatV2 paper (other papers say 50.6)", 59.2, 42.0, None),
        ("GS-Grouping", "LangSplatV2 paper", 49.1, 36.6, None),
        ("Feature 3DGS", "GALA, CaRF, ExtrinSplat papers; doubtful", 77.0, 45.7, None),
        ("GAGS", "LangSplatV2 paper", 81.7, 54.1, None),
        ("N2F2", "secondary summaries", None, 54.4, None),
        ("GALA", "GALA paper", 73.4, 55.5, None),
        ("LangSplatV2", "LangSplatV2 paper", 84.1, 59.9, None),
        ("Occam's LGS", "Occam's LGS paper", 82.5, 61.3, None),
        ("Occam's LGS, rerun", "RADIO-GS audit", 82.85, 63.62, None),
        ("VALA", "VALA paper", 86.4, 61.7, None),
        ("3D VL-GS", "secondary summary", None, 62.0, None),
        ("CCL-LGS", "secondary summary", None, 65.6, None),
    ),
    ("lerf-ovs", "selected Gaussians"): (
        ("LangSplat", "VALA paper", None, 10.4, 13.6),
        ("OpenGaussian", "VALA paper", None, 38.4, 51.4),
        ("Dr. Splat", "VALA paper", None, 43.6, 64.3),
        ("Occam's LGS", "VALA paper", None, 47.2, 74.8),
        ("LightSplat", "secondary summary", None, 47.6, 68.3),
        ("LUDVIG", "ExtrinSplat paper", None, 50.4, None),
        ("ExtrinSplat", "ExtrinSplat paper", None, 54.3, None),
        ("VALA", "VALA paper", None, 58.0, 82.9),
        ("VALA, rerun", "RADIO-GS audit", None, 54.1, 79.4),
        ("LaGa", "secondary summary", None, 64.0, None),
    ),
    ("3d-ovs", "rendered maps"): (
        ("Gen-LangSplat", "Gen-LangSplat paper, table 3", None, 93.3, None),
        ("LangSplatV2", "LangSplatV2 paper", None, 94.6, None),
        ("LEGaussians", "LangSplatV2 paper", None, 88.5, None),
        ("GOI", "LangSplatV2 paper", None, 90.6, None),
        ("GS-Grouping", "LangSplatV2 paper", None, 87.7, None),
        ("LaGa", "secondary summary", None, 95.3, None),
        ("SAGA", "secondary summary", None, 96.0, None),
    ),
}
"""Means over the scenes of a data set: method, source, localization, IoU, share of masks with an IoU above 0.25."""

_LERF_SOURCE, _OVS3D_SOURCE = "Gen-LangSplat paper, tables 1 and 2", "Gen-LangSplat paper, table 3"

PUBLISHED: tuple[PublishedScore, ...] = (
    *(
        PublishedScore(method, "lerf-ovs", scene, "rendered maps", _LERF_SOURCE, _share(hit), _share(iou))
        for method, tables in _LERF_BY_SCENE.items()
        for scene, hit, iou in zip((*LERF_SCENES, OVERALL), *tables, strict=True)
    ),
    *(
        PublishedScore(method, "3d-ovs", scene, "rendered maps", _OVS3D_SOURCE, None, _share(iou))
        for method, ious in _OVS3D_BY_SCENE.items()
        for scene, iou in zip((*OVS3D_SCENES, OVERALL), ious, strict=True)
    ),
    *(
        PublishedScore(method, dataset, OVERALL, family, source, *map(_share, percentages))
        for (dataset, family), rows in _OVERALL.items()
        for method, source, *percentages in rows
    ),
)
"""All published scores in this module."""
