"""The steps of verification: collect teacher answers, then check every label against them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from infra.artifacts import Dataset
from infra.chat import ChatRequest, Sampling
from infra.config import Config
from infra.output import Output
from infra.runtime import Runtime
from infra.step import step
from tasks.generation.batching import in_batches
from tasks.generation.chat import PROMPT_VERSION, ask_messages
from tasks.generation.pairing import pair_up
from tasks.generation.roles import ask_in_order, open_role
from tasks.generation.teacher import Ask, teacher_responses
from tasks.records import Domain, Query, Response
from tasks.verify.answers import answer_of, open_comparisons
from tasks.verify.config import AnswersConfig, LabelCheck, LabelsConfig
from tasks.verify.labels import Found, Ruling
from tasks.verify.references import check_references
from tasks.verify.ruling import LABELLED, case_of, rule_on_labels

# Teacher responses of so many queries wait in memory for their turn; each may be 100 kB of thinking.
BATCH_QUERIES = 2048


class Correction(Config):
    """Row of the side table `corrections`: a label that teacher and arbiter together changed."""

    query_id: str
    source: str
    old: str
    new: str
    evidence: str


@step(version=2, produces=Dataset, sampled=True)
def collect_answers(queries: Dataset, config: AnswersConfig, out: Output, runtime: Runtime) -> None:
    """Teacher responses to every query with a label."""
    labelled = (query for query in out.rows(queries, Query) if query.domain in LABELLED and query.answer is not None)
    for batch in in_batches(labelled, BATCH_QUERIES):
        asks = [Ask(query, config.num_samples) for query in batch]
        for ask, responses in zip(asks, teacher_responses(asks, config.teacher, out, runtime), strict=True):
            for response in responses:
                out.keep(response, of=ask.query)


@step(version=2, produces=Dataset, conserves="queries", sampled=True)
def verify_labels(queries: Dataset, responses: Dataset, config: LabelCheck, out: Output, runtime: Runtime) -> None:
    """Keep labels that the teacher's majority or the arbiter confirms, correct those that both contradict.

    Math and science go by their labels, code by its reference solution; other queries pass. A corrected label is told
    in the query's meta (`label_corrected`) and in the side table `corrections`; `teacher_agreement` in the meta is the
    share of the teacher's answers that equal the label kept.

    What is held in memory is one batch of queries; no ruling rests on a query of another.
    """
    comparisons = open_comparisons(config.rewards.math, out, runtime)
    arbiter = partial(ask_arbiter, config=config.labels, out=out, runtime=runtime)
    findings: Counter[str] = Counter()
    for batch in in_batches(pair_up(out.rows(queries, Query), out.rows(responses, Response)), BATCH_QUERIES):
        cases = [case_of(pair.query, pair.responses) for pair in batch]
        rulings = rule_on_labels(cases, config.labels.unverified, comparisons, arbiter)
        code = [case.query for case in cases if case.query.domain is Domain.CODE]
        rulings |= check_references(code, config.rewards, out, runtime)
        for case in cases:
            settle(case.query, rulings.get(case.query.id), out)
        findings.update(ruling.found or ruling.reason or "" for ruling in rulings.values())
        comparisons.forget()
    out.note(findings_table(findings))


def ask_arbiter(queries: Sequence[Query], config: LabelsConfig, out: Output, runtime: Runtime) -> dict[str, str | None]:
    """Query id → the arbiter's answer; empty where the recipe names no arbiter."""
    if config.arbiter is None:
        return {}
    sampling = Sampling(max_tokens=config.arbiter.max_tokens)
    requests = [
        ChatRequest(key=query.id, messages=ask_messages(query), sampling=sampling, prompt_version=PROMPT_VERSION)
        for query in queries
    ]
    client = open_role(out, runtime, "arbiter", config.arbiter.model)
    answers = ask_in_order(out, client, requests)
    return {query.id: answer_of(query, said[0].reply.text) for query, said in zip(queries, answers, strict=True)}


def settle(query: Query, ruling: Ruling | None, out: Output) -> None:
    """Write a query as its ruling says; without one it passes."""
    if ruling is None:
        out.keep(query)
        return
    if ruling.reason is not None:
        out.drop(query, ruling.reason, ruling.evidence)
        return
    meta = dict(query.meta)
    if ruling.agreement is not None:
        meta["teacher_agreement"] = ruling.agreement
    if ruling.found is not Found.CORRECTED:
        out.keep(query.model_copy(update={"meta": meta}))
        return
    old = query.answer or ""
    correction = Correction(query_id=query.id, source=query.source, old=old, new=ruling.label, evidence=ruling.evidence)
    out.attach("corrections", correction)
    meta["label_corrected"] = {"old": old, "new": ruling.label}
    # The source's own solution leads to the label that was wrong, and its other labels are as wrong.
    update = {"answer": ruling.label, "alternatives": (), "solution": None, "meta": meta}
    out.keep(query.model_copy(update=update))


def findings_table(findings: Mapping[str, int]) -> str:
    """Markdown table of what was found, most frequent first."""
    told = {name.replace("_", " "): count for name, count in findings.items()}
    lines = [f"| {name} | {count:,} |" for name, count in sorted(told.items(), key=lambda item: (-item[1], item[0]))]
    return "\n".join(
        ["**What was found about labels and references**", "", "| finding | queries |", "|---|---:|", *lines]
    )
