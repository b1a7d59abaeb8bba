"""Where training starts: a published model, or a small one with random weights and its own tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from infra.config import Config
from infra.fingerprint import file_digest
from tasks.training.tokenizer import TokenizerConfig, train_tokenizer

TOKENIZER_FILE = "tokenizer.json"


class SmallModelConfig(Config):
    """A Qwen2 with random weights; the default has 0.85 million parameters."""

    hidden_size: int = Field(default=128, ge=32, description="width")
    num_layers: int = Field(default=4, ge=1, description="decoder layers")
    num_heads: int = Field(default=4, ge=1, description="query heads")
    num_kv_heads: int = Field(default=2, ge=1, description="key and value heads")
    head_dim: int = Field(default=32, ge=32, description="vLLM on CPU serves 32 and more")
    intermediate_size: int = Field(default=384, ge=1, description="width of the gated MLP")
    max_length: int = Field(default=1024, ge=1, description="longest prompt plus completion, in tokens")
    rope_theta: float = Field(default=10_000.0, gt=0, description="base of the rotary embedding")
    initializer_range: float = Field(default=0.02, gt=0, description="standard deviation of the random weights")
    seed: int = Field(default=0, description="of the random weights")
    tokenizer: TokenizerConfig = Field(default=TokenizerConfig(), description="trained on the samples")


class ModelConfig(Config):
    """The model that training starts from."""

    path: str | None = Field(default=None, description="hub id or local folder; None: a small random model")
    small: SmallModelConfig = Field(default=SmallModelConfig(), description="used where no path is given")

    @property
    def name(self) -> str:
        """What checkpoints carry as their base model."""
        return self.path if self.path is not None else f"random-qwen2-{self.small.hidden_size}x{self.small.num_layers}"


def initialize(config: ModelConfig, texts: Iterable[str], folder: Path) -> None:
    """Save model (safetensors) and tokenizer as one Hugging Face folder.

    Args:
        texts: the corpus of a small model's tokenizer; not read for a published model.
    """
    if config.path is not None:
        _copy_published(config.path, folder)
        return
    train_tokenizer(texts, config.small.tokenizer, folder)
    _save_random(config.small, folder)


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 of the tokenizer's own file: two checkpoints with equal digests read the same text alike."""
    return file_digest(folder / TOKENIZER_FILE)


def _copy_published(path: str, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(path, dtype="auto").save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(path).save_pretrained(str(folder))


def _save_random(config: SmallModelConfig, folder: Path) -> None:
    import torch
    import transformers

    library: Any = transformers
    tokenizer = library.AutoTokenizer.from_pretrained(str(folder))
    architecture = library.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_length,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        initializer_range=config.initializer_range,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    library.utils.logging.disable_progress_bar()  # of writing shards: a small model has one
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        library.Qwen2ForCausalLM(architecture).save_pretrained(str(folder))
