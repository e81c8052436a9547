"""Takes sharp frames from a video with ffmpeg."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.photographs.sharpness import COMPARED_SIDE, sharpness
from genlangsplat_ns.utils.files import atomic_folder
from genlangsplat_ns.utils.progress import progress_bar

LOGGER = logging.getLogger(__name__)

CHOICE_FILE = "frames.json"
"""File in the folder of frames that says from which video they are."""

JPEG_QUALITY = "2"
"""ffmpeg's best quality of JPEG files."""


def extract_frames(video: Path, folder: Path, count: int) -> None:
    """Writes the sharpest frame of each of `count` equal parts of a video; `frame_00042.jpg` is its frame 42.

    A folder that a call with the same video and count has written is kept. A shorter video gives all of its frames.

    Raises:
        GenLangSplatError: ffmpeg is missing, or cannot read the video, or `count` is too small.
    """
    if count < 3:
        raise GenLangSplatError(f"--frames is {count}; expected at least 3, better 100 or more. Raise it.")
    status = video.stat()
    choice = {"size": status.st_size, "modified": status.st_mtime_ns, "name": video.name, "frames": count}
    stored = folder / CHOICE_FILE
    if stored.is_file() and stored.read_bytes() == json.dumps(choice).encode():
        return
    require_ffmpeg(video)
    numbers = sharpest_of_parts(_frame_sharpness(video), count)
    LOGGER.info("Taking %d frames from %s, the sharpest of each part.", len(numbers), video)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder, overwrite=True) as temporary:
        _write_frames(video, numbers, temporary)
        (temporary / CHOICE_FILE).write_text(json.dumps(choice), encoding="utf-8")


def require_ffmpeg(video: Path) -> None:
    """Raises an error if ffmpeg, which reads videos, is not installed."""
    if shutil.which("ffmpeg") is None:
        raise GenLangSplatError(
            f"Could not find ffmpeg, which reads the video {video}: `apt-get install ffmpeg`. A folder of photographs "
            "does not need it."
        )


def sharpest_of_parts(values: Sequence[float], count: int) -> list[int]:
    """Splits a sequence into equal parts and returns the index of the highest value of each, in order."""
    edges = np.linspace(0, len(values), min(count, len(values)) + 1).round().astype(int)
    return [int(start + np.argmax(values[start:end])) for start, end in pairwise(edges)]


def _frame_sharpness(video: Path) -> list[float]:
    """Returns the sharpness of all frames, which ffmpeg turns upright and hands over as small gray squares."""
    size = COMPARED_SIDE * COMPARED_SIDE
    command = _ffmpeg(
        video, "-vf", f"scale={COMPARED_SIDE}:{COMPARED_SIDE}:flags=area,format=gray", "-f", "rawvideo", "-"
    )
    values = []
    with tempfile.TemporaryFile() as errors, progress_bar("Comparing frames", _frame_count(video)) as bar:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None, "it is a pipe"
            while len(pixels := process.stdout.read(size)) == size:
                values.append(sharpness(np.frombuffer(pixels, np.uint8).reshape(COMPARED_SIDE, COMPARED_SIDE)))
                bar.advance()
        if process.returncode != 0 and not values:
            raise _unreadable(video, errors)
        if process.returncode != 0:
            LOGGER.warning("%s is damaged after its frame %d; the frames before are used.", video, len(values))
    if len(values) < 3:
        raise GenLangSplatError(f"{video} has {len(values)} frames, expected at least 3. Give another video.")
    return values


def _write_frames(video: Path, numbers: Sequence[int], folder: Path) -> None:
    chosen = "+".join(f"eq(n\\,{number})" for number in numbers)
    with tempfile.TemporaryFile() as errors:
        command = _ffmpeg(video, "-vf", f"select={chosen}", "-q:v", JPEG_QUALITY, str(folder / "%06d.jpg"))
        subprocess.run(command, stderr=errors)
        written = sorted(folder.glob("*.jpg"))
        if len(written) != len(numbers):
            raise _unreadable(video, errors)
    for path, number in zip(written, numbers, strict=True):
        path.rename(folder / f"frame_{number:05d}.jpg")


def _ffmpeg(video: Path, *words: str) -> list[str]:
    """Returns a command whose frames are those of the file, none repeated or dropped for a constant rate."""
    return ["ffmpeg", "-nostdin", "-v", "error", "-i", str(video), "-an", "-sn", "-vsync", "passthrough", *words]


def _frame_count(video: Path) -> int | None:
    """Estimates the number of frames by what ffmpeg says about the video; None if it does not say it."""
    done = subprocess.run(["ffmpeg", "-nostdin", "-i", str(video)], capture_output=True, text=True, errors="replace")
    duration = re.search(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", done.stderr)
    rate = re.search(r"(\d+(?:\.\d+)?) fps", done.stderr)
    if duration is None or rate is None:
        return None
    hours, minutes, seconds = map(float, duration.groups())
    return round((3600 * hours + 60 * minutes + seconds) * float(rate[1]))


def _unreadable(video: Path, errors: IO[bytes]) -> GenLangSplatError:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return GenLangSplatError(
        f"ffmpeg cannot read the video {video} ({lines[-1].strip() if lines else 'it gives no frames'}). Convert it, "
        "or give another file."
    )
