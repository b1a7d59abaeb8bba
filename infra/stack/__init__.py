"""The stack: Prefect, MLflow, work pools, deployments and workers, started and ended together."""
