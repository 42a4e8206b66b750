"""Captions and references in, metrics with confidence intervals out. Knows no model.

Nothing is imported here: the service computes CIDEr-D, in an image without pandas and Java.
"""
