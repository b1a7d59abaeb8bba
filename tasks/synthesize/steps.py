"""The steps of synthesis: ask the teacher, then keep what is right, well formed and not too surprising."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from infra.artifacts import Dataset
from infra.config import Config
from infra.output import Output
from infra.runtime import Runtime
from infra.step import step
from tasks.generation.batching import in_batches
from tasks.generation.chat import lay_out
from tasks.generation.pairing import Answered, pair_up
from tasks.generation.teacher import Ask, teacher_responses
from tasks.records import Domain, Message, Query, Response, Verdict
from tasks.rewards.opening import open_rewarder
from tasks.rewards.rewarder import Rewarder
from tasks.synthesize.config import ResponsesConfig, SampleSelection, SelectionConfig
from tasks.synthesize.mixture import Share, mixture_table
from tasks.synthesize.perplexity import Answers, Perplexity, with_scores
from tasks.synthesize.quality import complete_parts
from tasks.synthesize.selection import (
    UNANSWERED,
    Choice,
    SynthesizeReason,
    choose,
    fault_of_form,
    fault_of_perplexity,
    fault_of_score,
    fit_mixture,
    verify_score,
)
from tasks.training.samples import Sample
from tasks.training.token_counts import token_counter

BATCH_QUERIES = 512


class ScoredSample(Sample):
    """A sample, with the score of all responses to its query beside it."""

    verify_score: float | None = Field(
        default=None, description="pass rate of the query's responses; of chat the mean reward; None: not judged"
    )


class QueryScore(Config):
    """Row of the side table `scores`: how a query's responses fared, whether or not it is kept."""

    query_id: str
    source: str
    domain: Domain
    verify_score: float | None
    num_responses: int
    num_judged: int
    num_kept: int


@step(version=2, produces=Dataset, sampled=True)
def synthesize_responses(queries: Dataset, config: ResponsesConfig, out: Output, runtime: Runtime) -> None:
    """Ask the teacher `num_samples` times a query, and `hard_num_samples` times where it is hard."""
    for batch in in_batches(out.rows(queries, Query), BATCH_QUERIES):
        asks = [Ask(query, num_samples(query, config)) for query in batch]
        for ask, responses in zip(asks, teacher_responses(asks, config.teacher, out, runtime), strict=True):
            for response in responses:
                out.keep(response, of=ask.query)


@step(version=2, produces=Dataset, conserves="queries", sampled=True)
def select_samples(
    queries: Dataset,
    responses: Dataset,
    config: SampleSelection,
    out: Output,
    runtime: Runtime,
    perplexities: Dataset | None = None,
) -> None:
    """Judge responses by form, then by perplexity where it was scored, then by reward; write what passes as samples.

    A query without any sample is dropped. Responses are read twice, so that a mixture target needs no text in memory.
    """
    rewarder = open_rewarder(out, runtime, config.rewards)
    choices: list[Choice] = []
    with out.progress(queries.rows, "judged") as bar:
        for batch in in_batches(_with_perplexities(queries, responses, perplexities, out), BATCH_QUERIES):
            choices += judge(batch, rewarder, config.selection)
            bar.advance(len(batch))
    shares: dict[str, Share] = {}
    count_tokens = token_counter(config.tokenizer) if config.tokenizer else None
    fitted = fit_mixture(choices, config.selection.mixture)
    for answered, choice in zip(_read(queries, responses, out), fitted, strict=True):
        out.attach("scores", query_score(answered, choice))
        if choice.reason is not None:
            out.drop(answered.query, choice.reason, choice.evidence)
            continue
        for sample in samples_of(answered, choice, config):
            out.keep(sample, of=answered.query)
            shares.setdefault(sample.domain.value, Share()).add(sample, count_tokens)
    out.note(mixture_table(shares, config.selection.mixture, config.tokenizer))


def num_samples(query: Query, config: ResponsesConfig) -> int:
    """Responses to ask for; a query is hard when few of the teacher's earlier answers had its label."""
    agreement = query.meta.get("teacher_agreement")
    is_hard = agreement is not None and agreement < config.hard_below
    return max(config.num_samples, config.hard_num_samples) if is_hard else config.num_samples


def judge(batch: Sequence[Answers], rewarder: Rewarder, config: SelectionConfig) -> list[Choice]:
    """Choose among the responses of each query. Only whole ones of domains that are judged are scored.

    Those that are repetitive or too surprising are scored too: they are no samples, but `verify_score` is about what
    the teacher can do.
    """
    faults = [[_fault_before_reward(answers, r, config) for r in answers.answered.responses] for answers in batch]
    judged = [i for i, answers in enumerate(batch) if config.mixture.of(answers.answered.query.domain).is_judged]
    whole = [(i, j) for i in judged for j, fault in enumerate(faults[i]) if fault not in UNANSWERED]
    scored = rewarder.score([(batch[i].answered.query, batch[i].answered.responses[j].text) for i, j in whole])
    verdicts: list[list[Verdict | None]] = [[None] * len(of_query) for of_query in faults]
    for (i, j), verdict in zip(whole, scored, strict=True):
        verdicts[i][j] = verdict
    return [_choose(batch[i].answered, faults[i], verdicts[i], config) for i in range(len(batch))]


def _fault_before_reward(answers: Answers, response: Response, config: SelectionConfig) -> SynthesizeReason | None:
    fault = fault_of_form(response, config.repetition)
    if fault is not None or answers.perplexities is None:
        return fault
    return fault_of_perplexity(answers.perplexities.get(response.sample_index), config.max_perplexity)


def _choose(
    answered: Answered,
    faults: Sequence[SynthesizeReason | None],
    verdicts: Sequence[Verdict | None],
    config: SelectionConfig,
) -> Choice:
    query, policy = answered.query, config.mixture.of(answered.query.domain)
    found = [
        fault_of_score(verdict, query.domain, policy) if fault is None and verdict is not None else fault
        for fault, verdict in zip(faults, verdicts, strict=True)
    ]
    choice = choose(query.id, query.domain, answered.responses, found, config.max_responses)
    score = verify_score(query.domain, faults, verdicts) if policy.is_judged else None
    return choice._replace(verify_score=score, num_judged=sum(verdict is not None for verdict in verdicts))


def query_score(answered: Answered, choice: Choice) -> QueryScore:
    """The row of a query in the side table `scores`."""
    query = answered.query
    return QueryScore(
        query_id=query.id,
        source=query.source,
        domain=query.domain,
        verify_score=choice.verify_score,
        num_responses=len(answered.responses),
        num_judged=choice.num_judged,
        num_kept=len(choice.kept),
    )


def samples_of(answered: Answered, choice: Choice, config: SampleSelection) -> Iterator[ScoredSample]:
    """The kept responses as dialogs in the one layout, each as often as its domain is up-sampled."""
    query = answered.query
    system = (Message(role="system", content=config.system_prompt),) if config.system_prompt else ()
    kept = [response for response in answered.responses if response.sample_index in choice.kept]
    texts = {response.sample_index: _laid_out(response) for response in kept}
    for repeat in range(config.selection.mixture.of(query.domain).repeats):
        for index in choice.kept:
            yield ScoredSample(
                id=f"{query.id}/{index}" + (f"/{repeat}" if repeat else ""),
                query_id=query.id,
                source=query.source,
                domain=query.domain,
                messages=(*system, *query.messages, Message(role="assistant", content=texts[index])),
                verify_score=choice.verify_score,
            )


def _laid_out(response: Response) -> str:
    parts = complete_parts(response.text)
    assert parts is not None, f"response {response.sample_index} of {response.query_id} was kept without its parts"
    return lay_out(parts.thinking, parts.answer)


def _read(queries: Dataset, responses: Dataset, out: Output) -> Iterator[Answered]:
    return pair_up(out.rows(queries, Query), out.rows(responses, Response))


def _with_perplexities(
    queries: Dataset, responses: Dataset, perplexities: Dataset | None, out: Output
) -> Iterator[Answers]:
    pairs = _read(queries, responses, out)
    if perplexities is None:
        return (Answers(answered, None) for answered in pairs)
    return with_scores(pairs, out.rows(perplexities, Perplexity))
