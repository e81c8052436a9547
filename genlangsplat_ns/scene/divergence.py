"""Notices a training that diverged: a loss that is not finite, and Gaussians that explode or vanish."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genlangsplat_ns.errors import GenLangSplatError

LOGGER = logging.getLogger(__name__)

Parameters = Mapping[str, Tensor] | nn.ParameterDict
"""The parameters of Gaussians by name."""

STEPS_BETWEEN_READS = 20
"""On a GPU, reading the loss makes the step wait, so it is read once in this many steps."""

STEPS_BETWEEN_LOOKS = 200
"""Steps between two looks at the parameters of the Gaussians."""

INVISIBLE = 1 / 255
"""Opacity below which the rasterizers skip a Gaussian."""

HUGE = 10.0
"""A Gaussian whose longest axis is this many times the extent of the scene is as good as everywhere."""

MANY = 0.01
"""Share of the Gaussians from which a fault is worth a warning."""


@dataclass(frozen=True)
class GaussianFaults:
    """What is wrong with the parameters of the Gaussians of a scene."""

    count: int
    """Number of Gaussians."""
    visible: int
    """Gaussians whose opacity can be seen."""
    broken: Mapping[str, int]
    """Gaussians with NaN or infinity, by the name of the parameter."""
    huge: int
    """Gaussians that are far larger than the scene."""

    @classmethod
    @torch.no_grad()
    def of(cls, parameters: Parameters) -> GaussianFaults:
        """Looks at `means`, `scales` (logarithms), `opacities` (logits) and all other parameters of Gaussians."""
        count = len(parameters["means"])
        broken = {
            name: int((~values.detach().flatten(1).isfinite().all(dim=1)).sum())
            for name, values in parameters.items()
            if values.numel()
        }
        visible = int((torch.sigmoid(parameters["opacities"]) > INVISIBLE).sum())
        means, scales = parameters["means"].detach(), parameters["scales"].detach()
        usable = means.isfinite().all(dim=1) & scales.isfinite().all(dim=1)
        huge = 0
        if int(usable.sum()) > 1:
            # Without the outermost Gaussians, which may lie anywhere.
            far = (means[usable] - means[usable].median(dim=0).values).abs().amax(dim=1)
            extent = float(far.sort().values[int(0.9 * (len(far) - 1))])
            huge = int((scales[usable].amax(dim=1).exp() > HUGE * max(extent, 1e-6)).sum()) if extent > 0 else 0
        return cls(count, visible, {name: number for name, number in broken.items() if number}, huge)

    def fatal(self) -> str | None:
        """Says why no training can go on from here, with the likely cause, or None."""
        if self.count == 0:
            return (
                "all Gaussians vanished, probably because the cameras do not see the photographs' scene, or the "
                "photographs are black. Check the poses, or lower --pipeline.model.cull-alpha-thresh"
            )
        if max(self.broken.values(), default=0) == self.count:
            names = ", ".join(name for name, number in self.broken.items() if number == self.count)
            return (
                f"the {names} of all {self.count:,} Gaussians became NaN or infinite, probably because a learning "
                "rate is too high. Lower the rates of --optimizers"
            )
        if self.visible == 0:
            return (
                f"all {self.count:,} Gaussians became transparent, probably because poses and photographs do not fit "
                "or a learning rate is too high. Check the poses, or lower the rate of --optimizers.opacities"
            )
        return None

    def doubtful(self) -> str | None:
        """Says what is wrong with many Gaussians, or None."""
        broken = max(self.broken.values(), default=0)
        if broken > MANY * self.count:
            return (
                f"{broken:,} of {self.count:,} Gaussians hold NaN or infinity in {', '.join(self.broken)} and are not "
                "drawn, probably because a learning rate is too high"
            )
        if self.huge > MANY * self.count:
            return (
                f"{self.huge:,} of {self.count:,} Gaussians are more than {HUGE:g} times as large as the scene, "
                "probably because the poses do not fit the photographs, or the learning rate of the scales is too high"
            )
        return None


class DivergenceCheck:
    """Follows the losses and the Gaussians of a training."""

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._since_read = 0
        self._warned = False

    def add(self, step: int, phase: str, losses: Mapping[str, Tensor], parameters: Parameters) -> None:
        """Takes the terms of the loss of a step and the parameters of the Gaussians after it.

        Raises:
            GenLangSplatError: A loss is not finite, or no Gaussian is left that can be drawn.
        """
        total = torch.stack([loss.detach().float().sum() for loss in losses.values()]).sum()
        if self._first is None:
            self._first = torch.full_like(total, -1, dtype=torch.long)
        is_new = (self._first < 0) & ~total.isfinite()
        self._first = torch.where(is_new, torch.full_like(self._first, step), self._first)
        self._since_read += 1
        empty = len(parameters["means"]) == 0
        if empty or not total.is_cuda or self._since_read >= STEPS_BETWEEN_READS:
            self.read(phase, losses, parameters)
        if empty or step % STEPS_BETWEEN_LOOKS == STEPS_BETWEEN_LOOKS - 1:
            self.look(step, phase, parameters)

    def read(self, phase: str, losses: Mapping[str, Tensor], parameters: Parameters) -> None:
        """Reads whether a loss was not finite.

        Raises:
            GenLangSplatError: A loss was not finite.
        """
        self._since_read = 0
        if self._first is None or int(self._first) < 0:
            return
        terms = [name for name, loss in losses.items() if not bool(loss.detach().isfinite().all())]
        faults = GaussianFaults.of(parameters)
        broken = ", ".join(f"{name} of {number:,}" for name, number in faults.broken.items())
        cause = (
            f"{broken} of {faults.count:,} Gaussians hold NaN or infinity, so a learning rate is probably too high. "
            "Lower the rates of --optimizers"
            if broken
            else "all parameters are finite, so the pixels of a photograph, a mask or the features of a view probably "
            "are not. Check the data"
        )
        where = ": ".join([phase, *([", ".join(terms)] if terms else [])])
        raise GenLangSplatError(
            f"The loss of step {int(self._first)} ({where}) is not finite; expected a number. Found that {cause}. "
            "Resume from the last checkpoint with --load-dir."
        )

    def look(self, step: int, phase: str, parameters: Parameters) -> None:
        """Looks at the Gaussians, and warns once about what is wrong with many of them.

        Raises:
            GenLangSplatError: None is left that can be drawn.
        """
        faults = GaussianFaults.of(parameters)
        fatal, doubtful = faults.fatal(), faults.doubtful()
        if fatal is not None:
            raise GenLangSplatError(
                f"At step {step} ({phase}), {fatal}. Resume from the last checkpoint with --load-dir."
            )
        if doubtful is not None and not self._warned:
            self._warned = True
            LOGGER.warning("At step %d (%s), %s.", step, phase, doubtful)
