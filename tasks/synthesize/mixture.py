"""The mixture as it came out: samples and tokens of each domain beside what the recipe wants of it, for the card."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tasks.records import Domain
from tasks.synthesize.config import DomainPolicy, Mixture
from tasks.training.samples import Sample

# Where no tokenizer is known: English and LaTeX have about four characters a token.
CHARS_A_TOKEN = 4
# Of a domain so many samples are all tokenized, and of more one in a hundred: the ratio needs no more.
MEASURED_WHOLE, MEASURED_EVERY = 1000, 100

CountTokens = Callable[[Sample], int]


@dataclass
class Share:
    """What one domain contributes."""

    num_samples: int = 0
    num_chars: int = 0
    measured_chars: int = 0
    measured_tokens: int = 0

    def add(self, sample: Sample, count_tokens: CountTokens | None = None) -> None:
        """Count a sample; `count_tokens` is asked about some of them."""
        chars = sum(len(message.content) for message in sample.messages)
        is_measured = self.num_samples < MEASURED_WHOLE or self.num_samples % MEASURED_EVERY == 0
        if count_tokens is not None and is_measured:
            self.measured_chars += chars
            self.measured_tokens += count_tokens(sample)
        self.num_samples += 1
        self.num_chars += chars

    @property
    def num_tokens(self) -> int:
        """Tokens, prompt included; beyond what was tokenized by the ratio of tokens to characters."""
        if self.measured_chars == 0:
            return self.num_chars // CHARS_A_TOKEN
        return round(self.num_chars * self.measured_tokens / self.measured_chars)


def missing_samples(share: Share, target: float, total: int) -> int:
    """Samples that a domain lacks for its share of all, where the other domains stay as they are; 0: none."""
    return max(0, math.ceil((target * total - share.num_samples) / (1 - target) - 1e-9))


def mixture_table(shares: Mapping[str, Share], mixture: Mixture, tokenizer: str | None = None) -> str:
    """Markdown table by domain, largest first, and a line on each domain that is short of its target."""
    total = sum(share.num_samples for share in shares.values())
    total_tokens = sum(share.num_tokens for share in shares.values())
    wanted = {domain.value: mixture.of(domain) for domain in Domain}
    rows = {name: shares.get(name, Share()) for name, policy in wanted.items() if name in shares or _has_target(policy)}
    counted = f"tokens by {tokenizer}" if tokenizer else "tokens (≈ characters / 4)"
    lines = [
        "**Mixture**",
        "",
        f"| domain | samples | share | target | {counted} | share | target |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, share in sorted(rows.items(), key=lambda item: (-item[1].num_samples, item[0])):
        lines.append(
            f"| {name} | {share.num_samples:,} | {share.num_samples / (total or 1):.1%} | {_percent(wanted[name])} "
            f"| {share.num_tokens:,} | {share.num_tokens / (total_tokens or 1):.1%} | {_tokens(wanted[name])} |"
        )
    return "\n".join([*lines, *_deficits(rows, wanted, total)])


def _deficits(rows: Mapping[str, Share], wanted: Mapping[str, DomainPolicy], total: int) -> list[str]:
    told = []
    for name, share in sorted(rows.items()):
        target, tokens = wanted[name].target_share, wanted[name].target_tokens
        if target is not None and (missing := missing_samples(share, target, total)):
            told.append(f"- {name} is short of its share by {missing:,} samples")
        if tokens is not None and share.num_tokens < tokens:
            told.append(f"- {name} is short of its tokens by {tokens - share.num_tokens:,}")
    if not any(_has_target(policy) for policy in wanted.values()):
        return ["", "The recipe sets no targets."]
    return ["", *(told or ["No domain is short of its target."])]


def _has_target(policy: DomainPolicy) -> bool:
    return policy.target_share is not None or policy.target_tokens is not None


def _percent(policy: DomainPolicy) -> str:
    return "" if policy.target_share is None else f"{policy.target_share:.1%}"


def _tokens(policy: DomainPolicy) -> str:
    return "" if policy.target_tokens is None else f"{policy.target_tokens:,}"
