"""Training samples: teacher responses, quality rules, verdicts, mixture."""
