"""The interface of mask generators, and the functions that load them by name."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.regions import ViewMasks
from genlangsplat_ns.features.sam import SamMaskGenerator, sam_mask_settings
from genlangsplat_ns.features.sam2 import Sam2MaskGenerator
from genlangsplat_ns.features.settings import Sam2Settings, SamSettings
from genlangsplat_ns.features.watershed import WatershedMaskGenerator

MaskSettings = dict[str, str | int | float]
"""All settings that change the masks, as JSON values; part of the identity of stored features."""

MASK_GENERATORS: tuple[str, ...] = ("watershed", "sam", "sam2")
"""Names of the mask generators."""

CONVERTED_MASKS = "langsplat"
"""Name of masks that were converted from LangSplat's files; there is no generator for them."""


@runtime_checkable
class MaskGenerator(Protocol):
    """Splits an image into regions at the levels subpart, part and whole."""

    @property
    def name(self) -> str:
        """Name by which the generator is loaded."""

    @property
    def settings(self) -> MaskSettings:
        """All settings that change the masks."""

    def generate(
        self, image: UInt8[Tensor, "height width 3"], kept: Bool[Tensor, "height width"] | None = None
    ) -> ViewMasks:
        """Generates the masks of an image at each level.

        Pixels that are not `kept` (None keeps all) are black. Masks may extend over them; the caller clips the masks.
        """


def load_mask_generator(
    name: str, sam: SamSettings | None = None, device: str = "cpu", download: bool = False
) -> MaskGenerator:
    """Loads a generator of `MASK_GENERATORS`, sam and sam2 on `device`.

    Args:
        name: Name of the generator.
        sam: Settings of sam, or for sam2 `Sam2Settings`; None for LangSplat's parameters.
        device: Device of sam and sam2.
        download: Whether missing weights are downloaded.

    Raises:
        GenLangSplatError: If the name is unknown, a package is missing, or the weights cannot be loaded.
    """
    _check_name(name)
    if name == "watershed":
        return WatershedMaskGenerator()
    if name == "sam2":
        return Sam2MaskGenerator.load(_settings(name, sam), device, download)
    return SamMaskGenerator.load(_settings(name, sam), device, download)


def mask_settings(name: str, sam: SamSettings | None = None) -> MaskSettings:
    """Returns the settings of a mask generator without loading weights.

    Raises:
        GenLangSplatError: If the name is unknown.
    """
    if name == CONVERTED_MASKS:
        return {}
    _check_name(name)
    return WatershedMaskGenerator().settings if name == "watershed" else sam_mask_settings(_settings(name, sam))


def _settings(name: str, sam: SamSettings | None) -> SamSettings:
    """Returns the given settings, or the defaults of sam or sam2."""
    return sam or (Sam2Settings() if name == "sam2" else SamSettings())


def _check_name(name: str) -> None:
    if name == CONVERTED_MASKS:
        raise GenLangSplatError(
            "LangSplat's masks are not generated, only converted from its files. Convert them with "
            "`gen-langsplat convert --data SCENE --from-langsplat SCENE/language_features`."
        )
    if name not in MASK_GENERATORS:
        raise GenLangSplatError(f'There is no mask generator "{name}". Choose one of: {", ".join(MASK_GENERATORS)}.')
