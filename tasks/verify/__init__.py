"""Ground truth: several teacher answers, their majority, an arbiter for contradictions, reference code against its tests."""
