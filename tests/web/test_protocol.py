"""Scores as bytes: what the page reads is what was written, to half a step."""

from __future__ import annotations

import json

import numpy as np
import pytest

from genlangsplat_ns.web.protocol import STEPS, pack, quantize, unpack


def some_values(seed: int = 0) -> np.ndarray:
    """Cosines of three levels; the first Gaussians were never seen at the second level."""
    values = np.random.default_rng(seed).uniform(-0.4, 0.9, (3, 500)).astype(np.float32)
    values[1, :7] = np.nan
    return values


def test_values_return_within_half_a_step_of_their_plane() -> None:
    values = some_values()
    read = quantize("a fox", values).values()
    assert np.array_equal(np.isnan(read), np.isnan(values))
    steps = (np.nanmax(values, axis=1) - np.nanmin(values, axis=1)) / STEPS
    assert (np.nanmax(np.abs(read - values), axis=1) <= 0.5001 * steps).all()


def test_zero_means_that_nothing_was_seen_and_is_no_value() -> None:
    values = some_values()
    planes = quantize("a fox", values).planes
    assert ((planes == 0) == np.isnan(values)).all()
    assert planes.max() == 255 and planes[planes > 0].min() == 1


def test_planes_of_one_value_and_of_none_have_limits_all_the_same() -> None:
    scores = quantize("a fox", np.stack([np.full(4, 0.25), np.full(4, np.nan)]).astype(np.float32))
    assert scores.limits == ((0.25, 0.25), (0.0, 0.0))
    assert scores.values()[0].tolist() == [0.25] * 4 and np.isnan(scores.values()[1]).all()


def test_given_limits_hold_for_all_planes() -> None:
    scores = quantize("a fox", np.array([[0.0, 0.5, 1.0]], dtype=np.float32), limits=(0.0, 1.0))
    assert scores.planes.tolist() == [[1, 128, 255]] and scores.limits == ((0.0, 1.0),)


def test_the_file_is_laid_out_as_the_page_reads_it() -> None:
    first = quantize("fox 🦊", np.array([[0.0, 1.0], [np.nan, 0.5]], dtype=np.float32))
    second = quantize("</script>", np.array([[0.5, 0.0], [0.5, 0.5]], dtype=np.float32))
    data = pack("cosines", [first, second])
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    assert header == {
        "kind": "cosines",
        "count": 2,
        "texts": [
            {"text": "fox 🦊", "planes": [{"low": 0.0, "high": 1.0}, {"low": 0.5, "high": 0.5}]},
            {"text": "</script>", "planes": [{"low": 0.0, "high": 0.5}, {"low": 0.5, "high": 0.5}]},
        ],
    }
    assert list(data[4 + length :]) == [1, 255, 0, 1, 255, 1, 1, 1]


@pytest.mark.parametrize("kind", ["cosines", "relevancy"])
def test_a_file_is_read_back(kind: str) -> None:
    written = [quantize(text, some_values(seed)) for seed, text in enumerate(("a fox", "a wall"))]
    found, read = unpack(pack(kind, written))  # type: ignore[arg-type]
    assert found == kind and [each.text for each in read] == ["a fox", "a wall"]
    for one, other in zip(written, read, strict=True):
        assert np.array_equal(one.planes, other.planes) and one.limits == other.limits
