"""What work cost, and what finding it in the store saved. Pure: from a run's records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import Field

from infra.config import Config
from infra.output import Cost
from infra.run import StepRecord


class StepCost(Config):
    """Cost of one step's artifact, and what this run saved by finding it."""

    seconds_to_make: float = Field(description="whenever that was")
    usd: float = Field(description="paid to endpoints for making it")
    prompt_tokens: int
    completion_tokens: int
    row_cache_hits: int = Field(description="rows of it that the row cache answered")
    seconds_per_row: float | None = Field(description="to make one of its rows; None where it has none")
    usd_per_row: float | None
    saved_s: float = Field(description="0 where this run made it; otherwise its making less the look-up")
    saved_usd: float


class CostSummary(Config):
    """Cost of a whole run: what it spent and saved; the two together are about what everything takes to make."""

    spent: Cost = Field(description="in this run")
    saved: Cost = Field(description="by artifacts that were in the store")
    made: Cost = Field(description="to make every artifact of the run, whenever that was")
    training_rows: int = Field(description="rows of the last curation step")
    seconds_per_training_row: float | None = Field(description="of all curation, for one row that was kept")
    usd_per_training_row: float | None


def step_cost(record: StepRecord) -> StepCost:
    """The cost of one step."""
    saved, rows = _saved(record), record.rows_out
    return StepCost(
        seconds_to_make=round(record.cost.seconds, 3),
        usd=record.cost.usd,
        prompt_tokens=record.cost.prompt_tokens,
        completion_tokens=record.cost.completion_tokens,
        row_cache_hits=record.cost.cache_hits,
        seconds_per_row=record.cost.seconds / rows if rows else None,
        usd_per_row=record.cost.usd / rows if rows else None,
        saved_s=round(saved.seconds, 3),
        saved_usd=saved.usd,
    )


def cost_summary(records: Sequence[StepRecord], curation: Sequence[StepRecord], training_rows: int) -> CostSummary:
    """Totals over a run; `curation` are the steps whose cost is spread over the rows that training gets."""
    curated = total_cost(record.cost for record in curation)
    return CostSummary(
        spent=total_cost(_spent(record) for record in records),
        saved=total_cost(_saved(record) for record in records),
        made=total_cost(record.cost for record in records),
        training_rows=training_rows,
        seconds_per_training_row=curated.seconds / training_rows if training_rows else None,
        usd_per_training_row=curated.usd / training_rows if training_rows else None,
    )


def total_cost(costs: Iterable[Cost]) -> Cost:
    """The sum, field by field."""
    total = Cost().model_dump()
    for cost in costs:
        total = {name: amount + getattr(cost, name) for name, amount in total.items()}
    return Cost.model_validate(total)


def _spent(record: StepRecord) -> Cost:
    """In this run: of a step that was found, the time of looking."""
    return (Cost() if record.cached else record.cost).model_copy(update={"seconds": record.seconds})


def _saved(record: StepRecord) -> Cost:
    """Of a step that was found: what making it took, less the time of looking."""
    if not record.cached:
        return Cost()
    return record.cost.model_copy(update={"seconds": max(0.0, record.cost.seconds - record.seconds)})
