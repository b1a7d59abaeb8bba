"""Trainers as real processes: killed with SIGKILL and started again, and on two ranks."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("deepspeed")

from infra.config import Config
from infra.process import free_port
from infra.rows import write_shard
from infra.runtime import TrainingRuntime
from tasks.grpo import transport
from tasks.grpo.config import EntropyConfig, GrpoConfig
from tasks.records import Domain, Message, Outcome, Rollout
from tasks.sft.config import SftConfig
from tasks.sft.spec import FINAL_FOLDER, TRAINER, SftSpec
from tasks.training.launch import TrainerError, start_trainer, trainer_command, trainer_environment
from tasks.training.model import ModelConfig, SmallModelConfig, initialize, tokenizer_digest
from tasks.training.progress_file import read_progress
from tasks.training.samples import Sample, corpus_texts
from tasks.training.tokenizer import TokenizerConfig

pytestmark = pytest.mark.integration

CPU = TrainingRuntime(num_threads=2, micro_batch_tokens=512)
TWO_RANKS = TrainingRuntime(num_processes=2, num_threads=1, micro_batch_tokens=512)
MODEL = ModelConfig(
    small=SmallModelConfig(
        hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=1, intermediate_size=96, initializer_range=0.1,
        tokenizer=TokenizerConfig(vocab_size=280),
    )
)  # fmt: skip
SFT = SftConfig(lr=1e-3, num_epochs=4, max_length=128, sequences_per_step=2, precision="fp32", save_every_steps=20)
GRPO = GrpoConfig(
    lr=1e-3, steps=6, group_size=4, prompts_per_batch=6, max_response_tokens=20, precision="fp32", save_every_steps=3,
    entropy=EntropyConfig(target=100.0, delta=0.01),
)  # fmt: skip


# The world: sums to learn from, and random rollouts


def make_samples(num_samples: int) -> list[Sample]:
    rng = Random(0)
    return [make_sum(number, rng.randint(1, 99), rng.randint(1, 99)) for number in range(num_samples)]


def make_sum(number: int, a: int, b: int) -> Sample:
    response = f"<think>\n{a} + {b} = {a + b}\n</think>\n<answer>\n\\boxed{{{a + b}}}\n</answer>"
    messages = (Message(role="user", content=f"What is {a} + {b} ?"), Message(role="assistant", content=response))
    return Sample(id=f"s{number}", query_id=f"q{number}", source="sums", domain=Domain.MATH, messages=messages)


def write_batch(folder: Path, step: int) -> None:
    rng = Random(f"rollouts/{step}")
    prompts = [[rng.randrange(10, 270) for _ in range(6 + group)] for group in range(6)]
    rollouts = [make_rollout(rng, group, index, prompts[group]) for group in range(6) for index in range(4)]
    transport.write_rollouts(folder, step, rollouts)


def make_rollout(rng: Random, group: int, index: int, prompt: list[int]) -> Rollout:
    completion = [rng.randrange(10, 270) for _ in range(rng.randint(3, 20))]
    reward = None if rng.random() < 0.05 else float(rng.random() < 0.5)
    return Rollout(
        query_id=f"q{group}", group=group, sample_index=index, weights_version="synthetic", prompt_ids=prompt,
        completion_ids=completion, logprobs=[-5.0] * len(completion), stop_reason=rng.choice(["stop"] * 9 + ["length"]),
        outcome=Outcome.EQUAL if reward else Outcome.DIFFERENT, reward=reward, text="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    initialize(MODEL, corpus_texts(make_samples(50)), folder)
    return folder


@pytest.fixture
def sft_spec(base, tmp_path) -> Callable[[str, TrainingRuntime], SftSpec]:
    shard = tmp_path / "kept-00000.parquet"
    write_shard(shard, Sample, make_samples(200))

    def make(name: str, runtime: TrainingRuntime) -> SftSpec:
        folder = tmp_path / name
        return SftSpec(base=str(base), shards=(str(shard),), folder=str(folder), config=SFT, runtime=runtime)

    return make


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def run_to_the_end(module: str, spec: Config, folder: Path, runtime: TrainingRuntime) -> None:
    with start_trainer(module, spec, folder, runtime) as trainer:
        while not trainer.finished:
            time.sleep(0.05)


@contextmanager
def killed_at_the_end(module: str, spec: Config, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A bare trainer process that gets SIGKILL when the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text(spec.model_dump_json())
    with (folder / "bare.log").open("wb") as log:
        process = subprocess.Popen(
            trainer_command(module, folder / "spec.json", CPU),
            env=trainer_environment(CPU, free_port()), stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert process is None or process.poll() is None, "the trainer ended by itself; see bare.log"
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Fine-tuning


def test_sft_killed_midway_ends_in_the_same_weights_bit_for_bit(sft_spec, tmp_path):
    whole, broken = sft_spec("whole", CPU), sft_spec("broken", CPU)
    run_to_the_end(TRAINER, whole, tmp_path / "whole", CPU)
    with killed_at_the_end(TRAINER, broken, tmp_path / "broken") as process:
        wait_until(lambda: len(read_progress(tmp_path / "broken")) >= 33, process)
    done = len(read_progress(tmp_path / "broken"))
    assert not (tmp_path / "broken" / FINAL_FOLDER).exists()
    run_to_the_end(TRAINER, broken, tmp_path / "broken", CPU)
    assert digest(tmp_path / "broken" / FINAL_FOLDER) == digest(tmp_path / "whole" / FINAL_FOLDER)

    lines = read_progress(tmp_path / "whole")
    assert 33 <= done < len(lines)
    assert [line["loss"] for line in read_progress(tmp_path / "broken")] == [line["loss"] for line in lines]
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]


@pytest.mark.thorough
def test_sft_on_two_sharded_ranks_takes_the_same_path_as_on_one(sft_spec, tmp_path):
    for name, runtime in [("one", CPU), ("two", TWO_RANKS.model_copy(update={"zero_stage": 2}))]:
        run_to_the_end(TRAINER, sft_spec(name, runtime), tmp_path / name, runtime)
    one, two = (read_progress(tmp_path / name) for name in ("one", "two"))
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-3)
    assert [line["grad_norm"] for line in two][:10] == pytest.approx([line["grad_norm"] for line in one][:10], rel=1e-4)


def test_a_trainer_that_cannot_start_says_why_in_one_error(sft_spec, tmp_path):
    spec = sft_spec("broken", CPU).model_copy(update={"base": str(tmp_path / "nowhere")})
    with (
        pytest.raises(TrainerError, match=r"(?s)nowhere.*goes on from its last resume point"),
        start_trainer(TRAINER, spec, tmp_path / "broken", CPU) as trainer,
    ):
        wait_until(lambda: trainer.finished)


# Reinforcement


def test_grpo_killed_midway_replays_its_batches_to_the_same_weights(base, tmp_path):
    def spec(folder: Path) -> transport.GrpoSpec:
        return transport.GrpoSpec(base=str(base), folder=str(folder), config=GRPO, runtime=CPU)

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for step in range(GRPO.steps):
        write_batch(whole, step)
    run_to_the_end(transport.TRAINER, spec(whole), whole, CPU)

    with killed_at_the_end(transport.TRAINER, spec(broken), broken) as process:
        for step in range(5):  # the resume point is the one after 3 updates
            write_batch(broken, step)
            wait_until(lambda step=step: transport.weights_path(broken, step + 1).exists(), process)
    newest = transport.weights_path(broken, 5)
    before = digest(newest)
    transport.forget_weights(broken, 5)  # as if the kill had come before they were published
    with killed_at_the_end(transport.TRAINER, spec(broken), broken) as process:
        wait_until(newest.exists, process)
    assert digest(newest) == before
    write_batch(broken, 5)
    run_to_the_end(transport.TRAINER, spec(broken), broken, CPU)
    assert digest(broken / transport.FINAL_FOLDER) == digest(whole / transport.FINAL_FOLDER) != before

    lines = read_progress(broken)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["entropy_coefficient"] for line in lines] == pytest.approx([0, 0.01, 0.02, 0.03, 0.04, 0.05])
    assert not transport.weights_path(broken, 3).exists()


@pytest.mark.thorough
def test_grpo_stops_where_it_is_told_to(base, tmp_path):
    spec = transport.GrpoSpec(base=str(base), folder=str(tmp_path), config=GRPO, runtime=TWO_RANKS)
    write_batch(tmp_path, 0)
    transport.request_stop(tmp_path, 1)
    run_to_the_end(transport.TRAINER, spec, tmp_path, TWO_RANKS)
    assert len(read_progress(tmp_path)) == 1
    assert digest(tmp_path / transport.FINAL_FOLDER) == digest(transport.weights_path(tmp_path, 1))


# Where training starts


def test_a_random_model_repeats_bit_for_bit_and_generates(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    initialize(MODEL, corpus_texts(make_samples(50)), tmp_path / "a")
    initialize(MODEL, corpus_texts(make_samples(50)), tmp_path / "b")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert tokenizer_digest(tmp_path / "a") == tokenizer_digest(tmp_path / "b")
    model, tokenizer = (kind.from_pretrained(tmp_path / "a") for kind in (AutoModelForCausalLM, AutoTokenizer))
    dialog = [{"role": "user", "content": "Hi"}]
    ids = tokenizer.apply_chat_template(dialog, add_generation_prompt=True, return_tensors="pt")
    assert model.generate(**ids, max_new_tokens=3, do_sample=False).shape[1] <= ids["input_ids"].shape[1] + 3
