"""Normalization keeps vectors without a direction at zero."""

from __future__ import annotations

import torch

from genlangsplat_ns.utils.vectors import SHORTEST, unit_or_zero


def test_vectors_become_unit_vectors_and_the_shortest_ones_zero() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.5 * SHORTEST, 0.0], [0.0, -1e-6]])
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 0.0], [0.0, -1.0]])
    torch.testing.assert_close(unit_or_zero(vectors), expected)
