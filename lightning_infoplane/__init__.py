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
from lightning_infoplane.callback import MatrixRenyiCallback
from lightning_infoplane.capture import capture, select_layers
from lightning_infoplane.entropy import Eigenvalues, Estimate, Solver, joint_gram, renyi_entropy
from lightning_infoplane.errors import error_signals
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
from lightning_infoplane.kernels import class_gram, feature_map_gram, gaussian_gram, gram, map_grams
from lightning_infoplane.markov import Chain, find_chain
from lightning_infoplane.metrics import MatrixRenyiEntropy, MatrixRenyiMutualInformation, MatrixRenyiTotalCorrelation
from lightning_infoplane.observe import measure, measure_checkpoints
from lightning_infoplane.pairs import (
    PairInformation,
    Redundancy,
    map_pairs,
    non_redundant_information,
    pair_information,
    redundancy_synergy,
)
from lightning_infoplane.plane import InformationPlane, Row
from lightning_infoplane.plots import plot_curves, plot_depth, plot_gaps, plot_plane, plot_redundancy
from lightning_infoplane.probe import Probe
from lightning_infoplane.schedules import AtEpochs, EveryNEpochs, LogSpacedEpochs, Schedule
from lightning_infoplane.solvers import Lanczos, Leading
from lightning_infoplane.summary import plot_summary

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "AtEpochs",
    "Bandwidth",
    "Chain",
    "Eigenvalues",
    "Estimate",
    "EveryNEpochs",
    "Fixed",
    "InformationPlane",
    "Lanczos",
    "Leading",
    "LogSpacedEpochs",
    "MatrixRenyiCallback",
    "MatrixRenyiEntropy",
    "MatrixRenyiMutualInformation",
    "MatrixRenyiTotalCorrelation",
    "MedianDistance",
    "NearestNeighbors",
    "PairInformation",
    "PermutationTest",
    "Probe",
    "Redundancy",
    "Row",
    "Schedule",
    "Silverman",
    "Solver",
    "StandardizedSilverman",
    "capture",
    "class_gram",
    "conditional_mutual_information",
    "dpi_gaps",
    "dual_total_correlation",
    "error_signals",
    "feature_map_gram",
    "find_chain",
    "gaussian_gram",
    "gram",
    "joint_gram",
    "map_grams",
    "map_pairs",
    "measure",
    "measure_checkpoints",
    "mutual_information",
    "non_redundant_information",
    "o_information",
    "pair_information",
    "permutation_test",
    "plot_curves",
    "plot_depth",
    "plot_gaps",
    "plot_plane",
    "plot_redundancy",
    "plot_summary",
    "redundancy_synergy",
    "renyi_entropy",
    "select_layers",
    "total_correlation",
]
