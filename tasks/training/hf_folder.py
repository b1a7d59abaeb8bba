"""Hugging Face folders that are whole or absent, and that carry the tokenizer's files byte for byte."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Files that belong to the weights, and are written anew; everything else in a base folder is the tokenizer's.
_OF_THE_MODEL = (".safetensors", ".bin", ".index.json")
_CONFIGS = {"config.json", "generation_config.json"}


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, which takes its name when the block ends without an error."""
    aside = folder.with_name(f"{folder.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    yield aside
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def save_with_tokenizer(model: Any, weights: dict[str, Any] | None, base: Path, folder: Path) -> None:
    """Save `model` (with `weights`, where they are not in it) and copy the tokenizer's files of `base`."""
    model.save_pretrained(str(folder), **({} if weights is None else {"state_dict": weights}))
    for path in sorted(base.iterdir()):
        if path.is_file() and path.name not in _CONFIGS and not path.name.endswith(_OF_THE_MODEL):
            shutil.copyfile(path, folder / path.name)
