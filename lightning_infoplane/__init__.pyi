from .callback import MatrixRenyiCallback
from .checkpoints import measure_checkpoints
from .estimator.approximate import Lanczos, Leading
from .estimator.bandwidths import (
    Alignment,
    Bandwidth,
    Fixed,
    MedianDistance,
    NearestNeighbors,
    Silverman,
    StandardizedSilverman,
)
from .estimator.dependence import adjusted_mutual_information, debiased_cka, effective_rank
from .estimator.entropy import renyi_entropy
from .estimator.grams import Linear, class_gram, feature_map_gram, gaussian_gram, gram, joint_gram, map_grams
from .estimator.information import (
    conditional_mutual_information,
    dpi_gaps,
    dual_total_correlation,
    mutual_information,
    o_information,
    permutation_test,
    total_correlation,
)
from .estimator.redundancy import Redundancy, non_redundant_information, redundancy_synergy
from .estimator.solvers import Eigenvalues, Solver
from .measurement.history import History
from .measurement.plane import InformationPlane
from .measurement.rows import Row
from .measurement.settings import Estimator, Jackknife
from .metrics import (
    DebiasedCKA,
    MatrixRenyiAdjustedInformation,
    MatrixRenyiEntropy,
    MatrixRenyiMutualInformation,
    MatrixRenyiTotalCorrelation,
)
from .monitor import Monitor, measure
from .network.gradients import ErrorSignals
from .network.probe import Draw, Probe
from .network.readout import Maps, PerGraph, TimeFirst, Tokens
from .trainer.outputs import Outputs
from .trainer.schedules import AtEpochs, EveryNSteps, LogSpacedEpochs, LogSpacedSteps, Schedule
from .views.panels import plot_summary
from .views.plots import plot_curves, plot_depth, plot_gaps, plot_plane, plot_redundancy

__version__: str

__all__ = [
    "Alignment",
    "AtEpochs",
    "Bandwidth",
    "DebiasedCKA",
    "Draw",
    "Eigenvalues",
    "ErrorSignals",
    "Estimator",
    "EveryNSteps",
    "Fixed",
    "History",
    "InformationPlane",
    "Jackknife",
    "Lanczos",
    "Leading",
    "Linear",
    "LogSpacedEpochs",
    "LogSpacedSteps",
    "Maps",
    "MatrixRenyiAdjustedInformation",
    "MatrixRenyiCallback",
    "MatrixRenyiEntropy",
    "MatrixRenyiMutualInformation",
    "MatrixRenyiTotalCorrelation",
    "MedianDistance",
    "Monitor",
    "NearestNeighbors",
    "Outputs",
    "PerGraph",
    "Probe",
    "Redundancy",
    "Row",
    "Schedule",
    "Silverman",
    "Solver",
    "StandardizedSilverman",
    "TimeFirst",
    "Tokens",
    "adjusted_mutual_information",
    "class_gram",
    "conditional_mutual_information",
    "debiased_cka",
    "dpi_gaps",
    "dual_total_correlation",
    "effective_rank",
    "feature_map_gram",
    "gaussian_gram",
    "gram",
    "joint_gram",
    "map_grams",
    "measure",
    "measure_checkpoints",
    "mutual_information",
    "non_redundant_information",
    "o_information",
    "permutation_test",
    "plot_curves",
    "plot_depth",
    "plot_gaps",
    "plot_plane",
    "plot_redundancy",
    "plot_summary",
    "redundancy_synergy",
    "renyi_entropy",
    "total_correlation",
]
