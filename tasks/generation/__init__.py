"""Sampling from inference servers over HTTP: sampling parameters, completions, streaming dispatch."""
