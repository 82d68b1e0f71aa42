"""Where numbers stop to mean something: limits that the estimator, the verdicts and the pictures share. No torch."""

__all__ = ["COLLAPSED_SHARE", "RESOLVED_BITS", "RESOLVED_DEVIATIONS", "SATURATED_SHARE"]

# Shares of log2 n beyond which H(T) says more about the kernel than about the layer. A saturated layer shares with
# itself only what a few near samples do: its adjusted information read 0.40 and 0.65 where wider kernels gave 0.93 to
# 0.99 (benchmarks/bandwidths.py, before this limit).
SATURATED_SHARE = 0.95
COLLAPSED_SHARE = 0.05

# What a variable shares with itself beyond chance must be at least so many bits, and so many standard deviations of its
# shuffles: below, the ratio would be that of two rounding errors or of two chance levels.
# Of 512 samples, noise of 3,072 dimensions shares 0.013 bits with itself, and of 8,192 dimensions 0.005; its adjusted
# information with an input is below 0.006 in each of five draws. Spectra in float32 are off by 2e-5 bits. A kernel so
# narrow that it sees nearly all samples as different shares less than 0.003 bits, and gets a tenth too much for them.
RESOLVED_BITS = 0.005
RESOLVED_DEVIATIONS = 5.0
