"""Tensors to bits: Gram matrices, entropies, information. Pure functions, torch only."""
