"""The GRPO trainer: `python -m tasks.grpo.trainer SPEC.json`, on every rank.

For each step: wait for the batch, update, publish the weights. Killed at any moment it goes on bit for bit: it returns
to its last resume point and replays the stored batches from there, so no update is lost or done twice.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tasks.grpo.batch import make_batch
from tasks.grpo.transport import (
    FINAL_FOLDER,
    GrpoSpec,
    forget_weights,
    read_rollouts,
    requested_stop,
    rollouts_path,
    weights_path,
)
from tasks.grpo.update import Updater
from tasks.training.engine import Engine, load_reference
from tasks.training.progress_file import append_progress
from tasks.training.resume_points import ResumePoints

# Short beside a step, long enough to leave the cores to the rollouts.
POLL_S = 0.02
# Servers may still be loading the newest weights, or be about to; older ones nobody asks for.
KEPT_WEIGHTS = 2


def train(spec: GrpoSpec) -> None:
    """Train the stage from the newest resume point, or from the base, to its end."""
    folder, config = Path(spec.folder), spec.config
    if (folder / FINAL_FOLDER).exists():
        return
    engine = Engine(Path(spec.base), config, spec.runtime)
    reference = load_reference(Path(spec.base), config, spec.runtime) if config.kl_coef > 0 else None
    updater = Updater(engine, config, spec.runtime.micro_batch_tokens, reference)
    points = ResumePoints.of(folder, spec.runtime)
    newest = points.newest()
    coefficient = 0.0 if newest is None else float(engine.load_resume_point(newest)["entropy_coefficient"])
    step = 0 if newest is None else newest.step
    while wait_for_rollouts(folder, step, config.steps):
        started = time.monotonic()
        metrics, coefficient = updater.apply(make_batch(read_rollouts(folder, step), config), step, coefficient)
        step += 1
        if engine.rank == 0:
            append_progress(folder, step, **metrics, seconds=time.monotonic() - started)
        publish_weights(engine, folder, step)
        if step % config.save_every_steps == 0:
            engine.save_resume_point(points, step, {"entropy_coefficient": coefficient})
    engine.save_hf(folder / FINAL_FOLDER)


def wait_for_rollouts(folder: Path, step: int, num_steps: int) -> bool:
    """Sleep until the batch of `step` is there (True), or the stage is over before it (False).

    Every rank looks by itself and comes to the same answer: a step has a batch, or a stop before it, never both.
    """
    while step < num_steps:
        if rollouts_path(folder, step).exists():
            return True
        stop = requested_stop(folder)
        if stop is not None and stop <= step:
            return False
        time.sleep(POLL_S)
    return False


def publish_weights(engine: Engine, folder: Path, step: int) -> None:
    """Write the weights after `step` updates, unless their batch was sampled before a kill, and delete old ones."""
    if rollouts_path(folder, step).exists():
        return
    engine.save_hf(weights_path(folder, step))
    if engine.rank == 0:
        forget_weights(folder, step - KEPT_WEIGHTS)


if __name__ == "__main__":
    train(GrpoSpec.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8")))
