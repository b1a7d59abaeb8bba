"""Question families: each one makes problems from a `random.Random` and solves a question from its text alone."""
