r"""Samples to Gram matrices: the Gaussian, the linear and the class kernel, and the joint of several variables.

One convention everywhere: the Gaussian is :math:`k(x, x') = \exp(-\lVert x - x'\rVert^2 / (2\sigma^2))`, divided
by the number of samples so that the Gram matrix has trace one. A convolutional layer is C variables, one a feature
map, whose joint Gram matrix is the Hadamard product of C matrices. That product of Gaussians is a single
Gaussian of the features scaled by one over their map's bandwidth, so no ``(C, n, n)`` stack is ever built.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_infoplane.arguments.checks import FLAG, Maybe, Tensors, check_tensors, checked
from lightning_infoplane.estimator.bandwidths import BANDWIDTH, Bandwidth, MedianDistance
from lightning_infoplane.estimator.precision import inner_products, largest, normal_scale, upcast, widest_float

__all__ = [
    "Linear",
    "as_maps",
    "as_variables",
    "broadcastable",
    "class_gram",
    "feature_map_gram",
    "gaussian_gram",
    "gram",
    "hadamard",
    "joint_gram",
    "map_grams",
    "normalize_trace",
    "reordered",
]


@dataclass(frozen=True)
@checked(centre=FLAG)
class Linear:
    r"""The linear kernel in place of a bandwidth: inner products of the samples as they are.

    .. math:: A = \frac{X X^\top}{\operatorname{tr}(X X^\top)}

    For ``gram(samples, Linear())``, and for ``feature_map_gram(maps, Linear())``, which takes all maps as one vector.
    Entropy then counts the directions that samples take, not how many of them differ. Where all samples are zero, or
    alike if they are centred, A is 1/n everywhere: a constant has the entropy 0.

    *Conventions:* matrix entropy of token or sample embeddings (Skean et al.) is that of exactly this matrix, not
    centred. RankMe (Garrido et al.) takes the singular values of X, which are the roots of these eigenvalues:
    ``effective_rank(matrix, singular_values=True)``.

    *No information:* the joint of two linear kernels, their Hadamard product, is a polynomial kernel, and its diagonal
    is not constant. So this is no :class:`Bandwidth`, and ``Estimator(bandwidth=Linear())`` is a ``TypeError``.

    Args:
        centre: take the mean off the samples first.

    Source: Skean et al., arXiv 2502.02013; Garrido et al. (2023), arXiv 2210.02885.

    Example:
        >>> matrix = gram(torch.eye(8, 20, dtype=torch.float64), Linear())  # orthonormal rows: log2 n
        >>> round(float(renyi_entropy(matrix)), 6)
        3.0
    """

    centre: bool = False


_FACTOR = Tensors("(..., n, n), a Gram matrix", "gram(samples)")
_RULE = Maybe(BANDWIDTH)
_KERNEL = Maybe(
    replace(
        BANDWIDTH,
        expected="an instance of Bandwidth, such as {field}=MedianDistance(), or Linear()",
        kinds=(Bandwidth, Linear),
        known=(*BANDWIDTH.known, "Linear()"),
    )
)


def gram(samples: Tensor, bandwidth: Bandwidth | Linear | None = None) -> Tensor:
    r"""Gram matrix of one variable, Gaussian unless :class:`Linear` is asked for.

    .. math:: A_{ij} = \tfrac1n \exp(-\lVert x_i - x_j\rVert^2 / (2\sigma^2))

    Args:
        samples: ``(..., n, d)``, of any real dtype. Half precision and integers are computed in float32.
        bandwidth: the rule that gives :math:`\sigma`; ``MedianDistance()`` when left out. Or ``Linear()``.

    Returns:
        ``(..., n, n)`` with trace one.

    Raises:
        ValueError: if there are fewer than two axes or two samples.

    Source: Sanchez Giraldo, Rao and Príncipe (2015).

    Example:
        >>> gram(torch.tensor([[0.0], [2.0]], dtype=torch.float64), Fixed(1.0))  # exp(-2) / 2 off the diagonal
        tensor([[0.5000, 0.0677],
                [0.0677, 0.5000]], dtype=torch.float64)
    """
    check_tensors("gram", "(..., n, d)", samples=samples)
    bandwidth = _KERNEL("bandwidth", bandwidth, "gram")
    if samples.ndim < 2:
        raise ValueError(
            f"gram() takes samples of shape (..., n, d), got {tuple(samples.shape)}. "
            "For n scalars, pass samples.unsqueeze(-1)."
        )
    return _gram(samples.unsqueeze(-2), bandwidth)


def feature_map_gram(maps: Tensor, bandwidth: Bandwidth | Linear | None = None) -> Tensor:
    r"""Joint Gram matrix of the C feature maps of a layer, as one matrix product.

    .. math:: A = \frac{A_1 \circ \dots \circ A_C}{\operatorname{tr}(A_1 \circ \dots \circ A_C)},\qquad
        A_{ij} = \tfrac1n \exp\Bigl(-\sum_c \lVert x_{ic} - x_{jc}\rVert^2 / (2\sigma_c^2)\Bigr)

    Args:
        maps: ``(n, C, *spatial)``, a convolution's output; without spatial axes each column is a map.
        bandwidth: the rule that gives each map its :math:`\sigma_c`; ``MedianDistance()`` when left out. Or
            ``Linear()``, the kernel of all maps as one vector.

    Returns:
        ``(n, n)`` with trace one.

    Raises:
        ValueError: if there are fewer than two axes or two samples.

    Source: Yu, Wickstrøm, Jenssen and Príncipe, arXiv 1804.06537; the collapse of the product is algebra.

    Example:
        >>> maps = torch.tensor([[[0.0], [0.0]], [[2.0], [2.0]]], dtype=torch.float64)  # two maps, one product
        >>> feature_map_gram(maps, Fixed(2.0**0.5))  # exp(-1) * exp(-1) / 2 off the diagonal
        tensor([[0.5000, 0.0677],
                [0.0677, 0.5000]], dtype=torch.float64)
    """
    check_tensors("feature_map_gram", "(n, C, *spatial)", maps=maps)
    bandwidth = _KERNEL("bandwidth", bandwidth, "feature_map_gram")
    if maps.ndim < 2:
        raise ValueError(
            f"feature_map_gram() takes maps of shape (n, C, *spatial), got {tuple(maps.shape)}. "
            "For n scalars, pass maps.unsqueeze(-1)."
        )
    return _gram(as_maps(maps), bandwidth)


def map_grams(maps: Tensor, bandwidth: Bandwidth | None = None) -> Tensor:
    r"""The Gram matrix of every feature map on its own, with the bandwidths that the joint one uses.

    .. math:: (A_c)_{ij} = \tfrac1n \exp(-\lVert x_{ic} - x_{jc}\rVert^2 / (2\sigma_c^2))

    Their ``joint_gram`` is ``feature_map_gram(maps)``. For quantities that compare maps: redundancy,
    synergy, total correlation. It is the ``(C, n, n)`` stack that nothing else here builds.

    Args:
        maps: ``(n, C, *spatial)``.
        bandwidth: the rule that gives each map its :math:`\sigma_c`; ``MedianDistance()`` when left out.

    Returns:
        ``(C, n, n)``, trace one each.

    Raises:
        ValueError: if there are fewer than two axes or two samples.
        TypeError: for ``Linear()``: the linear kernel of a layer is no product of those of its maps.

    Source: arXiv 1804.06537.

    Example:
        >>> map_grams(torch.tensor([[0.0, 5.0], [2.0, 5.0]], dtype=torch.float64), Fixed(1.0))[1]  # a constant map
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]], dtype=torch.float64)
    """
    check_tensors("map_grams", "(n, C, *spatial)", maps=maps)
    if maps.ndim < 2:
        raise ValueError(
            f"map_grams() takes maps of shape (n, C, *spatial), got {tuple(maps.shape)}. "
            "For n scalars, pass maps.unsqueeze(-1)."
        )
    if isinstance(bandwidth, Linear):
        raise TypeError(
            "map_grams() takes a bandwidth rule, got Linear(): the linear kernel of a layer is no product of those of "
            "its maps. Use MedianDistance(), or feature_map_gram(maps, Linear()) for the layer."
        )
    bandwidth = _RULE("bandwidth", bandwidth, "map_grams")
    parts = as_maps(maps)
    _check_samples(parts)
    sigma = (bandwidth or MedianDistance())(parts)
    return gaussian_gram(parts.movedim(1, 0).unsqueeze(-2), sigma.unsqueeze(-1))


def class_gram(labels: Tensor) -> Tensor:
    r"""Gram matrix of the class (delta) kernel, whose entropy is that of the class frequencies.

    .. math:: A_{ij} = \tfrac1n [y_i = y_j]

    Args:
        labels: ``(..., n)`` integer (or boolean) classes.

    Returns:
        ``(..., n, n)`` with trace one, float64 where the device has it.

    Raises:
        ValueError: for floating-point labels, or fewer than one axis.

    Source: the delta kernel as a special case of the functional; the paper uses one-hot and Gaussian.

    Example:
        >>> class_gram(torch.tensor([7, 7, 3, 7]))[0]
        tensor([0.2500, 0.2500, 0.0000, 0.2500], dtype=torch.float64)
    """
    check_tensors("class_gram", "(..., n) of integer classes", labels=labels)
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"class_gram() takes integer classes, got {labels.dtype}. Convert them with labels.long(), or "
            "for continuous targets call gram(labels.unsqueeze(-1))."
        )
    if labels.ndim < 1:
        raise ValueError("class_gram() takes labels of shape (..., n), got a single number. Pass all of them at once.")
    if labels.shape[-1] < 1:
        raise ValueError("class_gram() takes one label or more, got none. Pass those of all samples.")
    same = labels.unsqueeze(-1) == labels.unsqueeze(-2)
    return same.to(widest_float(labels.device)) / labels.shape[-1]


def gaussian_gram(maps: Tensor, sigma: Tensor) -> Tensor:
    r"""Joint Gaussian Gram matrix of maps whose bandwidths are already known.

    A bandwidth of zero marks a map that does not vary (a dead channel): it carries no distance.

    Args:
        maps: ``(..., n, C, d)``.
        sigma: ``(..., C)``, in the units of the maps.

    Returns:
        ``(..., n, n)`` with trace one, differentiable in both.

    Raises:
        ValueError: for fewer than three axes, no samples, or another number of bandwidths than of maps.

    Example:
        >>> gaussian_gram(torch.zeros(3, 2, 5), torch.zeros(2)) * 3  # nothing varies: all samples alike
        tensor([[1., 1., 1.],
                [1., 1., 1.],
                [1., 1., 1.]])
    """
    check_tensors("gaussian_gram", "(..., n, C, d)", maps=maps)
    check_tensors("gaussian_gram", "(..., C), a bandwidth a map", sigma=sigma)
    fitting = maps.ndim > 2 and sigma.ndim > 0 and sigma.shape[-1] == maps.shape[-2] and maps.shape[-3] > 0
    if not fitting or not sigma.is_floating_point() or maps.is_complex():
        raise ValueError(
            "gaussian_gram() takes real maps (..., n, C, d) and floating-point sigma (..., C), got "
            f"{tuple(maps.shape)} of {maps.dtype} and {tuple(sigma.shape)} of {sigma.dtype}. "
            "Call gram(samples) or feature_map_gram(maps), which find sigma."
        )
    weight = torch.where(sigma > 0, 1 / sigma.clamp_min(torch.finfo(sigma.dtype).tiny), 0.0)
    product = inner_products(maps, weight)
    half_square = product.diagonal(dim1=-2, dim2=-1) / 2
    # -d²/2, in place: with large probes nothing else in memory is as large. Rounding can make a squared distance
    # slightly negative, which would be a kernel above one.
    product.sub_(half_square.unsqueeze(-1)).sub_(half_square.unsqueeze(-2)).clamp_max_(0)
    return product.exp_() / maps.shape[-3]


def joint_gram(*grams: Tensor) -> Tensor:
    r"""Gram matrix of several variables together: the Hadamard product with trace one.

    .. math:: A = \frac{A_1 \circ \dots \circ A_L}{\operatorname{tr}(A_1 \circ \dots \circ A_L)}

    The trace is restored after every factor: a product of L unit-trace matrices has entries of order
    n⁻ᴸ, which underflows at about 20 factors in float32 and 120 in float64.

    Args:
        grams: ``(..., n, n)`` each, with leading dimensions that broadcast.

    Returns:
        ``(..., n, n)`` with trace one.

    Raises:
        ValueError: without any matrix, or with matrices of different n.

    Source: Yu, Sanchez Giraldo, Jenssen and Príncipe, arXiv 1808.07912.

    Example:
        >>> a = torch.eye(2, dtype=torch.float64) / 2
        >>> joint_gram(a, torch.full((2, 2), 0.5, dtype=torch.float64))  # a constant adds nothing
        tensor([[0.5000, 0.0000],
                [0.0000, 0.5000]], dtype=torch.float64)
    """
    if not grams:
        raise ValueError("joint_gram() takes one Gram matrix or more, got none. Write joint_gram(a, b).")
    for position, factor in enumerate(grams):
        _FACTOR(f"grams[{position}]", factor, "joint_gram")
    sizes = {size for gram in grams for size in gram.shape[-2:]}
    if len(sizes) > 1 or min(gram.ndim for gram in grams) < 2 or not broadcastable(*grams):
        shapes = ", ".join(str(tuple(gram.shape)) for gram in grams)
        raise ValueError(
            f"joint_gram() takes Gram matrices (..., n, n) over the same samples, got shapes {shapes}. "
            "Make each of them with gram() from the same samples."
        )
    joint = normalize_trace(grams[0])
    for factor in grams[1:]:
        joint = normalize_trace(joint * factor)
    return joint


def broadcastable(*grams: Tensor) -> bool:
    """Whether their leading dimensions fit, where n is the same.

    Example:
        >>> broadcastable(torch.eye(2), torch.eye(2).expand(3, -1, -1))
        True
    """
    if all(gram.ndim == 2 for gram in grams):
        return True
    try:
        torch.broadcast_shapes(*(gram.shape for gram in grams))
    except RuntimeError:
        return False
    return True


def hadamard(gram: Tensor, other: Tensor) -> Tensor:
    """``joint_gram`` of two matrices known to be fit, in one piece of memory: with large probes, most there is."""
    joint = gram * other
    return joint.div_(joint.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None])


def normalize_trace(matrix: Tensor) -> Tensor:
    """``(..., n, n)`` divided by its trace."""
    return matrix / matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]


def reordered(gram: Tensor, order: Tensor) -> Tensor:
    """``(..., n, n)`` with its samples in another order, or some of them: what is left keeps its scale.

    Example:
        >>> reordered(torch.tensor([[1.0, 2.0], [2.0, 4.0]]), torch.tensor([1, 0]))
        tensor([[4., 2.],
                [2., 1.]])
    """
    order = order.to(gram.device)
    return gram[..., order, :][..., order]


def as_maps(activations: Tensor) -> Tensor:
    """View ``(n, C, *spatial)`` as ``(n, C, d)``, d being one when there are no spatial axes."""
    return activations.unsqueeze(-1) if activations.ndim == 2 else activations.flatten(2)


def as_variables(values: Tensor) -> Tensor:
    """``(n, ...)`` as maps ``(n, C, d)``: (n,) and (n, d) are one variable, (n, C, ...) are C variables."""
    values = upcast(values.detach())
    return values.reshape(len(values), 1, -1) if values.ndim <= 2 else as_maps(values)


def _gram(maps: Tensor, kernel: Bandwidth | Linear | None) -> Tensor:
    """Gram matrix of maps ``(..., n, C, d)`` together, Gaussian or linear."""
    _check_samples(maps)
    if isinstance(kernel, Linear):
        return _linear_gram(maps, kernel.centre)
    return gaussian_gram(maps, (kernel or MedianDistance())(maps))


def _linear_gram(maps: Tensor, centre: bool) -> Tensor:
    """Inner products with trace one; 1/n everywhere where all of them are zero."""
    scale = normal_scale(largest(maps.detach(), (-3, -2, -1)))
    product = inner_products(maps, scale.unsqueeze(-1).expand(*scale.shape, maps.shape[-2]), centred=centre)
    if centre:  # from the typical sample to the mean
        product = product - product.mean(-1, keepdim=True)
        product = product - product.mean(-2, keepdim=True)
    trace = product.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    constant = trace == 0
    return torch.where(constant, 1 / maps.shape[-3], product / torch.where(constant, 1.0, trace))


def _check_samples(maps: Tensor) -> None:
    """Raise a ``ValueError`` for maps ``(..., n, C, d)`` that have no Gram matrix."""
    n, channels = maps.shape[-3:-1]
    if n < 2 or channels < 1:
        raise ValueError(f"a Gram matrix needs at least 2 samples and one map, got {n} samples of {channels} maps.")
    if maps.is_complex():
        raise ValueError(f"expected real samples, got {maps.dtype}. Pass torch.view_as_real(samples).flatten(-2).")
