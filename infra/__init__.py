"""Where work runs and what lasts: store, step, lineage, processes, endpoints. Knows no phase."""
