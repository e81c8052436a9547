"""Evaluation of a trained run against labels: labels, protocols, metrics and the report.

- `labels`: labels of a view. `label_folders` finds them and detects their format: `lerf_ovs`, `labelme`, `coco`
  and `mask_folders`, which share `label_files`; `foreign_labels` names other formats.
- `matching`: the labels of each view.
- `protocols`, `published`: the rules to score by as data, and the scores that papers report.
- `prediction`: a mask and a peak from relevancy maps.
- `metrics`, `scores`: IoU, localization and PSNR, and their means.
- `evaluate`: scores every text in every labeled view of a run.
- `report`: the HTML report; `page`: the design of all reports.

Imports `language`, `utils`, `errors` and `levels`. Used by `scene`, the pipeline and `demo`.
"""

from __future__ import annotations

from genlangsplat_ns.utils.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "PROTOCOLS": "genlangsplat_ns.evaluation.protocols",
        "TextTarget": "genlangsplat_ns.evaluation.evaluate",
        "evaluate_views": "genlangsplat_ns.evaluation.evaluate",
        "named_protocols": "genlangsplat_ns.evaluation.protocols",
        "read_label_set": "genlangsplat_ns.evaluation.label_folders",
        "write_report": "genlangsplat_ns.evaluation.report",
    },
)
