"""What a mask generator is, and which ones there are."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.regions import ViewMasks
from genlangsplat_ns.features.sam import SamMaskGenerator, sam_mask_settings
from genlangsplat_ns.features.settings import SamSettings
from genlangsplat_ns.features.watershed import WatershedMaskGenerator

MaskSettings = dict[str, str | int | float]
"""Everything that changes masks, ready for JSON; stored features are kept apart by it."""

MASK_GENERATORS: tuple[str, ...] = ("watershed", "sam")
"""Names of the mask generators."""

CONVERTED_MASKS = "langsplat"
"""Name of masks that were made elsewhere and converted; nothing here generates them."""


@runtime_checkable
class MaskGenerator(Protocol):
    """Splits an image into regions at the levels subpart, part and whole."""

    @property
    def name(self) -> str:
        """The short name the generator is loaded by."""
        ...

    @property
    def settings(self) -> MaskSettings:
        """Everything that changes the masks."""
        ...

    def generate(self, image: UInt8[Tensor, "height width 3"]) -> ViewMasks:
        """Finds the masks of a picture at every level."""
        ...


def load_mask_generator(
    name: str, sam: SamSettings | None = None, device: str = "cpu", download: bool = False
) -> MaskGenerator:
    """Returns the mask generator of that name.

    Args:
        name: A name from `MASK_GENERATORS`.
        sam: Settings of sam; None for LangSplat's.
        device: Where sam runs.
        download: Whether missing weights may be downloaded.

    Raises:
        GenLangSplatError: If there is none of that name, or its weights cannot be loaded.
    """
    _check_name(name)
    if name == "sam":
        return SamMaskGenerator.load(sam or SamSettings(), device, download)
    return WatershedMaskGenerator()


def mask_settings(name: str, sam: SamSettings | None = None) -> MaskSettings:
    """Gives the settings of a mask generator without loading any weights.

    Raises:
        GenLangSplatError: If there is none of that name.
    """
    if name == CONVERTED_MASKS:
        return {}
    _check_name(name)
    return sam_mask_settings(sam or SamSettings()) if name == "sam" else WatershedMaskGenerator().settings


def _check_name(name: str) -> None:
    if name == CONVERTED_MASKS:
        raise GenLangSplatError(
            "Masks of LangSplat are not generated here but read from its files. Convert them with "
            "`gen-langsplat convert --data SCENE --from-langsplat SCENE/language_features`."
        )
    if name not in MASK_GENERATORS:
        raise GenLangSplatError(f'There is no mask generator "{name}". Choose one of: {", ".join(MASK_GENERATORS)}.')
