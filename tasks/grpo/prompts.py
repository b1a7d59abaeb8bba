"""Which prompts a stage trains on: the last stage's, less what it has solved, plus what the stage adds (AM § 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from itertools import groupby

from pydantic import Field

from infra.artifacts import Checkpoint, Dataset
from infra.config import Config
from infra.fingerprint import fingerprint
from infra.output import Output
from infra.rows import read_shard
from infra.step import step
from tasks.records import Domain, Query, Rollout


class PromptPoolConfig(Config):
    """What is removed from and added to the prompts before a stage."""

    retire_solved: bool = Field(description="drop prompts whose last visit in the stage before was all correct")
    add: dict[Domain, int] = Field(default={}, description="domain → verified queries to add, such as chat and IF")
    seed: int = Field(default=0, description="of the choice of added queries")


class RetireReason(StrEnum):
    """Why a prompt does not go on to the next stage."""

    SOLVED = "solved_in_stage_before"


@step(version=1, produces=Dataset)
def compose_prompts(
    prompts: Dataset, queries: Dataset, policy: Checkpoint, config: PromptPoolConfig, out: Output
) -> None:
    """The stage's prompts; `policy` is the checkpoint that the stage starts from, with the rollouts that made it."""
    solved = solved_prompts(out, policy) if config.retire_solved else frozenset()
    present = set()
    for query in out.rows(prompts, Query):
        out.rows_in += 1
        present.add(query.id)
        if query.id in solved:
            out.drop(query, RetireReason.SOLVED, "every sample of its last visit was correct")
        else:
            out.keep(query)
    for domain, count in sorted(config.add.items()):
        candidates = [q for q in out.rows(queries, Query) if q.domain == domain and q.id not in present]
        for query in sorted(candidates, key=lambda q: fingerprint([q.id, config.seed]))[:count]:
            out.rows_in += 1
            out.keep(query)


def solved_prompts(out: Output, policy: Checkpoint) -> frozenset[str]:
    """Prompts whose last group of rollouts was all correct. Empty for a checkpoint without rollouts."""
    solved: set[str] = set()
    for group in _groups(out, policy):
        query_id = group[0].query_id
        (solved.add if all(rollout.reward == 1.0 for rollout in group) else solved.discard)(query_id)
    return frozenset(solved)


def _groups(out: Output, policy: Checkpoint) -> Iterator[list[Rollout]]:
    """Groups of rollouts in the order in which they were trained on."""
    for file in out.store.manifest(policy).files:
        if file.path.startswith("rollouts/"):
            rollouts = sorted(read_shard(out.store.local_file(file), Rollout), key=lambda r: r.group)
            for _, group in groupby(rollouts, key=lambda rollout: rollout.group):
                yield list(group)
