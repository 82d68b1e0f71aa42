"""Activations to rows: the table of quantities, and what is measured, judged and remembered."""
