"""Finished samples of a phase, kept as they come: a killed phase loses at most what was in flight."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from infra.output import Output
from tasks.generation.engine import Completion, Prompt, Sample, SamplingParams
from tasks.generation.serving import PolicyServers


class Journal:
    """Samples by (key, sample index), in an append-only JSON Lines file."""

    def __init__(self, path: Path) -> None:
        self.samples: dict[tuple[str, int], Completion] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._load(path.read_bytes())
        self._file = path.open("a", encoding="utf-8")
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            self._file.write("\n")  # after the torn last line of a writer that was killed

    def _load(self, content: bytes) -> None:
        for line in content.split(b"\n"):
            try:
                key, index, fields = json.loads(line)
            except ValueError:
                continue
            for name in ("prompt_ids", "completion_ids", "logprobs"):
                fields[name] = tuple(fields[name])
            self.samples[key, index] = Completion(**fields)

    def add(self, sample: Sample) -> None:
        """Keep a sample; it is on disk when this returns."""
        self.samples[sample.key, sample.sample_index] = sample.completion
        self._file.write(json.dumps([sample.key, sample.sample_index, asdict(sample.completion)]) + "\n")
        self._file.flush()

    def missing(self, prompts: Iterable[Prompt], num_samples: int) -> list[Prompt]:
        """The prompts with samples still to be had, each naming the indices that are there already."""
        return [
            prompt._replace(done=done)
            for prompt in prompts
            if len(done := self._indices(prompt.key, num_samples)) < num_samples
        ]

    def _indices(self, key: str, num_samples: int) -> frozenset[int]:
        return frozenset(index for index in range(num_samples) if (key, index) in self.samples)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def sample_resumably(
    out: Output, servers: PolicyServers, prompts: list[Prompt], params: SamplingParams, name: str
) -> dict[tuple[str, int], Completion]:
    """`params.n` samples of every prompt by (key, sample index); those of a run that was cut off are used again."""
    journal = Journal(out.scratch / f"{name}.jsonl")
    try:
        left = journal.missing(prompts, params.n)
        done = len(prompts) * params.n - sum(params.n - len(prompt.done) for prompt in left)
        with out.progress(len(prompts) * params.n, name) as bar:
            bar.advance(done)

            def keep(sample: Sample) -> None:
                journal.add(sample)
                bar.advance()

            if left:
                servers.sample_all(left, params, keep)
    finally:
        journal.close()
    tokens = sum(len(completion.completion_ids) for completion in journal.samples.values())
    out.spend(completion_tokens=tokens, prompt_tokens=sum(len(prompt.token_ids) for prompt in prompts))
    return journal.samples
