"""A module to activations and gradients, undisturbed. Torch only."""
