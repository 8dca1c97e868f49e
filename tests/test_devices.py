"""How the host multiplies: by oneDNN where that is faster and as exact, in trainings and inverses alone."""

import numpy as np
import pytest
import torch

from recsys import devices
from recsys.devices import fast_products
from recsys.models.inverse import invert
from tests.contract import new_model, ratings

SETTING = getattr(torch.backends.mkldnn, "matmul", None)
able = pytest.mark.skipif(not hasattr(SETTING, "fp32_precision"), reason="this torch has no such setting")
AMD, INTEL = "vendor_id : AuthenticAMD\nflags : fma avx512f", "vendor_id : GenuineIntel\nflags : fma avx512f"


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Say what the processor is."""

    def tell(about, capability="AVX512"):
        (tmp_path / "cpuinfo").write_text(about)
        monkeypatch.setattr(devices, "_CPU", tmp_path / "cpuinfo")
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        devices._mkl_is_slower.cache_clear()

    yield tell
    devices._mkl_is_slower.cache_clear()


@able
@pytest.mark.parametrize(
    ("about", "capability", "expected"),
    [
        (AMD, "AVX512", True),
        (AMD, "AVX2", False),
        (INTEL, "AVX512", False),
        (AMD + " amx_tile", "AVX512", False),
        ("", "AVX512", False),
    ],
)
def test_one_dnn_multiplies_on_amd_with_avx_512_alone(told, about, capability, expected):
    told(about, capability)
    before = SETTING.fp32_precision
    with fast_products():
        assert (SETTING.fp32_precision == "bf16") == expected
    assert SETTING.fp32_precision == before
    with pytest.raises(ZeroDivisionError), fast_products():
        1 / 0  # noqa: B018
    assert SETTING.fp32_precision == before


def test_without_what_tells_the_processor_nothing_changes(told, tmp_path):
    told(AMD)
    (tmp_path / "cpuinfo").unlink()
    before = getattr(SETTING, "fp32_precision", None)
    with fast_products():
        assert getattr(SETTING, "fp32_precision", None) == before


@pytest.mark.parametrize("width", [7, 200, 600])
def test_products_are_as_exact_as_float32(width):
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, width, generator=generator) for n in (300, 1000))
    exact = left.double() @ right.double().T
    with fast_products():
        found = torch.mm(left, right.T)
        added = torch.addmm(torch.ones(300, 1000), left, right.T, alpha=-1.0)
    # Rounding to bfloat16, which has 8 bits, would be wrong by a thousandth of the lengths' product.
    bound = 1e-6 * left.norm(dim=1)[:, None] * right.norm(dim=1)
    assert ((found - exact).abs() <= bound).all()
    assert ((added - (1.0 - exact)).abs() <= bound + 1e-6).all()


def test_an_inverse_is_as_exact_as_float32():
    table = torch.randn(400, 90, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gram = table.T @ table + 10.0 * torch.eye(90, dtype=torch.float64)
    found = gram.float()
    invert(found, panel=32)
    torch.testing.assert_close(found.double(), torch.linalg.inv(gram), rtol=1e-3, atol=1e-6)


@able
def test_scores_are_computed_outside_of_it(told):
    told(AMD)
    before, during = SETTING.fp32_precision, []

    class Validation:
        metric, higher_is_better = "none", True

        def __call__(self, model):
            during.append(SETTING.fp32_precision)
            return {"none": 0.0}

    model = new_model("MultVAE", epochs=2).fit(ratings(), show_progress=False, validation=Validation())
    assert during == [before] * 2
    assert np.isfinite(model.encode(ratings())).all()
