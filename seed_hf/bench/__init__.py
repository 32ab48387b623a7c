"""Benchmarks: two ways of the same work, side by side in one run (`seed-hf bench`)."""
