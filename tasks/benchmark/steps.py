"""Evaluate a checkpoint: k samples a problem by the served policy, judged as in training, averaged with an interval."""

from __future__ import annotations

from pydantic import Field

from infra.artifacts import Checkpoint, Dataset, Report
from infra.config import Config, ConfigError
from infra.output import Output
from infra.runtime import Runtime
from infra.step import step
from tasks.benchmark.config import BenchmarkRunConfig
from tasks.benchmark.scores import ProblemScore, average_at_k
from tasks.generation.engine import Completion, Prompt, SamplingParams
from tasks.generation.journal import sample_resumably
from tasks.generation.policy import PolicyConfig, PromptEncoder
from tasks.generation.serving import serve
from tasks.records import Query, Verdict
from tasks.rewards.opening import open_rewarder
from tasks.rewards.rewarder import RewardConfig


class Evaluation(Config):
    """Everything that decides a score."""

    run: BenchmarkRunConfig = Field(description="samples a problem and how they are drawn")
    policy: PolicyConfig = Field(description="prompt and serving")
    rewards: RewardConfig = Field(description="how responses are judged")


class Generation(Config):
    """Row of the side table `generations`."""

    benchmark: str
    query_id: str
    sample_index: int
    text: str
    num_tokens: int
    finish_reason: str
    outcome: str
    score: float | None
    extracted: str | None


@step(version=1, produces=Report, sampled=True)
def evaluate(
    checkpoint: Checkpoint, benchmarks: tuple[Dataset, ...], config: Evaluation, out: Output, runtime: Runtime
) -> None:
    """avg@k on every benchmark; generations and per-problem means are kept with the report."""
    folder = out.store.checkout(checkpoint)
    encoder = PromptEncoder(folder, config.policy)
    servers = serve(out, runtime, config.policy, folder, checkpoint.digest)
    params = SamplingParams(n=config.run.num_samples, logprobs=False, **config.run.sampling.model_dump())
    rewarder = open_rewarder(out, runtime, config.rewards)
    scores = {}
    for benchmark in benchmarks:
        queries = list(out.rows(benchmark, Query))
        prompts = [Prompt(query.id, _fitting(encoder, query, config)) for query in queries]
        samples = sample_resumably(out, servers, prompts, params, benchmark.name)
        verdicts = rewarder.score([(q, samples[q.id, i].text) for q in queries for i in range(params.n)])
        means = []
        for number, query in enumerate(queries):
            drawn = [samples[query.id, i] for i in range(params.n)]
            judged = verdicts[number * params.n : (number + 1) * params.n]
            means.append(_write_problem(benchmark.name, query, drawn, judged, out))
        scores[benchmark.name] = average_at_k(means, params.n)
        lengths = [len(completion.completion_ids) for completion in samples.values()]
        out.note(f"{benchmark.name}: mean response {sum(lengths) / len(lengths):.1f} tokens")
    out.summarize(scores=scores)


def _fitting(encoder: PromptEncoder, query: Query, config: Evaluation) -> list[int]:
    ids = encoder.encode(query)
    room = config.policy.max_model_len - config.run.sampling.max_tokens
    if len(ids) > room:
        raise ConfigError(
            f"benchmark problem {query.id} ({query.source}) has {len(ids)} tokens, but policy.max_model_len leaves "
            f"room for {room}; raise policy.max_model_len or lower benchmark.sampling.max_tokens"
        )
    return ids


def _write_problem(benchmark: str, query: Query, drawn: list[Completion], judged: list[Verdict], out: Output) -> float:
    """Write a problem's generations and its mean; a sample that could not be judged is left out of the mean."""
    for index, (completion, verdict) in enumerate(zip(drawn, judged, strict=True)):
        out.attach(
            "generations",
            Generation(
                benchmark=benchmark,
                query_id=query.id,
                sample_index=index,
                text=completion.text,
                num_tokens=len(completion.completion_ids),
                finish_reason=completion.finish_reason,
                outcome=verdict.outcome.value,
                score=verdict.score,
                extracted=verdict.extracted,
            ),
        )
    scores = [verdict.score for verdict in judged if verdict.score is not None]
    if not scores:
        raise RuntimeError(f"{benchmark}: no sample of problem {query.id} could be judged: {judged[0].detail}; mend it")
    mean = sum(scores) / len(scores)
    row = ProblemScore(
        benchmark=benchmark, query_id=query.id, mean=mean, k=len(drawn), num_unjudged=len(drawn) - len(scores)
    )
    out.attach("problems", row)
    return mean
