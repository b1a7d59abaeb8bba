"""The steps of synthesis: ask the teacher, then keep what is right and well formed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from infra.artifacts import Dataset
from infra.output import Output
from infra.runtime import Runtime
from infra.step import step
from tasks.generation.chat import lay_out
from tasks.generation.pairing import Answered, pair_up
from tasks.generation.teacher import Ask, teacher_responses
from tasks.records import Message, Query, Response
from tasks.rewards.opening import open_rewarder
from tasks.rewards.rewarder import Rewarder
from tasks.synthesize.config import ResponsesConfig, SampleSelection, SelectionConfig
from tasks.synthesize.mixture import Share, mixture_table
from tasks.synthesize.quality import complete_parts
from tasks.synthesize.selection import Choice, choose, fault_of_form, fault_of_score, fit_mixture
from tasks.training.samples import Sample

BATCH_QUERIES = 512


@step(version=1, produces=Dataset, sampled=True)
def synthesize_responses(queries: Dataset, config: ResponsesConfig, out: Output, runtime: Runtime) -> None:
    """Ask the teacher `num_samples` times a query, and `hard_num_samples` times where it is hard."""
    asks = [Ask(query, num_samples(query, config)) for query in out.rows(queries, Query)]
    for ask, responses in zip(asks, teacher_responses(asks, config.teacher, out, runtime), strict=True):
        for response in responses:
            out.keep(response, of=ask.query)


@step(version=1, produces=Dataset, conserves="queries", sampled=True)
def select_samples(
    queries: Dataset, responses: Dataset, config: SampleSelection, out: Output, runtime: Runtime
) -> None:
    """Judge responses by form, then by reward, and write those that pass as samples; a query without any is dropped.

    Responses are read twice, so that a mixture target needs no text in memory.
    """
    rewarder = open_rewarder(out, runtime, config.rewards)
    choices: list[Choice] = []
    with out.progress(queries.rows, "judged") as bar:
        for batch in _batches(_read(queries, responses, out)):
            choices += judge(batch, rewarder, config.selection)
            bar.advance(len(batch))
    shares: dict[str, Share] = {}
    for answered, choice in zip(
        _read(queries, responses, out), fit_mixture(choices, config.selection.mixture), strict=True
    ):
        if choice.reason is not None:
            out.drop(answered.query, choice.reason, choice.evidence)
            continue
        for sample in samples_of(answered, choice, config):
            out.keep(sample, of=answered.query)
            shares.setdefault(sample.domain.value, Share()).add(sample)
    out.note(mixture_table(shares))


def num_samples(query: Query, config: ResponsesConfig) -> int:
    """Responses to ask for; a query is hard when few of the teacher's earlier answers had its label."""
    agreement = query.meta.get("teacher_agreement")
    is_hard = agreement is not None and agreement < config.hard_below
    return max(config.num_samples, config.hard_num_samples) if is_hard else config.num_samples


def judge(batch: Sequence[Answered], rewarder: Rewarder, config: SelectionConfig) -> list[Choice]:
    """Choose among the responses of each query. Only well-formed ones of domains that are judged are scored."""
    faults = [[fault_of_form(r, config.repetition) for r in answered.responses] for answered in batch]
    judged = [i for i, answered in enumerate(batch) if config.mixture.of(answered.query.domain).is_judged]
    formed = [(i, j) for i in judged for j, fault in enumerate(faults[i]) if fault is None]
    verdicts = rewarder.score([(batch[i].query, batch[i].responses[j].text) for i, j in formed])
    for (i, j), verdict in zip(formed, verdicts, strict=True):
        domain = batch[i].query.domain
        faults[i][j] = fault_of_score(verdict, domain, config.mixture.of(domain))
    return [
        choose(answered.query.id, answered.query.domain, answered.responses, of_query, config.max_responses)
        for answered, of_query in zip(batch, faults, strict=True)
    ]


def samples_of(answered: Answered, choice: Choice, config: SampleSelection) -> Iterator[Sample]:
    """The kept responses as dialogs in the one layout, each as often as its domain is up-sampled."""
    query = answered.query
    system = (Message(role="system", content=config.system_prompt),) if config.system_prompt else ()
    kept = [response for response in answered.responses if response.sample_index in choice.kept]
    texts = {response.sample_index: _laid_out(response) for response in kept}
    for repeat in range(config.selection.mixture.of(query.domain).repeats):
        for index in choice.kept:
            yield Sample(
                id=f"{query.id}/{index}" + (f"/{repeat}" if repeat else ""),
                query_id=query.id,
                source=query.source,
                domain=query.domain,
                messages=(*system, *query.messages, Message(role="assistant", content=texts[index])),
            )


def _laid_out(response: Response) -> str:
    parts = complete_parts(response.text)
    assert parts is not None, f"response {response.sample_index} of {response.query_id} was kept without its parts"
    return lay_out(parts.thinking, parts.answer)


def _read(queries: Dataset, responses: Dataset, out: Output) -> Iterator[Answered]:
    return pair_up(out.rows(queries, Query), out.rows(responses, Response))


def _batches(rows: Iterator[Answered]) -> Iterator[list[Answered]]:
    while batch := list(islice(rows, BATCH_QUERIES)):
        yield batch
