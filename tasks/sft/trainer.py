"""The SFT trainer: `python -m tasks.sft.trainer SPEC.json`, on every rank.

Killed at any moment it goes on from its last resume point, bit for bit: the plan is a function of samples and config.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer

from infra.output import write_json
from infra.rows import read_shard
from tasks.sft.plan import Plan, Update, plan_training
from tasks.sft.spec import FINAL_FOLDER, PLAN_FILE, PlanSummary, SftSpec
from tasks.training.engine import Engine
from tasks.training.progress_file import Line, append_progress
from tasks.training.ranks import passes_of_rank
from tasks.training.resume_points import ResumePoints
from tasks.training.samples import Sample, TokenSequence, tokenize_samples


def train(spec: SftSpec) -> None:
    """Fine-tune from the newest resume point, or from the base, to the end."""
    folder = Path(spec.folder)
    if (folder / FINAL_FOLDER).exists():
        return
    sequences = load_sequences(spec)
    plan = plan_training([sequence.num_tokens for sequence in sequences], spec.config)
    engine = Engine(Path(spec.base), spec.config, spec.runtime)
    if engine.rank == 0:
        write_json(folder / PLAN_FILE, summarize_plan(plan, sequences).model_dump())
    points = ResumePoints.of(folder, spec.runtime)
    newest = points.newest()
    if newest is not None:
        engine.load_resume_point(newest)
    for step in range(newest.step if newest else 0, len(plan.updates)):
        line = apply_update(engine, sequences, plan.updates[step], spec.runtime.micro_batch_tokens)
        if engine.rank == 0:
            append_progress(folder, step + 1, **line)
        if (step + 1) % spec.config.save_every_steps == 0:
            engine.save_resume_point(points, step + 1, {})
    engine.save_hf(folder / FINAL_FOLDER)


def apply_update(engine: Engine, sequences: Sequence[TokenSequence], update: Update, max_tokens: int) -> Line:
    """One optimizer step on the mean negative log-likelihood of the update's completion tokens; its progress line."""
    started = time.monotonic()
    num_learned = sum(len(sequences[index].completion_ids) for index in update.samples)
    loss_sum = 0.0
    for indices, batch in passes_of_rank(sequences, update.samples, max_tokens, engine.rank, engine.num_ranks):
        loss = -engine.score(batch).logprobs_N.sum() / num_learned
        loss = loss if indices else 0.0 * loss
        engine.backward(loss)
        loss_sum += loss.item()
    grad_norm = engine.step(update.lr)
    seconds = time.monotonic() - started
    return {
        "loss": engine.sum_over_ranks([loss_sum])[0],
        "lr": update.lr,
        "grad_norm": grad_norm,
        "mean_response_length": num_learned / len(update.samples),
        "tokens_per_s": sum(sequences[index].num_tokens for index in update.samples) / seconds,
    }


def load_sequences(spec: SftSpec) -> list[TokenSequence]:
    """All samples as tokens, in the order of the shards."""
    tokenizer = AutoTokenizer.from_pretrained(spec.base)
    samples = (sample for shard in spec.shards for sample in read_shard(Path(shard), Sample))
    return tokenize_samples(samples, tokenizer)


def summarize_plan(plan: Plan, sequences: Sequence[TokenSequence]) -> PlanSummary:
    """The plan in four numbers."""
    return PlanSummary(
        num_updates=len(plan.updates),
        num_samples=len(sequences),
        num_overlong=len(plan.overlong),
        num_tokens=sum(sequence.num_tokens for sequence in sequences),
    )


if __name__ == "__main__":
    train(SftSpec.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8")))
