"""A causal language model of transformers in this process, for the surprise of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.config import ConfigError
from infra.fingerprint import file_digest, fingerprint
from tasks.training.token_models import RefusedTextError

# What decides a model's log-probs and its tokens; a card or a licence beside them does not.
_PARTS = ("*.safetensors", "*.bin", "config.json", "tokenizer*", "vocab*", "merges.txt", "*.jinja", "special_tokens*")


class LocalTokenModel:
    """One text at a time: batches would make a score hang on its neighbours' padding.

    Args:
        path: a Hugging Face folder, or a hub id that is in the local cache.
        digest: what `folder_digest` must say of it.
        device: cpu or cuda.

    Raises:
        ConfigError: the model is another one than that of the digest.
    """

    def __init__(self, path: str, digest: str | None, device: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = local_folder(path)
        found = folder_digest(folder)
        if digest != found:
            raise ConfigError(
                f"the model at {path} has digest {found}, the recipe says {digest}; a score is only as known as its "
                f'model: set perplexity.digest = "{found}", or name the folder that was meant'
            )
        self._torch: Any = torch
        self._device = device
        self._tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        self._model: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype).to(device).eval()
        self._window = int(getattr(self._model.config, "max_position_embeddings", 0) or 0)

    def encode_dialog(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """By the tokenizer's chat template.

        Raises:
            ConfigError: it has none.
        """
        if self._tokenizer.chat_template is None:
            raise ConfigError('the scoring model has no chat template; set perplexity.prompt_form = "plain"')
        dialog = [dict(message) for message in messages]
        ids: list[int] = self._tokenizer.apply_chat_template(
            dialog, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return ids

    def encode(self, text: str) -> list[int]:
        """Without special tokens."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def logprobs(self, context_ids: Sequence[int], text_ids: Sequence[int]) -> list[float]:
        """In fp32 from the logits, which are worked out for the text's tokens only."""
        from tasks.training.logprobs import score_tokens

        torch, length = self._torch, len(context_ids) + len(text_ids)
        if self._window and length > self._window:
            raise RefusedTextError(f"{length} tokens, the model reads {self._window}")
        ids_1_L = torch.tensor([[*context_ids, *text_ids]], device=self._device)
        with torch.inference_mode():
            # The state at position t predicts token t + 1; the last one predicts what is not there.
            logits_1_N_V = self._model(ids_1_L, logits_to_keep=len(text_ids) + 1, use_cache=False).logits
            scores = score_tokens(logits_1_N_V[0, :-1], ids_1_L[0, len(context_ids) :])
        found: list[float] = scores.logprobs_N.tolist()
        return found


def local_folder(path: str) -> Path:
    """The folder itself, or the snapshot of a hub id.

    Raises:
        ConfigError: there is neither.
    """
    if Path(path).expanduser().is_dir():
        return Path(path).expanduser()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path))
    except (OSError, ValueError) as error:  # what the hub's own errors are kinds of
        raise ConfigError(f"no folder {path}, and no such model at the hub: {error}; name one that exists") from error


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of all files that decide a model's log-probs."""
    files = sorted({path for pattern in _PARTS for path in folder.glob(pattern) if path.is_file()})
    if not any(path.name == "config.json" for path in files):
        raise ConfigError(f"{folder} is no Hugging Face folder: it has no config.json; name one that has")
    return fingerprint({path.name: file_digest(path) for path in files})
