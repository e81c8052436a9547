"""Names label formats that are not read, and says how to get one that is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genlangsplat_ns.errors import GenLangSplatError

SNIFFED_BYTES = 4096
"""Number of bytes of a file that are read to recognize it."""

_YOLO_LINE = re.compile(rb"\s*\d+(\s+-?[\d.]+(e-?\d+)?){4,}\s*")

_CVAT = "in CVAT, export the task as COCO 1.0"
_LABEL_STUDIO = "in Label Studio, choose Export, COCO"
_ROBOFLOW = "in Roboflow, CVAT or Label Studio, choose COCO at the export"


def foreign_json(document: Any, path: Path) -> GenLangSplatError:
    """Returns the error about a JSON file that has no labels of a supported format."""
    kind, where = _json_kind(document)
    if kind is None:
        first = document[0] if isinstance(document, list) and document else document
        content = "" if first is document else "is a list whose first element "
        if isinstance(first, dict):
            keys = ", ".join(repr(str(key)[:40]) for key in list(first)[:8])
            content += f"has the keys {keys or 'none'}"
        else:
            content += f"is a {type(first).__name__}"
        return GenLangSplatError(
            f"{path} has no labels of a known format: its JSON {content}. Expected labels in COCO, labelme or LERF-OVS "
            "(ISAT) format. Export them so, or remove the file if it has no labels."
        )
    return _error(path, kind, where)


def foreign_files(paths: Sequence[Path], source: Path, masks: bool) -> GenLangSplatError | None:
    """Returns the error about files in another format than JSON; None if none of them looks like labels.

    Args:
        paths: The files.
        source: The folder or file that was given.
        masks: Whether PNG files may be masks of classes, `VIEW/CLASS.png`.
    """
    for path in paths:
        kind, where = _text_kind(path)
        if kind is None:
            kind, where = _label_image_kind(path)
        if kind is None and not masks:
            kind, where = _other_kind(path)
        if kind is not None:
            return _error(path, kind, where)
    if source.is_file():
        return GenLangSplatError(
            f"{source} is no label file. Expected a JSON file in COCO, labelme or LERF-OVS (ISAT) format, or a folder. "
            "Give one of these."
        )
    return None


def _error(path: Path, kind: str, where: str) -> GenLangSplatError:
    advice = f": {where}" if where else ""
    return GenLangSplatError(
        f"{path} looks like {kind}, which is not read. Export COCO, labelme or LERF-OVS labels instead{advice}."
    )


def _json_kind(document: Any) -> tuple[str | None, str]:
    """Returns what a JSON looks like and how to export another format; None if it is unknown."""
    first = document[0] if isinstance(document, list) and document else {}
    if isinstance(first, dict) and isinstance(document, list):
        if "annotations" in first and ("data" in first or "predictions" in first):
            return "Label Studio's own JSON", _LABEL_STUDIO
        if "completions" in first or {"image", "label"} <= first.keys():
            return "Label Studio's own JSON", _LABEL_STUDIO
        if {"image", "annotations"} <= first.keys():
            return "CreateML JSON, which has boxes only", _ROBOFLOW
        if {"image_id", "category_id"} <= first.keys():
            return "results in the format of COCO, without its lists of images and categories", _CVAT
        if "Labeled Data" in first or "data_row" in first:
            return "Labelbox JSON", "Labelbox's Python package converts it to COCO"
        if {"shapes", "tracks"} <= first.keys():
            return "the backup of a task in CVAT", _CVAT
        if "name" in first and "labels" in first:
            return "BDD100K or Scalabel JSON", "Scalabel's to_coco converts it"
    if not isinstance(document, dict):
        return None, ""
    keys = document.keys()
    if "_via_img_metadata" in keys or _values_have(document, "regions", "filename"):
        return "a project of VGG Image Annotator (VIA)", "in VIA, choose Annotation, Export Annotations (COCO format)"
    if ("size" in keys and "objects" in keys) or ({"classes", "tags"} <= keys and "projectType" in keys):
        return "Supervisely JSON", "in Supervisely, run the app Export to COCO"
    if {"imgHeight", "imgWidth", "objects"} <= keys:
        return "Cityscapes polygons", "CVAT imports them and exports COCO 1.0"
    if "item" in keys and "annotations" in keys:
        return "Darwin JSON of V7", "in V7, choose COCO at the export"
    if "items" in keys and "categories" in keys:
        return "Datumaro JSON", "`datum convert` with the format coco"
    if "data_row" in keys:
        return "Labelbox JSON", "Labelbox's Python package converts it to COCO"
    if {"task", "annotations"} <= keys or {"data", "annotations"} <= keys:
        return "Label Studio's own JSON", _LABEL_STUDIO
    if "frames" in keys and ("camera_model" in keys or _values_have({"": document["frames"]}, "file_path")):
        return "cameras (transforms.json), not labels", "give the folder of the labels alone"
    if document.get("type") == "FeatureCollection":
        return "GeoJSON", ""
    if isinstance(document.get("annotations"), list) and "images" in keys:
        return "COCO panoptic labels, whose masks are in other files", _CVAT
    return None, ""


def _values_have(document: dict[str, Any], *keys: str) -> bool:
    """Whether the first value has these keys; of a list, its first element."""
    value = next(iter(document.values()), None)
    if isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, dict) and set(keys) <= value.keys()


def _text_kind(path: Path) -> tuple[str | None, str]:
    """Returns what a text file looks like and how to export another format; None if it is unknown."""
    suffix = path.suffix.lower()
    start = b""
    if suffix in (".txt", ".xml", ".csv"):
        try:
            with path.open("rb") as file:
                start = file.read(SNIFFED_BYTES)
        except OSError as error:
            raise GenLangSplatError(f"Cannot read {path}: {error.strerror}. Give readable labels.") from error
    if suffix == ".txt" and start and _YOLO_LINE.fullmatch(start.split(b"\n")[0]):
        return "YOLO labels", _ROBOFLOW
    if suffix == ".xml" and b"<annotations" in start:
        return "CVAT XML", _CVAT
    if suffix == ".xml" and b"<annotation" in start:
        return "Pascal VOC XML, which has boxes only", _ROBOFLOW
    if suffix == ".csv" and b"region_shape_attributes" in start:
        return "a CSV of VGG Image Annotator (VIA)", "in VIA, choose Annotation, Export Annotations (COCO format)"
    return None, ""


def _label_image_kind(path: Path) -> tuple[str | None, str]:
    """Returns what an image of labels looks like by the names that data sets use; None if it is unknown."""
    if path.suffix.lower() != ".png":
        return None, ""
    if re.search(r"_(gtFine|gtCoarse)_|(labelIds|labelTrainIds|instanceIds)$", path.stem):
        return "Cityscapes label images", "CVAT imports them and exports COCO 1.0"
    if {"SegmentationClass", "SegmentationObject"} & set(path.parts):
        return "Pascal VOC segmentation masks", "CVAT imports them as Segmentation mask 1.1 and exports COCO 1.0"
    return None, ""


def _other_kind(path: Path) -> tuple[str | None, str]:
    """Returns what a binary file looks like and how to export another format; None if it is unknown."""
    suffix = path.suffix.lower()
    if suffix == ".png":
        return (
            "a picture of class numbers or a photograph",
            "CVAT imports masks of class numbers and exports COCO 1.0; or write one folder per view with one "
            "black-and-white CLASS.png per class",
        )
    if suffix in (".zip", ".tar", ".gz", ".7z", ".rar"):
        return "an archive", "if it has such labels already, unpack it and give the folder"
    if suffix in (".npy", ".npz", ".pkl", ".mat", ".tfrecord", ".record", ".parquet", ".ndjson", ".jsonl"):
        return f"a {suffix} file", _ROBOFLOW
    return None, ""
