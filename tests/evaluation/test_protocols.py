"""Every protocol against small worked examples, and against slow reference implementations on random cases."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.evaluation.evaluate import select_by_protocol
from genlangsplat_ns.evaluation.labels import CategoryTruth
from genlangsplat_ns.evaluation.metrics import intersection_over_union, is_hit
from genlangsplat_ns.evaluation.prediction import predict
from genlangsplat_ns.evaluation.protocols import (
    GAUSSIAN_SELECTION,
    LANGSPLAT_3DOVS,
    LANGSPLAT_LERF,
    LANGSPLATV2_LERF,
    OCCAM_LERF,
    PROTOCOLS,
    RenderedProtocol,
    named_protocols,
)
from genlangsplat_ns.language.field import LanguageField
from genlangsplat_ns.language.query import EmbeddedQuery, TextQuery
from tests.evaluation.slow_protocols import in_any_box, lerf_answer, overlap, ovs3d_answer

QUERY = TextQuery(("it",))
LEVELS = ("subpart", "part", "whole")
SMALLEST = 24
"""Maps must be larger than the part of a 30 pixel window that lies outside their border."""


def random_case(seed: int) -> tuple[np.ndarray, CategoryTruth]:
    """Noise maps with one disc per level, and an object in one or two boxes."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(SMALLEST, SMALLEST + 9, 2)
    y, x = np.mgrid[:height, :width]
    maps = 0.3 + 0.1 * rng.random((3, height, width))
    for level in maps:
        cx, cy, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(2, 8)
        level += rng.uniform(0.1, 0.5) * ((x - cx) ** 2 + (y - cy) ** 2 < radius**2)
    truth = np.zeros((height, width), bool)
    boxes = []
    for _ in range(rng.integers(1, 3)):
        # On small maps a wide filter puts peaks near the border, so boxes must be near it for some peaks to hit.
        (left, right), (top, bottom) = (
            np.sort(rng.choice([0, *rng.integers(1, side - 1, 2), side - 1], 2, replace=False))
            for side in (width, height)
        )
        truth[top : bottom + 1, left : right + 1] = True
        boxes.append((float(left), float(top), float(right), float(bottom)))
    return maps.astype(np.float32).astype(np.float64), CategoryTruth(truth, tuple(boxes))


@pytest.mark.parametrize(
    ("protocol", "rules"),
    [
        (LANGSPLAT_LERF, (30, True, 0.4, False)),
        (LANGSPLATV2_LERF, (29, False, 0.4, True)),
        (OCCAM_LERF, (30, True, 0.5, False)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_lerf_scores_equal_the_slow_reference(protocol, rules):
    hits = 0
    for seed in range(100):
        maps, truth = random_case(seed)
        level, mask, peaks = lerf_answer(maps, *rules)
        found = predict(torch.from_numpy(maps).float(), protocol, QUERY)
        assert found.level == LEVELS[level], seed
        assert abs(intersection_over_union(found.mask, truth.mask) - overlap(mask, truth.mask)) < 1e-6, seed
        assert is_hit(found.peaks, truth, protocol.target) == in_any_box(peaks, truth.boxes), seed
        hits += in_any_box(peaks, truth.boxes)
    assert 10 < hits < 90, "Both hits and misses must occur."


def test_3dovs_scores_equal_the_slow_reference():
    for seed in range(100):
        maps, truth = random_case(seed)
        level, mask = ovs3d_answer(maps, 0.4)
        found = predict(torch.from_numpy(maps).float(), LANGSPLAT_3DOVS, QUERY)
        assert found.level == LEVELS[level]
        assert abs(intersection_over_union(found.mask, truth.mask) - overlap(mask, truth.mask)) < 1e-6


def test_selections_equal_the_slow_reference():
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        latents = torch.randn(12, 3, 4, generator=generator)
        latents[0] = 0
        texts = torch.nn.functional.normalize(torch.randn(3, 4, generator=generator), dim=-1)
        query = EmbeddedQuery(TextQuery(("it",), negatives=("thing",)), texts[:1], texts[1:])
        field = LanguageField(torch.zeros(12, 3), torch.rand(12, generator=generator), latents, lambda rows: rows)
        (found,) = select_by_protocol(field, query, GAUSSIAN_SELECTION)
        scores = np.zeros((12, 3))
        for gaussian in range(1, 12):
            for level in range(3):
                unit = latents[gaussian, level] / latents[gaussian, level].norm()
                logits = [10 * float(unit @ text) for text in texts]
                shares = [np.exp(logits[0]) / (np.exp(logits[0]) + np.exp(other)) for other in logits[1:]]
                scores[gaussian, level] = min(shares)
        level = int(scores.max(axis=0).argmax())
        assert found.level == LEVELS[level]
        # Decoded Gaussians are kept in half precision.
        assert found.score == pytest.approx(scores.max(), abs=2e-3)
        clear = np.abs(scores[:, level] - 0.6) > 2e-3
        np.testing.assert_array_equal(found.selection.keep.numpy()[clear], scores[clear, level] > 0.6)


def flat_maps(value: float = 0.2, side: int = 40) -> torch.Tensor:
    return torch.full((3, side, side), value)


def test_langsplat_lerf_worked_example():
    # The left half is bright at one level. The filter turns the step into a ramp of 30 columns, but the average with
    # the raw map keeps the step: the left half stays above 0.7 of the range, the right half below.
    maps = flat_maps()
    maps[1, :, :20] = 0.8
    found = predict(maps, LANGSPLAT_LERF, QUERY)
    assert found.level == "part"
    expected = np.zeros((40, 40), bool)
    expected[:, :20] = True
    np.testing.assert_array_equal(found.mask, expected)


def test_occam_differs_from_langsplat_by_its_threshold_alone():
    maps = flat_maps()
    maps[0] = torch.linspace(0.0, 1.0, 40).expand(40, 40)
    loose, strict = (predict(maps, protocol, QUERY).mask for protocol in (LANGSPLAT_LERF, OCCAM_LERF))
    assert (loose | ~strict).all() and loose.sum() > strict.sum()


def test_langsplat_v2_counts_the_last_row_and_column():
    maps = flat_maps()
    maps[2, -1] = 1.0
    assert not predict(maps, LANGSPLAT_LERF, QUERY).mask[-1].any()
    # One of the four rows around the last row is bright, which gives 7 of 28 votes.
    assert not predict(maps, LANGSPLATV2_LERF, QUERY).mask[-1].any()
    maps[2, -3:] = 1.0
    assert predict(maps, LANGSPLATV2_LERF, QUERY).mask[-1].all()
    # Without the last row, two of the three voting rows are bright.
    assert predict(maps, LANGSPLAT_LERF, QUERY).mask[-1].all()


def test_langsplat_3dovs_worked_example():
    maps = torch.full((3, 4, 4), 0.1)
    maps[0, 0, 0] = 0.95  # The next pixel lowers the mean of this level's mask.
    maps[0, 0, 1] = 0.41
    maps[2, 1:3, 1:3] = 0.8
    found = predict(maps, LANGSPLAT_3DOVS, QUERY)
    assert found.level == "whole" and found.mask.sum() == 4
    assert found.score == pytest.approx(0.95), "The score is the highest over all levels."


def test_relevancy_at_the_threshold_is_not_selected():
    maps = torch.full((3, 4, 4), 0.4, dtype=torch.float64)
    assert not predict(maps, LANGSPLAT_3DOVS, QUERY).mask.any()


def test_a_box_counts_where_the_outline_does_not():
    maps = flat_maps(0.2)
    maps[0, 4:8, 30:34] = 0.9
    ((x, y), *_) = predict(maps, LANGSPLAT_LERF, QUERY).peaks
    empty = np.zeros((40, 40), bool)
    assert is_hit([(x, y)], CategoryTruth(empty, ((float(x), float(y), float(x), float(y)),)), LANGSPLAT_LERF.target)
    assert not is_hit([(x, y)], CategoryTruth(~empty, ((0.0, 0.0, 1.0, 1.0),)), LANGSPLAT_LERF.target)


def test_any_of_several_tied_peaks_may_hit():
    maps = flat_maps(0.2, side=90)
    maps[0, 40:50, 10:20] = 0.9
    maps[0, 40:50, 70:80] = 0.9
    peaks = predict(maps, LANGSPLAT_LERF, QUERY).peaks
    truth = CategoryTruth(np.zeros((90, 90), bool), ((60.0, 30.0, 89.0, 60.0),))
    assert len({x // 45 for x, _ in peaks}) == 2
    assert is_hit(peaks, truth, "box") and not is_hit(peaks[:1], truth, "box")


def official_filter(maps: torch.Tensor, protocol: RenderedProtocol) -> np.ndarray:
    """The operation that the official code calls."""
    if protocol is LANGSPLATV2_LERF:
        pool = torch.nn.AvgPool2d(kernel_size=29, stride=1, padding=14, count_include_pad=False)
        return pool(maps[:, None])[:, 0].numpy()
    return cv2.filter2D(maps.permute(1, 2, 0).numpy(), -1, np.ones((30, 30)) / 30**2).transpose(2, 0, 1)


def two_patches(difference: float) -> torch.Tensor:
    """Two distant patches on one level, the second brighter by `difference`."""
    maps = flat_maps(0.21, side=90)
    maps[1, 40:50, 10:20] = 0.83
    maps[1, 40:50, 70:80] = 0.83 + difference
    return maps


@pytest.mark.parametrize("protocol", [LANGSPLAT_LERF, LANGSPLATV2_LERF], ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("difference", [0.0, 1e-7, 3e-7, 1e-5, -1e-7, -1e-5])
def test_peaks_tie_exactly_where_they_do_in_the_official_arithmetic(protocol, difference):
    maps = two_patches(difference)
    filtered = official_filter(maps, protocol)
    level = filtered[int(filtered.max(axis=(1, 2)).argmax())]
    rows, columns = np.nonzero(level == level.max())
    assert predict(maps, protocol, QUERY).peaks == tuple(zip(columns.tolist(), rows.tolist(), strict=True))


@pytest.mark.parametrize("protocol", [LANGSPLAT_LERF, LANGSPLATV2_LERF], ids=lambda protocol: protocol.name)
def test_peaks_of_random_maps_equal_those_of_the_official_arithmetic(protocol):
    for seed in range(20):
        maps = torch.from_numpy(random_case(seed)[0]).float()
        maps = torch.cat([maps, maps.flip(-1)], dim=-1)  # Mirrored halves almost tie.
        filtered = official_filter(maps, protocol)
        level = filtered[int(filtered.max(axis=(1, 2)).argmax())]
        rows, columns = np.nonzero(level == level.max())
        assert predict(maps, protocol, QUERY).peaks == tuple(zip(columns.tolist(), rows.tolist(), strict=True))


@pytest.mark.parametrize(("difference", "sides"), [(0.0, {0, 1}), (1e-5, {1}), (-1e-5, {0})])
def test_a_slightly_brighter_patch_does_not_tie(difference, sides):
    for protocol in (LANGSPLAT_LERF, LANGSPLATV2_LERF):
        assert {x // 45 for x, _ in predict(two_patches(difference), protocol, QUERY).peaks} == sides


EMPTY = {
    "threshold": 0.0,
    "langsplat-lerf": 0.3,
    "langsplatv2-lerf": 0.5,
    "occam-lerf": 0.5,
    "langsplat-3dovs": 0.3,
}
"""The relevancy of a pixel without content, if the embedding of a zero latent has a relevancy of 0.3."""


@pytest.mark.parametrize("name", EMPTY)
def test_pixels_without_content_score_as_in_the_official_code(name):
    maps = flat_maps(0.6)
    maps[:, 12:28, 12:28] = 0.9
    maps[:, 30:] = 0.0
    filled = maps.where(maps > 0, EMPTY[name])
    found, expected = (predict(case, PROTOCOLS[name], QUERY, decoded_zero=0.3) for case in (maps, filled))
    np.testing.assert_array_equal(found.map, expected.map)
    np.testing.assert_array_equal(found.mask, expected.mask)
    assert found.peaks == expected.peaks and found.score == expected.score


def test_pixels_without_content_do_not_distort_the_normalized_map():
    maps = flat_maps(0.5)
    maps[:, :, :20] = 0.56
    torn = maps.clone()
    torn[:, :3, :3] = 0.0
    for protocol in (LANGSPLAT_LERF, LANGSPLATV2_LERF, OCCAM_LERF):
        whole, holed = (predict(case, protocol, QUERY).mask for case in (maps, torn))
        assert intersection_over_union(whole, holed) > 0.95
        bent = predict(torn, replace(protocol, empty="zero"), QUERY).mask
        assert intersection_over_union(whole, bent) < 0.7, "With a minimum of 0, all other pixels are high."


def test_pixels_without_content_never_have_the_highest_score():
    maps = torch.zeros(3, 40, 40)
    maps[1, :5] = 0.2
    for protocol in (LANGSPLAT_LERF, LANGSPLATV2_LERF, LANGSPLAT_3DOVS):
        found = predict(maps, protocol, QUERY, decoded_zero=0.9)
        assert found.level == "part", "An untrained level is not used."
        assert found.score == pytest.approx(0.2)


def test_a_view_without_content_has_neither_mask_nor_peak():
    for protocol in (LANGSPLAT_LERF, LANGSPLATV2_LERF, OCCAM_LERF, LANGSPLAT_3DOVS):
        found = predict(torch.zeros(3, 40, 40), protocol, QUERY, decoded_zero=0.9)
        assert not found.mask.any() and found.peaks == () and found.score == 0


@pytest.mark.parametrize("value", [0.2, 0.7, 0.123])
def test_rounding_in_the_filter_makes_no_peak_on_a_constant_map(value):
    for protocol in (LANGSPLAT_LERF, LANGSPLATV2_LERF):
        assert predict(flat_maps(value), protocol, QUERY).peaks == ()


def test_protocols_are_found_by_name():
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())
    assert named_protocols(("occam-lerf", "langsplat-lerf")) == (OCCAM_LERF, LANGSPLAT_LERF)
    with pytest.raises(GenLangSplatError, match="langsplat-lerf"):
        named_protocols(("lerf",))
