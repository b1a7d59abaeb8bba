"""The policy as a served model: how a query becomes a prompt, and how it samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from infra.config import Config
from tasks.records import Query


class PolicyConfig(Config):
    """How the model is prompted and served; the same in pass-rate, GRPO and benchmark."""

    system_prompt: str = Field(default="", description="first turn of every dialog; empty: none")
    dtype: Literal["float32", "bfloat16"] = Field(description="of the served weights")
    max_model_len: int = Field(ge=16, description="longest prompt + response, in tokens")


class SamplingConfig(Config):
    """How a policy samples."""

    temperature: float = Field(ge=0, description="0 is greedy")
    top_p: float = Field(default=1.0, gt=0, le=1, description="nucleus; 1 keeps the whole distribution")
    max_tokens: int = Field(ge=1, description="longest response, thinking included")
    seed: int = Field(default=0, ge=0, description="each sample's own seed is derived from it, the query and the index")


class PromptEncoder:
    """Queries → prompt token ids, by the chat template of a checkpoint's tokenizer."""

    def __init__(self, folder: Path, config: PolicyConfig) -> None:
        from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._config = config

    def encode(self, query: Query) -> list[int]:
        """Token ids of the dialog with the generation prompt at its end."""
        system = [{"role": "system", "content": self._config.system_prompt}] if self._config.system_prompt else []
        dialog = system + [{"role": turn.role, "content": turn.content} for turn in query.messages]
        ids: list[int] = self._tokenizer.apply_chat_template(
            dialog, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return ids
