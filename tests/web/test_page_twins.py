"""The page computes what Python computes: relevancy, levels, selections, groups, peaks. It runs in a browser."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from genlangsplat_ns.language.answers import join_levels
from genlangsplat_ns.language.field import MAX_PEAKS
from genlangsplat_ns.language.query import MIN_RELEVANCY
from genlangsplat_ns.language.relevancy import relevancy_of_cosines
from genlangsplat_ns.language.selection import GaussianSelection, select_gaussians
from genlangsplat_ns.language.settings import SelectionSettings
from genlangsplat_ns.language.visualize import soft_mask
from genlangsplat_ns.web.protocol import pack, quantize
from tests.web.browser import ARRAY_FROM, RunningServer, ScenePage, to_page

pytestmark = pytest.mark.slow

COUNT = 4000


@pytest.fixture(scope="module")
def page(browser: Any, server: RunningServer) -> Iterator[ScenePage]:
    page = ScenePage(browser, server.address)
    yield page
    assert page.errors == []


def run(page: ScenePage, body: str, **arrays: Any) -> Any:
    """Runs the body of a function with `twins` and arguments; arrays become typed arrays."""
    given = {name: to_page(value) if isinstance(value, np.ndarray) else value for name, value in arrays.items()}
    script = f"""(given) => {{ {ARRAY_FROM}
      const twins = window.genlangsplat.twins;
      const {{ {", ".join(given)} }} = Object.fromEntries(Object.entries(given).map(([name, value]) =>
        [name, value !== null && typeof value === "object" && "bytes" in value ? arrayFrom(value) : value]));
      {body} }}"""
    return page.evaluate(script, given)


def blobs(seed: int) -> np.ndarray:
    """Points in blobs of different density and size, with some far away and some twice."""
    random = np.random.default_rng(seed)
    centers = random.normal(0, 3, (6, 3))
    points = (
        centers[random.integers(0, 6, COUNT)]
        + random.normal(0, 1, (COUNT, 3)) * random.choice([0.05, 0.3], COUNT)[:, None]
    )
    points[:20] *= 100
    points[20:40] = points[40:60]
    return points.astype(np.float32)


def scores(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Relevancy, high in one half of space, and opacities."""
    random = np.random.default_rng(seed)
    return random.uniform(0, 1, COUNT).astype(np.float32), random.uniform(0, 1, COUNT).astype(np.float32)


@pytest.mark.parametrize("num_negatives", [1, 4])
def test_relevancy(page: ScenePage, num_negatives: int) -> None:
    random = np.random.default_rng(num_negatives)
    positives = random.uniform(-0.2, 0.6, COUNT).astype(np.float32)
    negatives = random.uniform(-0.2, 0.6, (num_negatives, COUNT)).astype(np.float32)
    expected = relevancy_of_cosines(torch.tensor(positives)[:, None], torch.tensor(negatives).T)[:, 0]
    positives[:5] = np.nan
    found = run(
        page,
        "return [...twins.relevancyOfCosines(positives, rows.map(arrayFrom), 10)];",
        positives=positives,
        rows=[to_page(row) for row in negatives],
    )
    assert found[:5] == [0] * 5, "nothing was seen there"
    np.testing.assert_allclose(found[5:], expected[5:], atol=1e-6)


def test_relevancy_is_never_zero_where_something_was_seen(page: ScenePage) -> None:
    lowest = run(
        page,
        "return twins.relevancyOfCosines(positives, [negatives], 1000)[0];",
        positives=np.array([-1], np.float32),
        negatives=np.array([1], np.float32),
    )
    assert 0 < lowest == pytest.approx(MIN_RELEVANCY)


@pytest.mark.parametrize("rule", ["mean", "auto", "subpart", "part", "whole"])
@pytest.mark.parametrize("opaque", [True, False])
def test_levels_are_joined(page: ScenePage, rule: str, opaque: bool) -> None:
    random = np.random.default_rng(7)
    maps = random.uniform(0, 1, (3, COUNT)).astype(np.float32) * (random.random((3, COUNT)) > 0.3)
    opacities = random.uniform(0, 1 if opaque else 0.09, COUNT).astype(np.float32)
    # The highest peak of all belongs to a Gaussian that cannot be seen.
    maps[1, 3], opacities[3] = 1.0, 0.01
    expected, (name,) = join_levels(torch.tensor(maps).T[:, :, None], torch.tensor(opacities), rule)
    found = run(
        page,
        "const joined = twins.joinLevels(maps.map(arrayFrom), opacities, rule);"
        "return [[...joined.relevancy], joined.level];",
        maps=[to_page(row) for row in maps.astype(np.float32)],
        opacities=opacities,
        rule=rule,
    )
    np.testing.assert_allclose(found[0], expected[:, 0], atol=1e-6)
    # Python leaves the rule's name if there is no opaque Gaussian; the level it chooses is the same.
    assert found[1] == name or (name == "auto" and not opaque)


@pytest.mark.parametrize("softness", [0.0, 0.05, 0.5])
def test_the_edge_of_a_selection(page: ScenePage, softness: float) -> None:
    relevancy = np.linspace(0, 1, 101)
    expected = soft_mask(torch.tensor(relevancy)[:, None, None], 0.6, softness)[:, 0, 0]
    found = page.evaluate(
        "([values, softness]) => values.map((value) => genlangsplat.twins.softMask(value, 0.6, softness))",
        [relevancy.tolist(), softness],
    )
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_score_files(page: ScenePage) -> None:
    values = np.random.default_rng(0).uniform(-0.3, 0.7, (3, COUNT)).astype(np.float32)
    values[0, :7] = np.nan
    stored = quantize("ein Fuchs 🦊", values)
    text, kind, planes = run(
        page,
        "const [text] = twins.readScores(file, count);"
        "return [text.text, text.kind, text.planes.map(({low, high, bytes}) => [low, high, [...bytes]])];",
        file=np.frombuffer(pack("cosines", [stored]), np.uint8),
        count=COUNT,
    )
    assert (text, kind) == ("ein Fuchs 🦊", "cosines")
    for (low, high, stored_bytes), expected in zip(planes, values, strict=True):
        numbers = low + (np.array(stored_bytes) - 1) / 254 * (high - low)
        numbers[np.array(stored_bytes) == 0] = np.nan
        np.testing.assert_allclose(numbers, expected, atol=(high - low) / 500)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "settings",
    [
        SelectionSettings(),
        SelectionSettings(smallest_group=1.0, min_opacity=0.5),
        SelectionSettings(radius=0.2),
        SelectionSettings(clean_up=False),
    ],
    ids=["default", "largest", "radius", "raw"],
)
def test_selections(page: ScenePage, seed: int, settings: SelectionSettings) -> None:
    means, (relevancy, opacities) = blobs(seed), scores(seed)
    means[100] = np.inf
    expected = select_gaussians(
        torch.tensor(relevancy), torch.tensor(means), torch.tensor(opacities), 0.7, settings
    ).keep.numpy()
    found = run(
        page,
        "return [...twins.selectGaussians(relevancy, means, opacities, 0.7, settings)];",
        relevancy=relevancy,
        means=means,
        opacities=opacities,
        settings=json.loads(json.dumps(vars(settings))),
    )
    assert sum(found) > 0 and np.array_equal(np.array(found, bool), expected)


@pytest.mark.parametrize("seed", range(3))
def test_groups_and_peaks(page: ScenePage, seed: int) -> None:
    means, (relevancy, _) = blobs(seed), scores(seed)
    keep = relevancy > 0.6
    selection = GaussianSelection(torch.tensor(keep), torch.tensor(means))
    expected = [np.flatnonzero(group.keep.numpy()).tolist() for group in selection.groups()]
    groups = run(page, "return twins.groups(keep, means);", keep=keep.astype(np.uint8), means=means)
    assert groups == expected and len(groups) > 3

    cleaned = selection.cleaned().groups()[:MAX_PEAKS]
    peaks = run(
        page,
        "return twins.peaks(keep, means, relevancy);",
        keep=keep.astype(np.uint8),
        means=means,
        relevancy=relevancy,
    )
    assert len(peaks) == len(cleaned)
    best = max(cleaned, key=lambda group: relevancy[group.keep.numpy()].max())
    points = means[best.keep.numpy()]
    np.testing.assert_allclose(peaks[0]["center"], points.mean(axis=0), atol=1e-4)
    assert peaks[0]["size"] == pytest.approx((points.max(axis=0) - points.min(axis=0)).max(), rel=1e-5)
    assert [peak["score"] for peak in peaks] == sorted((peak["score"] for peak in peaks), reverse=True)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_splats_are_groups_too(page: ScenePage, count: int) -> None:
    means = blobs(0)[:count]
    keep = np.ones(count, np.uint8)
    expected = len(GaussianSelection(torch.ones(count, dtype=torch.bool), torch.tensor(means)).groups())
    assert len(run(page, "return twins.groups(keep, means);", keep=keep, means=means)) == expected


@pytest.mark.parametrize("word", ["fox", "a fox", "it's", 'say "hi"', "$(reboot)", "`ls`", "a;b", "", "🦊", "-x", "\\"])
def test_words_are_quoted_for_a_shell(page: ScenePage, word: str) -> None:
    quoted = page.evaluate("(word) => genlangsplat.twins.quoted(word)", word)
    assert shlex.split(f"echo {quoted}") == ["echo", word]
