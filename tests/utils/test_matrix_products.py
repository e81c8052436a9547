"""Fast matrix products keep their results."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from genlangsplat_ns.utils import matrix_products
from genlangsplat_ns.utils.matrix_products import has_matrix_tiles, onednn_matmul


@pytest.fixture
def fp32_precision() -> Iterator[object]:
    """torch's setting, restored after the test."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is None or has_matrix_tiles() is None:
        pytest.skip("this torch has no such switch")
    before = matmul.fp32_precision
    yield matmul
    matmul.fp32_precision = before


def test_fast_products_are_as_exact_as_others():
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(96, 768, generator=generator), torch.randn(768, 200, generator=generator)
    layer = torch.nn.Linear(768, 200, bias=False)
    layer.weight.data = right.T.contiguous()
    exact = (left.double() @ right.double()).float()
    with onednn_matmul(), torch.no_grad():
        for product in (left @ right, layer(left)):
            assert (product - left @ right).norm() / exact.norm() < 1e-5
            assert (product - exact).norm() / exact.norm() < 1e-5
    assert (left @ right - exact).norm() / exact.norm() < 1e-5


@pytest.mark.parametrize(("has_tiles", "inside"), [(False, "bf16"), (True, "ieee")])
def test_fast_products_switch_nothing_where_the_processor_has_tiles(monkeypatch, fp32_precision, has_tiles, inside):
    monkeypatch.setattr(matrix_products, "has_matrix_tiles", lambda: has_tiles)
    fp32_precision.fp32_precision = "ieee"
    with onednn_matmul():
        assert fp32_precision.fp32_precision == (inside if torch.backends.mkldnn.is_available() else "ieee")


@pytest.mark.parametrize("before", ["ieee", "none", "bf16"])
def test_fast_products_restore_the_setting_also_after_an_error(monkeypatch, fp32_precision, before):
    monkeypatch.setattr(matrix_products, "has_matrix_tiles", lambda: False)
    fp32_precision.fp32_precision = before
    with onednn_matmul():
        pass
    assert fp32_precision.fp32_precision == before
    with pytest.raises(ZeroDivisionError), onednn_matmul():
        _ = 1 / 0
    assert fp32_precision.fp32_precision == before


@pytest.mark.parametrize("missing", ["tiles", "matmul"])
def test_fast_products_leave_older_releases_of_torch_alone(monkeypatch, missing):
    if missing == "tiles":
        monkeypatch.setattr(matrix_products, "has_matrix_tiles", lambda: None)
    else:
        monkeypatch.delattr(type(torch.backends.mkldnn), "matmul", raising=False)
    with onednn_matmul():
        torch.testing.assert_close(torch.eye(3) @ torch.eye(3), torch.eye(3))
