"""Hours, gigabytes and scores of the check of the paper's scenes: arithmetic, and measured beside published figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from genlangsplat_ns.evaluation.published import OVERALL, PUBLISHED
from tests.benchmarks.paper_results import evaluation, report

pytestmark = pytest.mark.usefixtures("benchmarks_importable")


def scene(name: str, photographs: int = 100, pixels: int = 50_000_000, pairs: int = 20) -> object:
    from paper.scenes import Scene

    return Scene(name, Path(name), Path("labels"), photographs, pixels, 1000, 5, pairs)


def test_hours_are_rates_times_counts() -> None:
    from paper.estimate import CARD, Rates, estimate_scene

    rates = Rates(view=36.0, step=0.072, lifting=3.6, pair=9.0, sources=())
    found = estimate_scene(scene("ramen"), 1000, rates)
    # Photographs of half a megapixel.
    assert found.hours == {
        "masks and embeddings": pytest.approx(1.0),
        "training": pytest.approx(0.5 * (0.02 + 0.1)),
        "evaluation": pytest.approx(0.5 * 0.05),
    }
    assert found.total_hours == pytest.approx(1.085)
    assert estimate_scene(scene("ramen", 200), 1000, CARD).total_hours > found.total_hours


def test_the_estimate_in_the_documents_is_that_of_lerf_ovs() -> None:
    from paper.estimate import CARD, estimate_scene

    counts = {"figurines": (299, 56), "ramen": (131, 71), "teatime": (177, 59), "waldo_kitchen": (187, 22)}
    found = [
        estimate_scene(scene(name, photographs, photographs * 988 * 731, pairs), 30_000, CARD)
        for name, (photographs, pairs) in counts.items()
    ]
    hours = [sum(item.total_hours for item in found), sum(item.hours["masks and embeddings"] for item in found)]
    text = (Path(__file__).parents[2] / "docs" / "lerf-ovs.md").read_text(encoding="utf-8")
    assert f"{hours[0]:.1f} hours, {hours[1]:.1f} of them for masks and embeddings" in text
    assert f"and {sum(item.total_gigabytes for item in found):.0f} GB" in text


def test_gigabytes_grow_with_photographs_and_pixels() -> None:
    from paper.estimate import CARD, estimate_scene

    small, large = (estimate_scene(scene("ramen", count, count * 10**6), 1000, CARD) for count in (100, 200))
    assert large.gigabytes["features"] == pytest.approx(2 * small.gigabytes["features"])
    # 400 regions with 512 numbers of two bytes, and the compressed map.
    assert small.gigabytes["features"] == pytest.approx(100 * (400 * 512 * 2 + 0.08 * 10**6) / 1e9)
    assert large.gigabytes["checkpoints"] == small.gigabytes["checkpoints"] > 1


def test_what_is_left_is_scaled_by_what_was_measured() -> None:
    from paper.estimate import Estimate, remaining_hours

    estimates = [Estimate(name, {"training": hours}, {}) for name, hours in (("a", 1.0), ("b", 2.0), ("c", 4.0))]
    assert remaining_hours(estimates, {}) == 7.0
    assert remaining_hours(estimates, {"a": 3.0, "b": 6.0}) == pytest.approx(12.0)
    assert remaining_hours(estimates, {"a": 1.0, "b": 1.0, "c": 1.0}) == 0.0


def test_the_estimate_states_sum_download_and_assumptions() -> None:
    from paper.estimate import CARD, describe_estimates, estimate_scene

    scenes = [scene("ramen"), scene("bed")]
    text = describe_estimates(scenes, [estimate_scene(item, 30_000, CARD) for item in scenes], 3.16, CARD)
    assert "| ramen | 100 | 0.50 | 20 |" in text and "| bed |" in text
    assert "3.16 GB are downloaded" in text and all(source in text for source in CARD.sources)


def test_every_measured_row_has_published_ones_of_its_scene_beside_it() -> None:
    from paper.table import HERE, score_rows

    rows = score_rows({"ramen": evaluation(0.8, 0.6, 71), "bed": evaluation(0.9, 0.9, 10)})
    measured = [row for row in rows if row.by == HERE]
    # Two decoders and two protocols, for the scene and for the mean.
    assert [row.scene for row in measured if row.dataset == "lerf-ovs"] == ["ramen"] * 4 + ["1 of 4 scenes"] * 4
    published = [row for row in rows if row.by != HERE]
    assert len(published) == sum(score.scene in ("ramen", "bed", OVERALL) for score in PUBLISHED)
    assert all(row.by.startswith("published: ") for row in published)
    paper = next(row for row in published if (row.method, row.scene) == ("Gen-LangSplat", "ramen"))
    assert (paper.micro.localization, paper.micro.miou) == (0.728, 0.509)
    assert paper.by == "published: Gen-LangSplat paper, tables 1 and 2" and paper.macro.miou is None
    mean = next(row for row in published if (row.method, row.scene) == ("LangSplatV2", OVERALL))
    assert mean.micro.miou is None and mean.macro.miou == 0.599


def test_overall_means_are_macro_over_scenes_and_micro_over_pairs() -> None:
    from paper.table import HERE, score_rows

    scores = {"ramen": (0.8, 71), "figurines": (0.6, 56), "teatime": (0.4, 59), "waldo_kitchen": (1.0, 22)}
    rows = score_rows({name: evaluation(value, value, pairs) for name, (value, pairs) in scores.items()})
    overall = next(
        row
        for row in rows
        if (row.by, row.scene, row.decoder, row.protocol) == (HERE, OVERALL, "memory", "langsplat-lerf")
    )
    assert overall.pairs == 208
    assert overall.macro.miou == pytest.approx(0.7)
    assert overall.micro.miou == pytest.approx(sum(value * pairs for value, pairs in scores.values()) / 208)
    selection = next(row for row in rows if row.scene == OVERALL and row.protocol == "gaussian-selection")
    assert selection.micro.localization is None and selection.family == "selected Gaussians"


def test_the_tables_show_percentages_and_costs() -> None:
    from paper.table import cost_row, costs_table, score_rows, scores_table

    text = scores_table(score_rows({"ramen": evaluation(0.8, 0.6, 71)}))
    method = "Gen-LangSplat for nerfstudio, memory, langsplat-lerf"
    assert f"| lerf-ovs | ramen | {method} | rendered maps | measured here | 80.0 | 70.0 | 60.0 | 50.0 |" in text
    assert "| published: LangSplatV2 paper |" in text
    costs = cost_row("ramen", 8, report(), evaluation(0.8, 0.6, 71))
    # Those of this run, and those that were stored before.
    assert costs["hours_masks_and_embeddings"] == 2.0 and costs["hours_of_evaluation"] == 0.1
    assert "| ramen | 8 | 800 | 1000 | 2 | 2 | 0.1 |" in costs_table([costs])
