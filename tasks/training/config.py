"""What every kind of training has in common and what bears identity: how a gradient becomes an update."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from infra.config import Config


class OptimizerConfig(Config):
    """AdamW, as SFT and GRPO both use it. Base of their configs, so that a recipe writes `sft.lr`."""

    lr: float = Field(gt=0, description="peak learning rate")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of AdamW's first moment")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="decay of AdamW's second moment")
    eps: float = Field(default=1e-8, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(default=0.0, ge=0, description="of matrices; vectors (norms, biases) never decay")
    grad_clip: float = Field(default=1.0, gt=0, description="largest norm of the whole gradient")
    precision: Literal["fp32", "bf16"] = Field(
        default="bf16", description="of weights and activations; bf16 keeps fp32 master weights in the optimizer"
    )
    seed: int = Field(default=0, description="of data order and of whatever else draws")
