"""Evaluation: avg@k with an interval, generations kept."""
