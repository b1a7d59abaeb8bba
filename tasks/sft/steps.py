"""The steps of supervised fine-tuning: a model to start from, and the training."""

from __future__ import annotations

import time

from infra.artifacts import Checkpoint, Dataset
from infra.output import Output
from infra.runtime import Runtime
from infra.step import step
from tasks.sft.config import SftConfig
from tasks.sft.spec import FINAL_FOLDER, PLAN_FILE, TRAINER, PlanSummary, SftSpec
from tasks.training.launch import TrainerProcess, start_trainer
from tasks.training.model import ModelConfig, initialize, tokenizer_digest
from tasks.training.samples import Sample, corpus_texts

_LOOK_EVERY_S = 0.2
_CURVES = ("loss", "lr", "grad_norm", "mean_response_length", "tokens_per_s")


@step(version=1, produces=Checkpoint)
def init_model(samples: Dataset, config: ModelConfig, out: Output) -> None:
    """The model that training starts from: a published one, or a small one with a tokenizer trained on the samples."""
    folder = out.scratch / "model"
    initialize(config, corpus_texts(out.rows(samples, Sample)), folder)
    out.add_folder(folder, "model")
    out.summarize(base_model=config.name, train_step=0, tokenizer_digest=tokenizer_digest(folder))


# Declared as sampled: weights repeat bit for bit on one machine, but another processor or micro-batch rounds otherwise.
@step(version=1, produces=Checkpoint, sampled=True)
def train_sft(base: Checkpoint, samples: Dataset, config: SftConfig, out: Output, runtime: Runtime) -> None:
    """Fine-tune `base` on the final responses of the samples. A new run goes on from the last resume point."""
    shards = [file for file in out.store.manifest(samples).files if file.path.startswith("kept-")]
    spec = SftSpec(
        base=str(out.store.checkout(base)),
        shards=tuple(str(out.store.local_file(shard)) for shard in shards),
        folder=str(out.scratch),
        config=config,
        runtime=runtime.training,
    )
    with start_trainer(TRAINER, spec, out.scratch, runtime.training) as trainer:
        plan = _wait_for_plan(trainer)
        _follow(trainer, plan, out)
    for line in trainer.progress():
        out.log(int(line["step"]), **{name: line[name] for name in _CURVES})
    dropped = f"{plan.num_overlong} dropped with more than {config.max_length} tokens"
    out.note(f"{plan.num_samples} samples with {plan.num_tokens} tokens; {dropped}")
    folder = out.scratch / FINAL_FOLDER
    out.add_folder(folder, "model")
    out.summarize(base_model=base.base_model, train_step=plan.num_updates, tokenizer_digest=tokenizer_digest(folder))


def _wait_for_plan(trainer: TrainerProcess) -> PlanSummary:
    path = trainer.folder / PLAN_FILE
    while not trainer.finished and not path.exists():
        time.sleep(_LOOK_EVERY_S)
    return PlanSummary.model_validate_json(path.read_text(encoding="utf-8"))


def _follow(trainer: TrainerProcess, plan: PlanSummary, out: Output) -> None:
    done = 0
    with out.progress(plan.num_updates, "updates") as bar:
        while not trainer.finished:
            time.sleep(_LOOK_EVERY_S)
            lines = trainer.progress()
            if len(lines) > done:
                bar.advance(len(lines) - done)
                bar.say(f"loss {lines[-1]['loss']:.3f}")
                done = len(lines)
