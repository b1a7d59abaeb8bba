"""The DeepSpeed engine: one update from micro-batches whose losses add up, the same bit for bit on every run.

A loss is a sum over some tokens divided by the *global* denominator, so gradients of micro-batches and ranks are added,
never averaged: how a batch is cut into micro-batches and ranks changes rounding only.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch
from deepspeed import comm
from torch import Tensor
from transformers import AutoModelForCausalLM

from infra.runtime import TrainingRuntime
from tasks.training.config import OptimizerConfig
from tasks.training.hf_folder import replace_folder, save_with_tokenizer
from tasks.training.logprobs import Entropy, TokenBatch, TokenScorer, TokenScores
from tasks.training.resume_points import ResumePoint, ResumePoints

RESUME_TAG = "state"  # every resume point is a fresh folder, so its one DeepSpeed tag can have a fixed name
STATE_FILE = "trainer.json"


class NonFiniteGradientError(RuntimeError):
    """A gradient is infinite or not a number; nothing of the update reached a resume point or published weights."""


class Engine:
    """A model under training, seen from one rank.

    Attributes:
        rank: of this process.
        num_ranks: processes that train together.
    """

    def __init__(self, base: Path, config: OptimizerConfig, runtime: TrainingRuntime) -> None:
        _be_deterministic(config.seed, runtime)
        # DeepSpeed would compile its shared-memory collectives at start (45 s, and a compiler must be there); they are
        # used only under its own launcher, and hang there.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(dist_backend="nccl" if runtime.device == "cuda" else "gloo", verbose=False)
        self.rank, self.num_ranks = comm.get_rank(), comm.get_world_size()
        self._base, self._stage = base, zero_stage(config, runtime)
        self._device = torch.device(runtime.device)
        settings = deepspeed_settings(config, runtime)
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        self._model: Any = AutoModelForCausalLM.from_pretrained(str(base), dtype=dtype)
        self._model.train()
        optimizer = make_optimizer(self._model, config)
        self._grad_norm: float | None = None
        if self._stage == 0:  # DeepSpeed's plain path clips without telling the norm, so there we clip
            optimizer.register_step_pre_hook(lambda *_: self._clip(config.grad_clip))
        self._engine: Any = deepspeed.initialize(model=TokenScorer(self._model), optimizer=optimizer, config=settings)[
            0
        ]

    # One update

    def score(self, batch: TokenBatch, temperature: float = 1.0, entropy: Entropy = Entropy.NONE) -> TokenScores:
        """Scores of the batch's completion tokens under the current weights."""
        tokens, mask = (tensor.to(self._device) for tensor in batch)
        return TokenScores(*self._engine(tokens, mask, temperature, entropy))

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss that is already divided by the global denominator."""
        # DeepSpeed averages over ranks; the losses of ranks are shares of one sum.
        self._engine.backward(loss * self.num_ranks)

    def step(self, lr: float) -> float:
        """Apply the gradients added since the last step; the norm of the whole gradient before clipping.

        Raises:
            NonFiniteGradientError: the gradient cannot be used.
        """
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        self._engine.step()
        norm = self._grad_norm if self._grad_norm is not None else float(self._engine.get_global_grad_norm())
        if not math.isfinite(norm):
            raise NonFiniteGradientError(f"gradient norm is {norm}; lower lr, or look at the batch for extreme rewards")
        return norm

    def _clip(self, max_norm: float) -> None:
        self._grad_norm = float(torch.nn.utils.clip_grad_norm_(self._model.parameters(), max_norm))

    def sum_over_ranks(self, values: Sequence[float]) -> list[float]:
        """Element-wise sum over all ranks."""
        total = torch.tensor(values, dtype=torch.float64, device=self._device)
        comm.all_reduce(total)
        return [float(value) for value in total]

    def max_over_ranks(self, value: float) -> float:
        """The largest of the ranks' values."""
        largest = torch.tensor([value], dtype=torch.float64, device=self._device)
        comm.all_reduce(largest, op=comm.ReduceOp.MAX)
        return float(largest[0])

    # What lasts

    def save_resume_point(self, points: ResumePoints, step: int, state: dict[str, Any]) -> None:
        """Write weights, optimizer, random state and `state` (plain JSON) after `step` updates. All ranks call it."""
        if self.rank == 0:
            points.clear(step)
        comm.barrier()
        aside = points.aside(step)
        self._engine.save_checkpoint(str(aside), tag=RESUME_TAG, save_latest=False)
        torch.save(_random_state(), aside / f"random-{self.rank}.pt")
        comm.barrier()
        if self.rank == 0:
            (aside / STATE_FILE).write_text(json.dumps(state), encoding="utf-8")
            points.commit(step)
        comm.barrier()

    def load_resume_point(self, point: ResumePoint) -> dict[str, Any]:
        """Go back to a resume point; the `state` saved with it. All ranks call it."""
        self._engine.load_checkpoint(str(point.path), tag=RESUME_TAG, load_lr_scheduler_states=False)
        _set_random_state(torch.load(point.path / f"random-{self.rank}.pt", weights_only=True))
        state: dict[str, Any] = json.loads((point.path / STATE_FILE).read_text(encoding="utf-8"))
        return state

    def save_hf(self, folder: Path) -> None:
        """Write model and tokenizer as a Hugging Face folder, whole or not at all. All ranks call it."""
        weights = self._gathered_weights()
        if self.rank == 0:
            with replace_folder(folder) as aside:
                save_with_tokenizer(self._model, weights, self._base, aside)
        comm.barrier()

    def _gathered_weights(self) -> dict[str, Tensor] | None:
        """Under ZeRO 3, the whole weights on rank 0, gathered one by one; None where the model holds them anyway."""
        if self._stage < 3:
            return None
        weights = {}
        for name, parameter in self._model.named_parameters():
            with deepspeed.zero.GatheredParameters([parameter]):
                if self.rank == 0:
                    weights[name] = parameter.detach().cpu().clone()
        return weights


def load_reference(base: Path, config: OptimizerConfig, runtime: TrainingRuntime) -> TokenScorer:
    """Frozen weights beside the trained ones, whole on every rank."""
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(str(base), dtype=dtype)
    return TokenScorer(model.requires_grad_(False).eval()).to(runtime.device)


def deepspeed_settings(config: OptimizerConfig, runtime: TrainingRuntime) -> dict[str, Any]:
    """DeepSpeed's configuration. Nothing is timed, printed or monitored by it: each costs every step."""
    stage = zero_stage(config, runtime)
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": False}
    if runtime.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        # We cut batches ourselves, and `step()` alone ends an accumulation, however many passes it had.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.grad_clip if stage > 0 else 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": config.precision == "bf16"},
        "data_types": {"grad_accum_dtype": "fp32"},
    }


def make_optimizer(model: torch.nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """torch's fused AdamW: DeepSpeed's own optimizers need a compiler at run time."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [p for p in parameters if len(getattr(p, "ds_shape", p.shape)) > 1]
    vectors = [p for p in parameters if len(getattr(p, "ds_shape", p.shape)) <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)


def zero_stage(config: OptimizerConfig, runtime: TrainingRuntime) -> int:
    """The ZeRO stage in use: bf16 weights need an optimizer with fp32 copies and fp32 sums of gradients, which is 1."""
    return max(1, runtime.zero_stage) if config.precision == "bf16" else runtime.zero_stage


def _be_deterministic(seed: int, runtime: TrainingRuntime) -> None:
    torch.set_num_threads(runtime.num_threads)
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory would show who reads it unwritten; nobody does, and it costs a pass over every result.
    memory: Any = torch.utils.deterministic
    memory.fill_uninitialized_memory = False
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _random_state() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_state(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
