"""Ground truth: teacher answers and their majority, an arbiter for contradictions, reference code against its tests."""
