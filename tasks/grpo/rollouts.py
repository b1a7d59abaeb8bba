"""One step's rollouts: sampled by the served policy, judged, in groups; kept sample by sample while they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tasks.generation.engine import Completion, Prompt, SamplingParams
from tasks.generation.journal import Journal
from tasks.generation.policy import PromptEncoder
from tasks.generation.serving import PolicyServers
from tasks.grpo.config import GrpoConfig
from tasks.grpo.curriculum import batch_indices
from tasks.records import Query, Rollout, Verdict
from tasks.rewards.rewarder import Rewarder

# Tells the engine's seeds of one step from those of the next; far above any number of samples.
SEED_STRIDE = 1_000_003


class RolloutSource(NamedTuple):
    """Where rollouts come from."""

    servers: PolicyServers
    rewarder: Rewarder
    encoder: PromptEncoder
    queries: Sequence[Query]
    config: GrpoConfig


def sample_batch(source: RolloutSource, step: int, weights_version: str, journal_path: Path) -> list[Rollout]:
    """The batch of a step, by group and sample index. Samples in the journal of a cut-off try are used again."""
    config = source.config
    chosen = [
        source.queries[i] for i in batch_indices(len(source.queries), config.prompts_per_batch, step, config.seed)
    ]
    prompts = [Prompt(query.id, source.encoder.encode(query)) for query in chosen]
    params = SamplingParams(
        n=config.group_size,
        temperature=config.temperature,
        max_tokens=config.max_response_tokens,
        seed=config.seed + SEED_STRIDE * (step + 1),
    )
    journal = Journal(journal_path)
    try:
        missing = journal.missing(prompts, params.n)
        if missing:
            source.servers.sample_all(missing, params, journal.add)
    finally:
        journal.close()
    rows = [(group, index) for group in range(len(chosen)) for index in range(params.n)]
    drawn = [journal.samples[chosen[group].id, index] for group, index in rows]
    verdicts = source.rewarder.score([(chosen[g], c.text) for (g, _), c in zip(rows, drawn, strict=True)])
    return [
        make_rollout(chosen[group], group, index, weights_version, completion, verdict)
        for (group, index), completion, verdict in zip(rows, drawn, verdicts, strict=True)
    ]


def make_rollout(
    query: Query, group: int, sample_index: int, weights_version: str, completion: Completion, verdict: Verdict
) -> Rollout:
    """A judged sample as it is stored; a verdict that failed leaves no reward."""
    return Rollout(
        query_id=query.id,
        group=group,
        sample_index=sample_index,
        weights_version=weights_version,
        prompt_ids=list(completion.prompt_ids),
        completion_ids=list(completion.completion_ids),
        logprobs=list(completion.logprobs),
        stop_reason=completion.finish_reason,
        outcome=verdict.outcome,
        reward=verdict.score,
        text=completion.text,
    )
