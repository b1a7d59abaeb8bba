"""Pass rate by the policy: what it always or never solves teaches RL nothing (recipes.md § 6)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from infra.artifacts import Checkpoint, Dataset
from infra.config import Config
from infra.fingerprint import fingerprint
from infra.output import Output
from infra.runtime import Runtime
from infra.step import step
from tasks.generation.engine import Prompt, SamplingParams
from tasks.generation.journal import sample_resumably
from tasks.generation.policy import PolicyConfig, PromptEncoder
from tasks.generation.serving import serve
from tasks.pass_rate.config import PassRateConfig
from tasks.records import Query
from tasks.rewards.opening import open_rewarder
from tasks.rewards.rewarder import RewardConfig


class PassRate(Config):
    """Everything that decides a pass rate."""

    measure: PassRateConfig = Field(description="which queries, how many samples")
    policy: PolicyConfig = Field(description="prompt and serving")
    rewards: RewardConfig = Field(description="how responses are judged")


class DropReason(StrEnum):
    """Why a query does not go on to RL."""

    DOMAIN_NOT_MEASURED = "domain_not_measured"
    NOT_SELECTED = "not_selected"
    TOO_LONG = "prompt_too_long"
    NEVER_SOLVED = "never_solved"
    ALWAYS_SOLVED = "always_solved"
    NOT_JUDGED = "not_judged"


class Difficulty(Config):
    """Row of the side table `difficulty`."""

    query_id: str
    num_correct: int
    num_judged: int = Field(description="samples whose grading did not fail")
    mean_tokens: float = Field(description="mean length of the responses")

    @property
    def pass_rate(self) -> float:
        """Share of judged samples that are correct."""
        return self.num_correct / self.num_judged if self.num_judged else 0.0


@step(version=1, produces=Dataset, conserves="queries", sampled=True)
def measure_pass_rate(policy: Checkpoint, queries: Dataset, config: PassRate, out: Output, runtime: Runtime) -> None:
    """Sample each query N times and keep those solved sometimes but not always."""
    folder = out.store.checkout(policy)
    encoder = PromptEncoder(folder, config.policy)
    chosen, prompts = _choose(list(out.rows(queries, Query)), config, encoder, out)
    servers = serve(out, runtime, config.policy, folder, policy.digest)
    params = SamplingParams(n=config.measure.num_samples, logprobs=False, **config.measure.sampling.model_dump())
    samples = sample_resumably(out, servers, prompts, params, "samples")
    indices = range(params.n)
    rewarder = open_rewarder(out, runtime, config.rewards)
    verdicts = rewarder.score([(query, samples[query.id, i].text) for query in chosen for i in indices])
    for number, query in enumerate(chosen):
        judged = [v.outcome for v in verdicts[number * params.n : (number + 1) * params.n] if not v.outcome.is_fault]
        lengths = [len(samples[query.id, i].completion_ids) for i in indices]
        difficulty = Difficulty(
            query_id=query.id,
            num_correct=sum(outcome.is_right for outcome in judged),
            num_judged=len(judged),
            mean_tokens=sum(lengths) / len(lengths),
        )
        out.attach("difficulty", difficulty)
        reason = judge(difficulty, config.measure.keep)
        if reason is None:
            out.keep(query)
        else:
            out.drop(query, reason, f"{difficulty.num_correct} of {difficulty.num_judged} correct")


def judge(difficulty: Difficulty, keep: Literal["inside", "all"] = "inside") -> DropReason | None:
    """None for a query that goes on to RL: by default one whose pass rate is strictly inside (0, 1)."""
    if difficulty.num_judged == 0:
        return DropReason.NOT_JUDGED
    if keep == "all":
        return None
    if difficulty.num_correct == 0:
        return DropReason.NEVER_SOLVED
    return DropReason.ALWAYS_SOLVED if difficulty.num_correct == difficulty.num_judged else None


def _choose(
    queries: list[Query], config: PassRate, encoder: PromptEncoder, out: Output
) -> tuple[list[Query], list[Prompt]]:
    """The queries to measure, with their prompts; the others are dropped with their reason."""
    chosen: list[Query] = []
    prompts: list[Prompt] = []
    limit = config.measure.max_prompts or len(queries)
    room = config.policy.max_model_len - config.measure.sampling.max_tokens
    for query in sorted(queries, key=lambda query: fingerprint([query.id, config.measure.sampling.seed])):
        if query.domain not in config.measure.domains:
            out.drop(query, DropReason.DOMAIN_NOT_MEASURED, query.domain.value)
        elif len(chosen) == limit:
            out.drop(query, DropReason.NOT_SELECTED, f"{limit} prompts are measured")
        elif len(ids := encoder.encode(query)) > room:
            out.drop(query, DropReason.TOO_LONG, f"{len(ids)} tokens, room for {room}")
        else:
            chosen.append(query)
            prompts.append(Prompt(query.id, ids))
    return chosen, prompts
