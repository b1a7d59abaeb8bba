"""Which prompts a step and a stage train on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from infra.artifacts import Checkpoint, Dataset, Manifest
from infra.output import Output, Resources
from infra.rows import write_shard
from infra.store import Store
from tasks.grpo.curriculum import batch_indices
from tasks.grpo.prompts import PromptPoolConfig, compose_prompts, solved_prompts
from tasks.records import Domain, Message, Outcome, Query, Rollout


def test_every_prompt_once_an_epoch() -> None:
    seen = [index for step in range(4) for index in batch_indices(12, 3, step, seed=5)]
    assert sorted(seen) == list(range(12))
    assert seen != list(range(12))


def test_epochs_differ_and_repeat_by_seed() -> None:
    first = [batch_indices(12, 12, step, seed=5) for step in range(3)]
    assert first[0] != first[1]
    assert first == [batch_indices(12, 12, step, seed=5) for step in range(3)]
    assert first[0] != batch_indices(12, 12, 0, seed=6)


def test_a_batch_never_holds_a_prompt_twice() -> None:
    for step in range(20):
        assert max(Counter(batch_indices(10, 4, step, seed=0)).values()) == 1


def test_too_few_prompts_is_an_error() -> None:
    with pytest.raises(ValueError, match="lower prompts_per_batch"):
        batch_indices(3, 4, 0, seed=0)


def _query(name: str, domain: Domain = Domain.MATH) -> Query:
    return Query(id=name, domain=domain, source="s", messages=(Message(role="user", content=name),), answer="1")


def _rollout(query_id: str, group: int, index: int, reward: float | None) -> Rollout:
    return Rollout(
        query_id=query_id, group=group, sample_index=index, weights_version="v", prompt_ids=[1], completion_ids=[2],
        logprobs=[-0.1], stop_reason="stop", reward=reward,
        outcome=Outcome.EQUAL if reward == 1.0 else Outcome.DIFFERENT,
        text="",
    )  # fmt: skip


def _output(tmp_path: Path, step: str) -> Output:
    scratch = tmp_path / f"scratch-{step}"
    scratch.mkdir()
    return Output(step, scratch, Store(str(tmp_path / "store"), tmp_path), Resources())


def _publish(out: Output, kind: str) -> Manifest:
    files = tuple(out.finish(is_dataset=kind == "dataset"))
    manifest = Manifest.model_validate(
        {"kind": kind, "name": out.step, "step": out.step, "version": 1, "sampled": False, "fingerprint": out.step * 3,
         "config": {}, "parents": {}, "files": files, "summary": out.summary}
    )  # fmt: skip
    return out.store.publish(manifest)


def _dataset(tmp_path: Path, step: str, queries: list[Query]) -> Dataset:
    out = _output(tmp_path, step)
    for query in queries:
        out.keep(query)
    reference = out.store.reference(_publish(out, "dataset"))
    assert isinstance(reference, Dataset)
    return reference


def _checkpoint(tmp_path: Path, steps: list[list[Rollout]]) -> Checkpoint:
    out = _output(tmp_path, "policy")
    folder = out.scratch / "rollouts"
    folder.mkdir()
    for number, rollouts in enumerate(steps):
        write_shard(folder / f"step_{number:05d}.parquet", Rollout, rollouts)
    out.add_folder(folder, "rollouts")
    reference = out.store.reference(_publish(out, "checkpoint"))
    assert isinstance(reference, Checkpoint)
    return reference


def test_solved_is_decided_by_the_last_visit(tmp_path: Path) -> None:
    first = [_rollout("a", 0, 0, 1.0), _rollout("a", 0, 1, 1.0), _rollout("b", 1, 0, 0.0), _rollout("b", 1, 1, 1.0)]
    last = [_rollout("a", 0, 0, 0.0), _rollout("a", 0, 1, 1.0), _rollout("b", 1, 0, 1.0), _rollout("b", 1, 1, 1.0)]
    policy = _checkpoint(tmp_path, [first, last])
    assert solved_prompts(_output(tmp_path, "x"), policy) == {"b"}


def test_an_unjudged_sample_does_not_make_a_prompt_solved(tmp_path: Path) -> None:
    policy = _checkpoint(tmp_path, [[_rollout("a", 0, 0, 1.0), _rollout("a", 0, 1, None)]])
    assert solved_prompts(_output(tmp_path, "x"), policy) == frozenset()


def test_a_stage_retires_the_solved_and_adds_other_domains(tmp_path: Path) -> None:
    prompts = _dataset(tmp_path, "prompts", [_query("a"), _query("b")])
    chats = [_query(f"chat {n}", Domain.CHAT) for n in range(5)]
    queries = _dataset(tmp_path, "queries", [_query("a"), _query("b"), *chats])
    policy = _checkpoint(tmp_path, [[_rollout("a", 0, 0, 1.0), _rollout("b", 1, 0, 0.0)]])
    out = _output(tmp_path, "compose")
    config = PromptPoolConfig(retire_solved=True, add={Domain.CHAT: 2})
    compose_prompts.inner(prompts=prompts, queries=queries, policy=policy, config=config, out=out)
    out.check_conservation(out.rows_in)
    assert out.funnel == {"s": {"solved_in_stage_before": 1, "kept": 3}}
