"""Full float32 products whatever the program around asks for, and nothing left behind."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import permutations

import pytest
import torch
from properties import assert_bits, assert_leaves_random_state, assert_same_gram, normal
from torch import Tensor

from lightning_infoplane import (
    Eigenvalues,
    Fixed,
    Lanczos,
    Leading,
    class_gram,
    feature_map_gram,
    gram,
    mutual_information,
    renyi_entropy,
)
from lightning_infoplane.estimator.precision import (
    few,
    for_spectra,
    full_float32,
    inner_products,
    largest,
    map_slices,
    middle,
    normal_scale,
    seeded_order,
    seeded_part,
    spectrum_float,
    symmetric_product,
    typical_sample,
    upcast,
    widest_float,
)

CPU = torch.device("cpu")


@pytest.fixture(params=["medium", "high", "allow_tf32"])
def reckless(request: pytest.FixtureRequest) -> Iterator[str]:
    """What Lightning users set: a low precision, by either switch, and bfloat16 autocast. Yields the precision."""
    if request.param == "allow_tf32":
        torch.backends.cuda.matmul.allow_tf32 = True
    else:
        torch.set_float32_matmul_precision(request.param)  # also sets the TF32 flag
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")


def offset_layer(n: int = 200) -> Tensor:
    """A layer whose mean is a hundred times its spread."""
    return normal(n, 6, 4, 4, seed=1) + 100


@pytest.mark.parametrize("alpha", [1, 1.01, 2, 3, 4])
def test_reckless_float32_gives_the_float64_bits(reckless: str, alpha: float) -> None:
    maps = offset_layer()
    inputs = gram(maps.flatten(1)[:, :20])
    exact = mutual_information(inputs, feature_map_gram(maps), alpha)
    hurried = mutual_information(gram(maps.float().flatten(1)[:, :20]), feature_map_gram(maps.float()), alpha)
    assert hurried.dtype == torch.float64
    assert_bits(hurried, exact, 1e-3)


@pytest.mark.parametrize("solver", [Eigenvalues(), Eigenvalues(torch.float32), Lanczos(steps=30), Leading(rank=100)])
@pytest.mark.parametrize("alpha", [1.01, 3])
def test_reckless_settings_do_not_reach_the_solvers(
    reckless: str, solver: Eigenvalues | Lanczos | Leading, alpha: float
) -> None:
    matrix = feature_map_gram(offset_layer().float())
    assert matrix.dtype == torch.float32
    assert_bits(solver(matrix, alpha), solver(matrix.double(), alpha), 1e-3)


def test_flags_and_autocast_are_set_back(reckless: str) -> None:
    layer = offset_layer(20).float()
    mutual_information(gram(layer.flatten(1)), feature_map_gram(layer), solver=Lanczos())
    assert torch.get_float32_matmul_precision() == reckless
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.is_autocast_enabled("cpu")
    assert (layer.flatten(1) @ layer.flatten(1).mT).dtype == torch.bfloat16


def test_flags_are_set_back_after_an_exception(reckless: str) -> None:
    with pytest.raises(RuntimeError, match="on purpose"), full_float32(CPU):
        raise RuntimeError("on purpose")
    assert torch.get_float32_matmul_precision() == reckless
    assert torch.backends.cuda.matmul.allow_tf32


def test_inside_products_are_float32() -> None:
    rows = offset_layer(64).float().flatten(1)
    expected = rows @ rows.mT
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), full_float32(CPU):
            assert torch.equal(rows @ rows.mT, expected)
    finally:
        torch.set_float32_matmul_precision("highest")


NEW_FLAGS = """
import torch
from lightning_infoplane import gram, renyi_entropy, Fixed

backends = torch.backends
parts = backends, backends.cuda.matmul, backends.cudnn, backends.mkldnn, backends.mkldnn.matmul
samples = torch.arange(600.0).reshape(30, 20).sin() + 100
exact = renyi_entropy(gram(samples.double(), Fixed(2.0)))
for part, precision in [(parts[1], "tf32"), (parts[4], "bf16"), (parts[3], "bf16"), (parts[0], "tf32")]:
    part.fp32_precision = precision
    before = [part.fp32_precision for part in parts]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hurried = renyi_entropy(gram(samples, Fixed(2.0)))
    assert abs(float(hurried - exact)) < 1e-3, (hurried, exact)
    assert [part.fp32_precision for part in parts] == before
"""

INHERITED = """
import torch
from lightning_infoplane import gram

matmul = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
torch.backends.fp32_precision = "tf32"  # of the whole program
gram(torch.ones(4, 2))
torch.backends.fp32_precision = "ieee"  # changed later: products go along
assert [part.fp32_precision for part in matmul] == ["ieee", "ieee"]
matmul[0].fp32_precision = "tf32"  # of CUDA's products alone
gram(torch.ones(4, 2))
torch.backends.fp32_precision = "none"
assert matmul[0].fp32_precision == "tf32"
"""


@pytest.mark.parametrize("program", [NEW_FLAGS, INHERITED], ids=["set", "inherited"])
@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch before 2.9")
def test_flags_of_the_new_interface_are_set_back(program: str) -> None:
    """In a process of its own: torch forbids to mix the two interfaces, and the flags are process-wide."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_every_real_dtype_is_computed_in_float32(dtype: torch.dtype) -> None:
    samples = (normal(40, 5) * 3).abs().to(dtype)
    matrix = gram(samples, Fixed(2.0))
    assert matrix.dtype == torch.float32
    assert_same_gram(matrix, gram(samples.double(), Fixed(2.0)), 1e-5)
    assert_bits(renyi_entropy(matrix), renyi_entropy(gram(samples.double(), Fixed(2.0))), 2e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_activations_of_any_rule(dtype: torch.dtype) -> None:
    layer = (normal(40, 3, 4, 4) + 10).to(dtype)
    assert_same_gram(feature_map_gram(layer), feature_map_gram(layer.double()), 1e-4)
    assert feature_map_gram(layer).dtype == torch.float32


@pytest.mark.parametrize("n", [2, 3, 127, 128, 129, 200])
def test_a_symmetric_product_is_the_product(n: int) -> None:
    rows = normal(2, n, 7)
    product = symmetric_product(rows)
    torch.testing.assert_close(product, rows @ rows.mT, atol=1e-13, rtol=1e-13)
    torch.testing.assert_close(symmetric_product(rows.clone().requires_grad_()).detach(), product)


# Inner products of maps, each with its weight


@pytest.mark.parametrize("shape", [(20, 3, 4), (20, 7, 20_000), (2, 6, 3, 4)], ids=["one slice", "four", "a batch"])
def test_inner_products_are_those_of_the_weighted_maps(shape: tuple[int, ...]) -> None:
    maps = normal(*shape)
    weight = normal(*shape[:-3], shape[-2], seed=1).abs()
    rows = (maps * weight[..., None, :, None]).flatten(-2)
    torch.testing.assert_close(inner_products(maps, weight, centred=False), rows @ rows.mT)
    found = inner_products(maps, weight)
    diagonal = found.diagonal(dim1=-2, dim2=-1)
    squares = diagonal.unsqueeze(-1) + diagonal.unsqueeze(-2) - 2 * found
    torch.testing.assert_close(squares, torch.cdist(rows, rows).square(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("weight", [0.0, 1.0, 1e300])
@pytest.mark.parametrize("centred", [False, True])
def test_a_number_that_is_not_finite_spoils_all_inner_products(bad: float, weight: float, centred: bool) -> None:
    """One at a place that nothing else is made of; and in one network of two, only those of that one."""
    for sample in range(12):
        maps = normal(2, 12, 2, 3, dtype=torch.float32)
        maps[1, sample, 0, 2] = bad
        products = inner_products(maps, torch.full((2, 2), weight, dtype=torch.float64), centred)
        assert bool(products[1].isnan().all())
        assert bool(products[0].isfinite().all())


@pytest.mark.parametrize("weight", [1e-40, 1.0, 1e30, 1e300])
@pytest.mark.parametrize("offset", [0.0, 1e30, 3e38])
def test_finite_numbers_have_finite_inner_products(offset: float, weight: float) -> None:
    """Far apart, near the largest there is, or of a weight that float32 has not."""
    maps = normal(20, 2, 30, dtype=torch.float32) + offset
    maps[3] = -3e38
    for centred in (False, True):
        products = inner_products(maps, torch.full((2,), weight, dtype=torch.float64), centred)
        assert bool(products.isfinite().all())


def test_the_typical_sample_is_among_them_and_no_outlier_moves_it_far() -> None:
    rows = normal(100, 50, dtype=torch.float32)
    with assert_leaves_random_state():
        centre = typical_sample(rows)
    assert centre.shape == (1, 50)
    assert bool((rows == centre).any(0).all())
    assert float(centre.square().mean()) < 0.4  # of a single sample it is one
    for sample in range(100):
        far = rows.clone()
        far[sample] = 1e38
        moved = typical_sample(far)
        assert float(moved.abs().max()) <= float(rows.abs().max())
        assert bool((rows == moved).any(0).all())


@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 20])
def test_the_typical_sample_of_few_and_of_those_that_are_alike(n: int) -> None:
    assert torch.equal(typical_sample(torch.full((2, n, 3), 0.1)), torch.full((2, 1, 3), 0.1))
    rows = torch.arange(float(n)).unsqueeze(-1)
    assert 0 <= float(typical_sample(rows)) < n
    rows[n // 2] = torch.nan
    assert n > 9 or few(n) < n or bool(typical_sample(rows).isnan())


def test_the_middle_of_three_is_their_median_in_any_order() -> None:
    for order in permutations([torch.tensor([1.0, 5.0]), torch.tensor([2.0, 2.0]), torch.tensor([9.0, 3.0])]):
        assert torch.equal(middle(list(order)), torch.tensor([2.0, 3.0]))
    nine = list(normal(9, 40).unbind())
    ranks = (torch.stack(nine) < middle(nine)).sum(0)
    assert 3 <= int(ranks.min()) <= int(ranks.max()) <= 5  # three are smaller and three larger at least


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_the_largest_number_of_any_dtype(dtype: torch.dtype) -> None:
    values = (normal(4, 5, 6) * 3).to(dtype)
    assert_bits(largest(values, (-3, -1)), values.double().abs().amax((0, 2)), 0)
    assert_bits(largest(values, (0, 1, 2)), values.double().abs().max(), 0)
    assert largest(values, (-1,)).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_the_largest_of_nothing_and_of_what_is_no_number() -> None:
    assert torch.equal(largest(torch.zeros(3, 0, 2), (-1, -2)), torch.zeros(3))
    strange = torch.tensor([[1.0, -float("inf")], [float("nan"), 2.0], [float("inf"), float("nan")]])
    expected = torch.tensor([float("inf"), float("nan"), float("nan")])
    torch.testing.assert_close(largest(strange, (-1,)), expected, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scales_are_powers_of_two_that_leave_room_for_squares(dtype: torch.dtype) -> None:
    most = torch.cat([2.0 ** torch.arange(-126.0, 128), torch.tensor([0.0, 1e-42, 1.0, 3.0, 1e-38, 3e38])]).to(dtype)
    scale = normal_scale(most)
    assert scale.dtype == dtype
    assert torch.equal(scale.frexp().mantissa, torch.full_like(scale, 0.5))
    assert float((most * scale).max()) < 2**41
    normal_ones = most * torch.finfo(dtype).max > 2**40  # of smaller ones the scale is the largest there is
    assert float((most * scale)[(most > 1e-25) & normal_ones].min()) >= 2**40
    assert bool(normal_scale(torch.tensor([float("inf"), float("nan")], dtype=dtype)).isfinite().all())


def test_floats_stay_what_they_are() -> None:
    assert upcast(torch.ones(1, dtype=torch.float64)).dtype == torch.float64
    assert upcast(torch.ones(1)).dtype == torch.float32


def test_a_seeded_part_is_the_same_every_time() -> None:
    with assert_leaves_random_state():
        part = seeded_part(100, 30, CPU)
    assert torch.equal(part, seeded_part(100, 30, CPU))
    assert len(part.unique()) == 30
    assert int(part.max()) < 100


def test_a_seeded_part_is_the_beginning_of_a_seeded_order_in_the_order_of_the_samples() -> None:
    with assert_leaves_random_state():
        order = seeded_order(100, CPU)
    torch.manual_seed(1)
    assert torch.equal(order, seeded_order(100, CPU))
    assert torch.equal(order.sort().values, torch.arange(100))
    assert not torch.equal(order, torch.arange(100))
    assert torch.equal(seeded_part(100, 30, CPU), order[:30].sort().values)


@pytest.mark.parametrize(
    ("shape", "slices"),
    [((20, 7, 3), 1), ((20, 7, 20_000), 4), ((20, 7, 200_000), 7), ((2, 10, 7, 20_000), 4), ((20, 1, 200_000), 1)],
    ids=["small", "two at a time", "one is too large", "two networks", "one map"],
)
def test_slices_hold_every_map_once_and_stay_in_the_cache(shape: tuple[int, ...], slices: int) -> None:
    """Four megabytes of float32 on a CPU, except where a single map is larger."""
    maps = torch.empty(1).expand(shape)  # no memory for numbers that nobody asks for
    found = list(map_slices(maps))
    assert len(found) == slices
    assert [c for some in found for c in range(shape[-2])[some]] == list(range(shape[-2]))
    for some in found:
        held = maps[..., some, :]
        assert held.shape[-2] == 1 or 4 * held.numel() <= 2**22


def test_an_accelerator_gets_larger_slices() -> None:
    assert len(list(map_slices(torch.empty(20, 7, 20_000, device="meta")))) == 1
    assert len(list(map_slices(torch.empty(20, 7, 2_000_000, device="meta")))) == 7


def test_maps_without_numbers_are_one_slice() -> None:
    assert [range(3)[some] for some in map_slices(torch.empty(4, 3, 0))] == [range(3)]


@pytest.mark.parametrize(("device", "expected"), [("cpu", torch.float64), ("mps", torch.float32)])
def test_the_widest_float_is_one_that_the_device_has(device: str, expected: torch.dtype) -> None:
    assert widest_float(torch.device(device)) == expected
    assert spectrum_float(torch.device(device)) == expected


def test_a_matrix_on_the_cpu_is_where_its_spectrum_can_be_computed() -> None:
    matrix = torch.eye(3)
    assert for_spectra(matrix) is matrix


def test_the_class_kernel_is_exact() -> None:
    """As matrices of zeros and ones are: float64 even where the activations are half precision."""
    assert class_gram(torch.tensor([0, 1], dtype=torch.uint8)).dtype == torch.float64
