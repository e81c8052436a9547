"""A training that diverges ends with the step and the likely cause."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.scene.divergence import STEPS_BETWEEN_LOOKS, DivergenceCheck, GaussianFaults

Parameters = dict[str, Tensor]


@pytest.fixture
def parameters() -> Parameters:
    """Hundred healthy Gaussians in a cube with sides of 2."""
    means = torch.rand(100, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {"means": means, "scales": torch.full((100, 3), -3.0), "opacities": torch.zeros(100, 1)}


def look(parameters: Parameters) -> None:
    DivergenceCheck().look(STEPS_BETWEEN_LOOKS - 1, "RGB phase", parameters)


def test_a_healthy_training_goes_on(parameters: Parameters, caplog: pytest.LogCaptureFixture) -> None:
    check = DivergenceCheck()
    for step in range(2 * STEPS_BETWEEN_LOOKS):
        check.add(step, "RGB phase", {"main_loss": torch.tensor(0.5)}, parameters)
    assert caplog.text == ""
    assert GaussianFaults.of(parameters) == GaussianFaults(count=100, visible=100, broken={}, huge=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_step_term_and_cause(parameters: Parameters, value: float) -> None:
    check = DivergenceCheck()
    check.add(6, "RGB phase", {"main_loss": torch.tensor(0.5)}, parameters)
    losses = {"main_loss": torch.tensor(0.5), "scale_reg": torch.tensor(value)}
    with pytest.raises(GenLangSplatError, match=r"step 7 \(RGB phase: scale_reg\).*all parameters are finite"):
        check.add(7, "RGB phase", losses, parameters)
    parameters["means"][3] = value
    with pytest.raises(GenLangSplatError, match=r"means of 1 of 100 Gaussians.*learning rate"):
        check.add(8, "RGB phase", losses, parameters)


def test_no_gaussian_is_noticed_at_once(parameters: Parameters) -> None:
    empty = {name: values[:0] for name, values in parameters.items()}
    with pytest.raises(GenLangSplatError, match=r"At step 5 .*all Gaussians vanished.*poses"):
        DivergenceCheck().add(5, "RGB phase", {"main_loss": torch.tensor(0.5)}, empty)


def test_transparent_gaussians_are_an_error(parameters: Parameters) -> None:
    parameters["opacities"] -= 10
    with pytest.raises(GenLangSplatError, match="all 100 Gaussians became transparent"):
        look(parameters)


def test_gaussians_without_a_number_are_an_error_if_none_is_left(
    parameters: Parameters, caplog: pytest.LogCaptureFixture
) -> None:
    parameters["scales"][:50] = torch.nan
    look(parameters)
    assert "50 of 100 Gaussians hold NaN or infinity in scales" in caplog.text
    parameters["scales"][:] = torch.nan
    with pytest.raises(GenLangSplatError, match="the scales of all 100 Gaussians became NaN"):
        look(parameters)


def test_exploding_gaussians_are_told_once(parameters: Parameters, caplog: pytest.LogCaptureFixture) -> None:
    parameters["scales"][:7] = 4.0
    check = DivergenceCheck()
    for step in (199, 399):
        check.look(step, "RGB phase", parameters)
    assert caplog.text.count("7 of 100 Gaussians are more than 10 times as large as the scene") == 1


def test_one_gaussian_is_enough() -> None:
    parameters = {"means": torch.zeros(1, 3), "scales": torch.zeros(1, 3), "opacities": torch.zeros(1, 1)}
    look(parameters)
