"""Evaluation protocols as data: everything in which published evaluations differ, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.levels import LEVELS

Family = Literal["rendered maps", "selected Gaussians"]
"""How masks come about; scores of two families say nothing about each other."""


@dataclass(frozen=True)
class RenderedProtocol:
    """How a mask and a peak are read from rendered relevancy maps, one per level, and what counts as found.

    Attributes:
        name: What the results are filed under.
        description: One sentence for reports.
        levels: The levels that take part.
        empty: The relevancy of a pixel that shows nothing: `zero`; `half`, as a vector of length zero has; or that of
            the `decoded zero`, the embedding a latent of zero is decoded to.
        kernel: Side of the mean filter, 0 for none. For the mask the filtered map is averaged with the raw one, for
            the peak it stands alone.
        kernel_border: At the border the filter sees the map `mirrored` (without repeating the edge), or only what is
            `inside` of it.
        level: `query` for the query's own rule; `raw-peak` for the level with the highest value, before any
            normalization, and for mask and peak apart; `mask-mean` for the level with the highest mean inside its own
            mask.
        normalization: `min-max` stretches the map to 0 to 1 before the threshold.
        threshold: Pixels above it are selected; None for the query's own.
        smoothing: Side of the window of the majority vote that cleans the mask, 0 for none. A tie is off.
        smoothing_border: Whether the last row and column vote (`inside`) or not (`short`).
        target: A peak is a hit inside the object's `outline`, or inside one of its boxes, ends included.
        any_tied_peak: Whether any of several peaks, equal to the last bit, may hit; otherwise the first in reading
            order counts.
    """

    name: str
    description: str
    levels: tuple[str, ...] = LEVELS
    empty: Literal["zero", "half", "decoded zero"] = "zero"
    kernel: int = 0
    kernel_border: Literal["mirrored", "inside"] = "mirrored"
    level: Literal["query", "raw-peak", "mask-mean"] = "raw-peak"
    normalization: Literal["none", "min-max"] = "none"
    threshold: float | None = None
    smoothing: int = 0
    smoothing_border: Literal["inside", "short"] = "inside"
    target: Literal["outline", "box"] = "outline"
    any_tied_peak: bool = False
    family: ClassVar[Family] = "rendered maps"


@dataclass(frozen=True)
class SelectionProtocol:
    """How a mask is made by selecting Gaussians in space; there is no peak, so no localization.

    A Gaussian is selected when its relevancy at the level with the highest peak over all Gaussians is above the
    threshold. The selected ones are rendered alone, and the mask is where their opacity is above `opacity`.

    Attributes:
        name: What the results are filed under.
        description: One sentence for reports.
        threshold: Least relevancy of a selected Gaussian.
        opacity: Least rendered opacity of a pixel of the mask.
    """

    name: str
    description: str
    threshold: float
    opacity: float
    family: ClassVar[Family] = "selected Gaussians"


EvaluationProtocol = RenderedProtocol | SelectionProtocol

THRESHOLD = RenderedProtocol(
    name="threshold",
    description="the query's own level rule and threshold on the raw relevancy; a hit is a peak inside the outline; a "
    "pixel that shows nothing counts as 0",
    level="query",
)

LANGSPLAT_LERF = RenderedProtocol(
    name="langsplat-lerf",
    description="LangSplat's LERF-OVS rule as coded (its paper says another kernel and leaves out the threshold): half "
    "of a 30 pixel box filter, level by raw peak, min-max, above 0.7 (coded as 0.4 of the upper half), 7x7 majority; a "
    "hit is a box-filtered peak inside a ground-truth box; a pixel that shows nothing counts as the decoded zero",
    empty="decoded zero",
    kernel=30,
    normalization="min-max",
    threshold=0.7,
    smoothing=7,
    smoothing_border="short",
    target="box",
    any_tied_peak=True,
)

LANGSPLATV2_LERF = RenderedProtocol(
    name="langsplatv2-lerf",
    description="LangSplatV2's LERF-OVS rule as coded: as LangSplat's, with a 29 pixel filter that does not look over "
    "the border, and all rows and columns voting; a pixel that shows nothing counts as 0.5",
    empty="half",
    kernel=29,
    kernel_border="inside",
    normalization="min-max",
    threshold=0.7,
    smoothing=7,
    target="box",
    any_tied_peak=True,
)

OCCAM_LERF = RenderedProtocol(
    name="occam-lerf",
    description="the LERF-OVS rule of the Occam's LGS paper, after a third party's audit: as LangSplat's, above 0.75 "
    "(coded as 0.5 of the upper half); a pixel that shows nothing counts as 0.5, as it carries embeddings undecoded",
    empty="half",
    kernel=30,
    normalization="min-max",
    threshold=0.75,
    smoothing=7,
    smoothing_border="short",
    target="box",
    any_tied_peak=True,
)

LANGSPLAT_3DOVS = RenderedProtocol(
    name="langsplat-3dovs",
    description="LangSplat's 3D-OVS rule as its supplement states it (its code was never released): raw relevancy "
    "above 0.4, the level with the highest mean inside its mask; a hit, which it does not report, is a peak inside the "
    "labeled pixels; a pixel that shows nothing counts as the decoded zero",
    empty="decoded zero",
    level="mask-mean",
    threshold=0.4,
)

GAUSSIAN_SELECTION = SelectionProtocol(
    name="gaussian-selection",
    description="in space: Gaussians with a relevancy above 0.6 (VALA's threshold) at the level with the highest peak, "
    "rendered alone; the mask is where their opacity is above one half",
    threshold=0.6,
    opacity=0.5,
)

PROTOCOLS: dict[str, EvaluationProtocol] = {
    protocol.name: protocol
    for protocol in (
        *(THRESHOLD, LANGSPLAT_LERF, LANGSPLATV2_LERF, OCCAM_LERF, LANGSPLAT_3DOVS),
        GAUSSIAN_SELECTION,
    )
}
"""Every protocol by its name."""


def named_protocols(names: tuple[str, ...]) -> tuple[EvaluationProtocol, ...]:
    """The protocols of these names, in their order.

    Raises:
        GenLangSplatError: If there is no such protocol.
    """
    for name in names:
        if name not in PROTOCOLS:
            raise GenLangSplatError(f'Found the protocol "{name}"; choose from {", ".join(PROTOCOLS)}.')
    return tuple(PROTOCOLS[name] for name in names)
