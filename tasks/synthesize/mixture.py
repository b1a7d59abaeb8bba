"""The mixture as it came out: samples and tokens of each domain, for the card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.training.samples import Sample

# No tokenizer is chosen yet; English and LaTeX have about four characters a token.
CHARS_A_TOKEN = 4


@dataclass
class Share:
    """What one domain contributes."""

    num_samples: int = 0
    num_chars: int = 0

    def add(self, sample: Sample) -> None:
        """Count a sample."""
        self.num_samples += 1
        self.num_chars += sum(len(message.content) for message in sample.messages)

    @property
    def num_tokens(self) -> int:
        """Approximate tokens, prompt included."""
        return self.num_chars // CHARS_A_TOKEN


def mixture_table(shares: Mapping[str, Share]) -> str:
    """Markdown table of samples and approximate tokens by domain, largest first."""
    total = sum(share.num_samples for share in shares.values()) or 1
    lines = ["**Mixture**", "", "| domain | samples | share | tokens (≈ characters / 4) |", "|---|---:|---:|---:|"]
    for domain, share in sorted(shares.items(), key=lambda item: (-item[1].num_samples, item[0])):
        lines.append(f"| {domain} | {share.num_samples:,} | {share.num_samples / total:.1%} | {share.num_tokens:,} |")
    return "\n".join(lines)
