"""What a mask generator is, and which ones there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Int32, UInt8
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.features.watershed import WatershedMaskGenerator

__all__ = ["MASK_GENERATORS", "MaskGenerator", "WatershedMaskGenerator", "load_mask_generator"]


@runtime_checkable
class MaskGenerator(Protocol):
    """Splits an image into regions at the levels subpart, part and whole."""

    @property
    def name(self) -> str:
        """The short name the generator is loaded by."""
        ...

    @property
    def settings(self) -> dict[str, str | int | float]:
        """Everything that changes the regions, ready for JSON; stored features are kept apart by it."""
        ...

    def generate(self, image: UInt8[Tensor, "height width 3"]) -> Int32[Tensor, "levels height width"]:
        """Returns the region id of every pixel at every level, from 0 within each level; -1 where there is none."""
        ...


def _sam() -> MaskGenerator:
    raise GenLangSplatError(
        'The mask generator "sam" is not part of this version. Choose "watershed", which needs no weights.'
    )


MASK_GENERATORS: dict[str, Callable[[], MaskGenerator]] = {"watershed": WatershedMaskGenerator, "sam": _sam}
"""The mask generators by name."""


def load_mask_generator(name: str) -> MaskGenerator:
    """Returns the mask generator of that name with its default settings.

    Raises:
        GenLangSplatError: If there is none of that name, or it cannot be used here.
    """
    if name not in MASK_GENERATORS:
        raise GenLangSplatError(f'There is no mask generator "{name}". Choose one of: {", ".join(MASK_GENERATORS)}.')
    return MASK_GENERATORS[name]()
