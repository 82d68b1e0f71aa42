"""See what the layers of a network know while PyTorch Lightning trains it: matrix-based Rényi information, in bits."""

from lightning_infoplane.bandwidths import (
    Alignment,
    Bandwidth,
    Fixed,
    MedianDistance,
    NearestNeighbors,
    Silverman,
    StandardizedSilverman,
)
from lightning_infoplane.entropy import Eigenvalues, Estimate, Solver, joint_gram, renyi_entropy
from lightning_infoplane.information import (
    PermutationTest,
    conditional_mutual_information,
    dpi_gaps,
    dual_total_correlation,
    mutual_information,
    o_information,
    permutation_test,
    total_correlation,
)
from lightning_infoplane.kernels import class_gram, feature_map_gram, gaussian_gram, gram
from lightning_infoplane.pairs import (
    PairInformation,
    map_pairs,
    non_redundant_information,
    pair_information,
    redundancy_synergy,
)
from lightning_infoplane.solvers import Lanczos, Leading

__version__ = "0.1.0"
