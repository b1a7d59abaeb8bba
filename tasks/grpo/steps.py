"""A GRPO stage: rollouts by the servers, updates by the trainer, weights back to the servers, until its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from pydantic import Field

from infra.artifacts import Checkpoint, Dataset
from infra.config import Config
from infra.output import Output
from infra.runtime import Runtime
from infra.step import step
from tasks.generation.policy import PolicyConfig, PromptEncoder
from tasks.generation.serving import serve
from tasks.grpo.config import GrpoConfig
from tasks.grpo.plateau import stage_is_over
from tasks.grpo.rollouts import RolloutSource, sample_batch
from tasks.grpo.transport import (
    FINAL_FOLDER,
    TRAINER,
    GrpoSpec,
    read_rollouts,
    request_stop,
    rollouts_path,
    step_folder,
    weights_path,
    write_rollouts,
)
from tasks.records import Query, Rollout
from tasks.rewards.opening import open_rewarder
from tasks.rewards.rewarder import RewardConfig
from tasks.training.launch import TrainerProcess, start_trainer
from tasks.training.model import tokenizer_digest
from tasks.training.progress_file import Line

POLL_S = 0.02
# Largest mean |trainer's - server's log-prob| of a sampled token: beyond it a server holds other weights.
MAX_LOGPROB_GAP = {"float32": 1e-3, "bfloat16": 0.05}


class GrpoRun(Config):
    """Everything that decides a stage's checkpoint, beside its inputs."""

    train: GrpoConfig = Field(description="rollouts, loss, schedule, and when the stage ends")
    policy: PolicyConfig = Field(description="prompt and serving")
    rewards: RewardConfig = Field(description="how responses are judged")


class WeightSyncError(RuntimeError):
    """The servers sample from other weights than the trainer holds."""


@step(version=1, produces=Checkpoint, sampled=True)
def train_grpo(policy: Checkpoint, prompts: Dataset, config: GrpoRun, out: Output, runtime: Runtime) -> None:
    """Train one stage. Rollouts are files: a stage that was cut off replays them and goes on, bit for bit."""
    base = out.store.checkout(policy)
    spec = GrpoSpec(base=str(base), folder=str(out.scratch), config=config.train, runtime=runtime.training)
    with start_trainer(TRAINER, spec, out.scratch, runtime.training) as trainer:
        source = RolloutSource(
            servers=serve(out, runtime, config.policy, base, policy.digest),
            rewarder=open_rewarder(out, runtime, config.rewards),
            encoder=PromptEncoder(base, config.policy),
            queries=list(out.rows(prompts, Query)),
            config=config.train,
        )
        num_steps = run_stage(source, trainer, base, policy.digest, config, out)
        lines = finish(trainer, num_steps, config)
    for line in lines:
        out.log(int(line["step"]), **{name: value for name, value in line.items() if name != "step"})
    publish(policy, num_steps, out)


def run_stage(
    source: RolloutSource, trainer: TrainerProcess, base: Path, digest: str, config: GrpoRun, out: Output
) -> int:
    """Hand over one batch a step until the stage is over; the number of steps."""
    folder, rewards = trainer.folder, list[float]()
    with out.progress(config.train.steps, "updates") as bar:
        while not stage_is_over(rewards, config.train):
            number = len(rewards)
            if not rollouts_path(folder, number).exists():
                weights = base if number == 0 else wait_for_weights(trainer, number)
                version = digest if number == 0 else f"{digest[:16]}+{number}"
                source.servers.load(weights, version)
                journal = step_folder(folder, number) / "samples.jsonl"
                write_rollouts(folder, number, sample_batch(source, number, version, journal))
                journal.unlink(missing_ok=True)
            rollouts = read_rollouts(folder, number)
            rewards.append(fmean(r.reward for r in rollouts if r.reward is not None))
            out.spend(completion_tokens=sum(len(rollout.completion_ids) for rollout in rollouts))
            check_logprobs(trainer.progress(), config)
            bar.advance()
            bar.say(f"reward {rewards[-1]:.3f}, length {fmean(len(r.completion_ids) for r in rollouts):.1f}")
    return len(rewards)


def wait_for_weights(trainer: TrainerProcess, number: int) -> Path:
    """The folder with the weights after `number` updates, once the trainer has written it.

    Raises:
        TrainerError: the trainer died.
    """
    path = weights_path(trainer.folder, number)
    while not path.exists():
        if trainer.finished:
            raise WeightSyncError(f"the trainer ended before it wrote {path}; see {trainer.folder}")
        time.sleep(POLL_S)
    return path


def finish(trainer: TrainerProcess, num_steps: int, config: GrpoRun) -> list[Line]:
    """Let the trainer apply what it has and write the last weights; its progress, one line a step."""
    request_stop(trainer.folder, num_steps)
    while not trainer.finished:
        time.sleep(POLL_S)
    lines = trainer.progress()
    check_logprobs(lines, config)
    return lines


def check_logprobs(lines: Sequence[Line], config: GrpoRun) -> None:
    """Compare the servers' log-probs of the newest batch with the trainer's.

    Raises:
        WeightSyncError: they are further apart than the served precision explains.
    """
    limit = MAX_LOGPROB_GAP[config.policy.dtype]
    for line in lines[-1:]:
        if line["logprob_gap_mean"] > limit:
            raise WeightSyncError(
                f"step {int(line['step'])}: sampled log-probs are {line['logprob_gap_mean']:.2g} from the trainer's on "
                f"average (limit {limit:g} for {config.policy.dtype}); the servers hold other weights: check the reload"
            )


def publish(policy: Checkpoint, num_steps: int, out: Output) -> None:
    """The last weights, and every batch that made them."""
    folder = out.scratch / FINAL_FOLDER
    out.add_folder(folder, "model")
    for number in range(num_steps):
        out.add_file(rollouts_path(out.scratch, number), f"rollouts/step_{number:05d}.parquet")
    out.summarize(base_model=policy.base_model, train_step=num_steps, tokenizer_digest=tokenizer_digest(folder))
    for title, number in (("First batch", 0), ("Last batch", num_steps - 1)):
        out.note(_examples(title, read_rollouts(out.scratch, number)))


def _examples(title: str, rollouts: Sequence[Rollout]) -> str:
    shown = [f"reward {r.reward}:\n```\n{r.text}\n```" for r in rollouts[:: max(1, len(rollouts) // 3)][:3]]
    return "\n\n".join([f"## {title}", *shown])
