"""The demo: a generated gallery, trained and queried from start to finish without a download.

- `photographs`: photographs from installed packages.
- `textures`, `room`, `raycast`: the surfaces of the gallery and the ray caster that renders them.
- `gallery`: writes the posed, labeled data set.
- `run`: the demo from the data set to the report, for any trainer.
- `training`: the demo with the lite method.

Imports `evaluation`, `language`, `utils`, `errors`; only `training` imports the method. Used by `gen-langsplat demo`.
"""

from __future__ import annotations

from genlangsplat_ns.utils.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "build_gallery": "genlangsplat_ns.demo.gallery",
        "run_demo": "genlangsplat_ns.demo.run",
        "run_gallery_demo": "genlangsplat_ns.demo.training",
    },
)
