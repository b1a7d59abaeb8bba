"""Perplexity of responses under a model, as rows of their own: a threshold is policy, and changing it costs nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import groupby
from typing import NamedTuple, Protocol

from infra.artifacts import Dataset
from infra.config import Config
from infra.fingerprint import fingerprint
from infra.output import Output
from infra.row_cache import RowCache
from infra.runtime import Runtime
from infra.step import step
from tasks.generation.batching import in_batches
from tasks.generation.chat import lay_out
from tasks.generation.pairing import Answered, pair_up
from tasks.records import Query, Response
from tasks.synthesize.config import PerplexityConfig
from tasks.synthesize.quality import complete_parts
from tasks.training.token_models import Scorable, Surprise, Unscored

BATCH_QUERIES = 512
CACHE = "perplexity"


class Perplexity(Config):
    """One response's score. The mean is kept, not its exponential, which may be too large for a number."""

    query_id: str
    sample_index: int
    mean_nll: float | None
    num_tokens: int
    fault: str = ""

    @property
    def perplexity(self) -> float | None:
        """exp of the mean negative log-likelihood a token; infinite where that is too large; None: no score."""
        if self.mean_nll is None:
            return None
        return math.exp(self.mean_nll) if self.mean_nll < 700 else math.inf


class Answers(NamedTuple):
    """A query's responses, and their perplexities by sample index; None where nobody scored them."""

    answered: Answered
    perplexities: Mapping[int, Perplexity] | None


class Scorer(Protocol):
    """Says of every text how surprising each of its tokens is, in order."""

    def score_all(self, texts: Sequence[Scorable]) -> Iterator[Surprise | Unscored]: ...


class Job(NamedTuple):
    """A response that is to be scored, and its key in the row cache."""

    query: Query
    response: Response
    text: Scorable
    key: str


@step(version=1, produces=Dataset, sampled=True)
def score_perplexity(
    queries: Dataset, responses: Dataset, config: PerplexityConfig, out: Output, runtime: Runtime
) -> None:
    """A row for every response that is whole; those that are cut off or lack a part are dropped for that anyway."""
    cache, model = out.cache(CACHE), _Model(config, out, runtime)
    with model, out.progress(queries.rows, "scored") as bar:
        for batch in in_batches(pair_up(out.rows(queries, Query), out.rows(responses, Response)), BATCH_QUERIES):
            jobs = [job for answered in batch for job in jobs_of(answered, config)]
            for job, found in zip(jobs, _score(jobs, model, cache, out), strict=True):
                out.keep(_row(job, found), of=job.query)
            bar.advance(len(batch))


def jobs_of(answered: Answered, config: PerplexityConfig) -> Iterator[Job]:
    """What is to be scored of a query's responses."""
    for response in answered.responses:
        text = scorable(answered.query, response, config)
        if text is not None:
            name = config.digest or config.model
            form = [config.prompt_form, config.max_tokens, config.version]
            yield Job(
                answered.query, response, text, fingerprint([name, *form, text.messages, text.opening, text.text])
            )


def scorable(query: Query, response: Response, config: PerplexityConfig) -> Scorable | None:
    """The part that is scored, as it would be learned, and what stands before it; None where a part is missing."""
    parts = complete_parts(response.text) if response.finish_reason == "stop" else None
    if parts is None:
        return None
    messages = [{"role": turn.role, "content": turn.content} for turn in query.messages]
    whole = lay_out(parts.thinking, parts.answer)
    if config.part == "response":
        return Scorable(messages, "", whole)
    text = parts.thinking if config.part == "thinking" else parts.answer
    start = len("<think>\n") if config.part == "thinking" else whole.rindex(parts.answer)
    return Scorable(messages, whole[:start], text)


def with_scores(pairs: Iterable[Answered], scores: Iterable[Perplexity]) -> Iterator[Answers]:
    """Join queries with the scores of their responses, which lie in the order of the queries.

    Raises:
        ValueError: scores are left over, so they belong to other queries or to another order of these.
    """
    groups = groupby(scores, key=lambda score: score.query_id)
    group = next(groups, None)
    for pair in pairs:
        if group is None or group[0] != pair.query.id:
            yield Answers(pair, {})
            continue
        yield Answers(pair, {score.sample_index: score for score in group[1]})
        group = next(groups, None)
    if group is not None:
        raise ValueError(f"score of query {group[0]}, which is not among the queries; pass those that were scored")


def _score(jobs: Sequence[Job], model: _Model, cache: RowCache, out: Output) -> list[Surprise | Unscored]:
    known = {job.key: Surprise(**value) for job in jobs if (value := cache.get(job.key)) is not None}
    out.spend(cache_hits=sum(job.key in known for job in jobs))
    missing = list({job.key: job for job in jobs if job.key not in known}.values())
    found: dict[str, Surprise | Unscored] = dict(known)
    if missing:
        for job, result in zip(missing, model.scorer.score_all([job.text for job in missing]), strict=True):
            found[job.key] = result
            if isinstance(result, Surprise):  # a failure is never kept
                cache.put(job.key, result._asdict())
                out.spend(prompt_tokens=result.num_tokens)
    return [found[job.key] for job in jobs]


def _row(job: Job, found: Surprise | Unscored) -> Perplexity:
    place = {"query_id": job.response.query_id, "sample_index": job.response.sample_index}
    if isinstance(found, Unscored):
        return Perplexity.model_validate(place | {"mean_nll": None, "num_tokens": 0, "fault": found.why})
    mean = round(found.nll / found.num_tokens, 4)  # an engine's rounding lies below
    return Perplexity.model_validate(place | {"mean_nll": mean, "num_tokens": found.num_tokens})


class _Model:
    """The scorer, loaded or connected at its first text: a full cache needs neither."""

    def __init__(self, config: PerplexityConfig, out: Output, runtime: Runtime) -> None:
        self._config, self._out, self._runtime = config, out, runtime
        self._stack = ExitStack()
        self._scorer: Scorer | None = None

    def __enter__(self) -> _Model:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def scorer(self) -> Scorer:
        if self._scorer is None:
            self._scorer = self._stack.enter_context(open_scorer(self._config, self._runtime))
        return self._scorer


def open_scorer(config: PerplexityConfig, runtime: Runtime) -> AbstractContextManager[Scorer]:
    """The scorer of a config.

    Raises:
        ConfigError: the profile names no endpoint for the role, or the local model is not the one of `digest`.
    """
    return _open_endpoint(config, runtime) if config.backend == "endpoint" else _open_local(config, runtime)


@contextmanager
def _open_endpoint(config: PerplexityConfig, runtime: Runtime) -> Iterator[Scorer]:
    from infra.llm_http import Address
    from tasks.training.token_models import TokenScoring
    from tasks.training.vllm_scoring import VllmTokenModel

    address = Address(config.role, config.model, runtime.endpoint(config.role))
    with VllmTokenModel(address) as model:
        yield TokenScoring(model, config.prompt_form, config.max_tokens, address.endpoint.max_concurrency)


@contextmanager
def _open_local(config: PerplexityConfig, runtime: Runtime) -> Iterator[Scorer]:
    from tasks.training.local_scoring import LocalTokenModel
    from tasks.training.token_models import TokenScoring

    model = LocalTokenModel(config.model, config.digest, runtime.training.device)
    yield TokenScoring(model, config.prompt_form, config.max_tokens)
