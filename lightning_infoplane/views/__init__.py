"""Rows to figures, HTML and text. Neither torch nor Lightning is needed."""
