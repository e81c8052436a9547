"""The views of a scene: photographs, their cameras, and undistortion.

- `cameras`: converts nerfstudio cameras for the rasterizer, and maps points between raw and undistorted views.
- `dataset`: reads photographs in many formats, one at a time, and which of their pixels count.
- `masks`: reads mask files in many formats.
- `undistortion`: maps photographs and masks of any lens to perspective views.

Imports nerfstudio, `errors` and `utils`. Used by the data manager, the model and `scene`.
"""

from __future__ import annotations

from genlangsplat_ns.utils.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ViewDataset": "genlangsplat_ns.views.dataset",
        "undistort_points": "genlangsplat_ns.views.cameras",
    },
)
