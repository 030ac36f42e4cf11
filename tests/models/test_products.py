import pytest
import torch

from isthmus.models import products
from isthmus.models.products import linear, product

SIZES = [(3, 4, 5), (130, 256, 200), (1024, 80, 96)]


@pytest.mark.parametrize(("batch", "inputs", "outputs"), SIZES)
@pytest.mark.parametrize("relu", [False, True])
def test_a_linear_layer_is_torchs(batch, inputs, outputs, relu):
    x, weight, bias = torch.randn(batch, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    expected = torch.nn.functional.linear(x, weight, bias)
    expected = expected.relu() if relu else expected
    torch.testing.assert_close(linear(x, weight, bias, relu=relu), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n", "k", "m"), SIZES)
def test_products_of_transposed_matrices(n, k, m):
    a, b = torch.randn(k, n).t(), torch.randn(m, k).t()
    torch.testing.assert_close(product(a, b), a @ b, rtol=1e-4, atol=1e-3)


def test_the_same_product_twice_is_the_same_bits():
    a, b = torch.randn(1024, 256), torch.randn(256, 256)
    assert torch.equal(product(a, b), product(a, b))


def test_without_onednn_torchs_own_products_serve(monkeypatch):
    monkeypatch.setattr(products, "_onednn", None)
    a, b = torch.randn(1024, 256), torch.randn(256, 256)
    assert torch.equal(product(a, b), a.mm(b))


def test_double_precision_stays_double():
    a, b = torch.randn(512, 256).double(), torch.randn(256, 256).double()
    assert product(a, b).dtype == torch.float64
