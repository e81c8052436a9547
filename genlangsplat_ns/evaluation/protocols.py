"""Evaluation protocols as data: all settings in which published evaluations differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.levels import LEVELS

Family = Literal["rendered maps", "selected Gaussians"]
"""Where masks come from. Scores of different families are not comparable."""


@dataclass(frozen=True)
class RenderedProtocol:
    """Rules that turn rendered relevancy maps, one per level, into a mask and a peak, and define a hit."""

    name: str
    description: str
    """One sentence for reports."""
    levels: tuple[str, ...] = LEVELS
    empty: Literal["zero", "half", "decoded zero"] = "zero"
    """The relevancy of pixels without content: 0, that of a zero vector, or that of a decoded zero latent."""
    kernel: int = 0
    """Side of the mean filter, 0 for none. The mask uses the mean of the filtered and the raw map, the peak only the
    filtered one."""
    kernel_border: Literal["mirrored", "inside"] = "mirrored"
    """`mirrored` reflects the map without repeating the edge; `inside` averages only pixels inside the map."""
    level: Literal["query", "raw-peak", "mask-mean"] = "raw-peak"
    """`query` uses the query's level rule; `raw-peak` the level with the highest value before normalization, chosen
    separately for mask and peak; `mask-mean` the level with the highest mean inside its own mask."""
    normalization: Literal["none", "min-max"] = "none"
    """`min-max` scales the map to 0 to 1 before the threshold."""
    threshold: float | None = None
    """Pixels above it are selected; None for the query's threshold."""
    smoothing: int = 0
    """Side of the window of the majority vote that smooths the mask, 0 for none. Ties give False."""
    smoothing_border: Literal["inside", "short"] = "inside"
    """Whether the last row and column take part in the vote (`inside`) or not (`short`)."""
    target: Literal["outline", "box"] = "outline"
    """A peak is a hit inside the object's `outline`, or inside one of its boxes (`box`, borders inclusive)."""
    any_tied_peak: bool = False
    """Whether any of several bit-identical peaks may hit. Otherwise the first in reading order counts."""
    family: ClassVar[Family] = "rendered maps"


@dataclass(frozen=True)
class SelectionProtocol:
    """Rules that make a mask by selecting Gaussians. There is no peak and therefore no localization.

    A Gaussian is selected if its relevancy at the level with the highest peak over all Gaussians is above the
    threshold. The selected Gaussians are rendered alone, and the mask is where their opacity is above `opacity`.
    """

    name: str
    description: str
    threshold: float
    opacity: float
    family: ClassVar[Family] = "selected Gaussians"


EvaluationProtocol = RenderedProtocol | SelectionProtocol

THRESHOLD = RenderedProtocol(
    name="threshold",
    description="the query's own level rule and threshold on the raw relevancy; a hit is a peak inside the outline; "
    "pixels without content count as 0",
    level="query",
)

LANGSPLAT_LERF = RenderedProtocol(
    name="langsplat-lerf",
    description="LangSplat's LERF-OVS rule as coded (its paper states another kernel and no threshold): average with "
    "a 30 pixel box filter, level by raw peak, min-max, above 0.7 (coded as 0.4 of the upper half), 7x7 majority; a "
    "hit is a box-filtered peak inside a ground-truth box; pixels without content count as the decoded zero",
    empty="decoded zero",
    kernel=30,
    normalization="min-max",
    threshold=0.7,
    smoothing=7,
    smoothing_border="short",
    target="box",
    any_tied_peak=True,
)

LANGSPLATV2_LERF = replace(
    LANGSPLAT_LERF,
    name="langsplatv2-lerf",
    description="LangSplatV2's LERF-OVS rule as coded: like LangSplat's, but with a 29 pixel filter that averages only "
    "pixels inside the image, and all rows and columns in the vote; pixels without content count as 0.5",
    empty="half",
    kernel=29,
    kernel_border="inside",
    smoothing_border="inside",
)

OCCAM_LERF = replace(
    LANGSPLAT_LERF,
    name="occam-lerf",
    description="the LERF-OVS rule of the Occam's LGS paper, according to a third-party audit: like LangSplat's, but "
    "above 0.75 (coded as 0.5 of the upper half); pixels without content count as 0.5, as Occam's LGS renders "
    "embeddings without a decoder",
    empty="half",
    threshold=0.75,
)

LANGSPLAT_3DOVS = RenderedProtocol(
    name="langsplat-3dovs",
    description="LangSplat's 3D-OVS rule as stated in its supplement (its code was never released): raw relevancy "
    "above 0.4, the level with the highest mean inside its mask; a hit, which it does not report, is a peak inside the "
    "labeled pixels; pixels without content count as the decoded zero",
    empty="decoded zero",
    level="mask-mean",
    threshold=0.4,
)

GAUSSIAN_SELECTION = SelectionProtocol(
    name="gaussian-selection",
    description="in 3D: Gaussians with a relevancy above 0.6 (VALA's threshold) at the level with the highest peak, "
    "rendered alone; the mask is where their opacity is above 0.5",
    threshold=0.6,
    opacity=0.5,
)

_ALL = (THRESHOLD, LANGSPLAT_LERF, LANGSPLATV2_LERF, OCCAM_LERF, LANGSPLAT_3DOVS, GAUSSIAN_SELECTION)
PROTOCOLS: dict[str, EvaluationProtocol] = {rules.name: rules for rules in _ALL}
"""All protocols by name."""


def named_protocols(names: tuple[str, ...]) -> tuple[EvaluationProtocol, ...]:
    """Returns the protocols with these names, in the given order.

    Raises:
        GenLangSplatError: If a name is unknown.
    """
    for name in names:
        if name not in PROTOCOLS:
            raise GenLangSplatError(f'Found the unknown protocol "{name}"; choose one of {", ".join(PROTOCOLS)}.')
    return tuple(PROTOCOLS[name] for name in names)
