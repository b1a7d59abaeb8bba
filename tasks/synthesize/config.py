"""What is asked of the teacher, and which of its responses are good enough to train on (AM § 3)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from infra.config import Config
from tasks.generation.teacher import TeacherConfig
from tasks.records import Domain
from tasks.rewards.rewarder import RewardConfig


class ResponsesConfig(Config):
    """How many responses the teacher gives."""

    teacher: TeacherConfig = Field(description="equal to that of `verify`, its samples are reused at no cost")
    num_samples: int = Field(default=4, ge=1, description="choice: responses asked for each query")
    hard_num_samples: int = Field(default=8, ge=1, description="choice: responses for a hard query, these included")
    hard_below: float = Field(
        default=0.75, ge=0, le=1, description="choice: hard = a smaller share of the teacher's answers had the label"
    )


class RepetitionRule(Config):
    """A response is repetitive when one string of tokens (words and marks) occurs too often, overlaps not counted."""

    num_tokens: int = Field(default=20, ge=1, description="length of the string")
    max_times: int = Field(default=20, ge=1, description="the string may occur so often")


class PerplexityConfig(Config):
    """Which model says how surprising a response is, and of what; what is too surprising is `max_perplexity`'s to say.

    AM: an earlier model of theirs.
    """

    backend: Literal["endpoint", "local"] = Field(
        description="endpoint: vLLM's prompt log-probs; local: transformers in this process, on the trainer's device"
    )
    model: str = Field(description="its name at the endpoint of `role`; local: a Hugging Face folder or hub id")
    digest: str | None = Field(
        default=None, description="local: SHA-256 of weights, config and tokenizer; a run with another one is refused"
    )
    role: str = Field(default="scorer", description="endpoint: role of the profile")
    prompt_form: Literal["chat", "plain"] = Field(
        default="chat", description="chat: by the model's own template; plain: turns with blank lines between"
    )
    part: Literal["response", "thinking", "answer"] = Field(
        default="response", description="choice: what is scored; all that stands before it is read and not scored"
    )
    max_tokens: int = Field(
        default=4096, ge=1, description="choice: tokens of the part that are scored, from its start"
    )
    version: int = Field(default=1, description="of the scoring; raise it with any change, scores are cached")


class DomainPolicy(Config):
    """What is kept of one domain, and how much of it."""

    is_judged: bool = Field(
        default=True, description="false: well-formed responses pass without a score, where a run has no judge for them"
    )
    min_score: float = Field(default=0.99, ge=0, le=1, description="a response's score must be above this")
    repeats: int = Field(default=1, ge=1, description="times that each sample is written: up-sampling of a small set")
    max_samples: int | None = Field(
        default=None, ge=0, description="mixture target, before repeats: whole queries beyond it are dropped, by hash"
    )
    target_share: float | None = Field(
        default=None, gt=0, lt=1, description="share of all samples that is wanted, told beside what came out; AM: § 1"
    )
    target_tokens: int | None = Field(
        default=None, ge=1, description="tokens that are wanted, told beside what came out; AM: § 1"
    )


class Mixture(Config):
    """The policy of every domain."""

    math: DomainPolicy = Field(default=DomainPolicy(), description="math queries")
    code: DomainPolicy = Field(default=DomainPolicy(), description="code queries")
    science: DomainPolicy = Field(default=DomainPolicy(), description="science queries")
    instruction_following: DomainPolicy = Field(default=DomainPolicy(), description="instruction following queries")
    chat: DomainPolicy = Field(default=DomainPolicy(min_score=0.7), description="chat queries; analogue of AM: 0.7")

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        total = sum(self.of(domain).target_share or 0.0 for domain in Domain)
        if total > 1 + 1e-6:
            raise ValueError(f"target shares sum up to {total:.3f}; they are shares of all samples, so at most 1")
        return self

    def of(self, domain: Domain) -> DomainPolicy:
        """The policy of a domain."""
        policy: DomainPolicy = getattr(self, domain.value)
        return policy


class SelectionConfig(Config):
    """Which responses become samples."""

    repetition: RepetitionRule = Field(default=RepetitionRule(), description="responses that go round in circles")
    max_perplexity: float = Field(
        default=20.0, gt=1, description="a response above it is dropped, where perplexity is scored; analogue of AM: 20"
    )
    max_responses: int = Field(default=4, ge=1, description="choice: different responses kept for one query")
    mixture: Mixture = Field(default=Mixture(), description="threshold, up-sampling and target of each domain")


class SynthesizeConfig(Config):
    """Responses and their selection."""

    responses: ResponsesConfig = Field(description="how many responses the teacher gives")
    perplexity: PerplexityConfig | None = Field(default=None, description="who scores perplexity; none: nobody does")
    selection: SelectionConfig = Field(default=SelectionConfig(), description="which of them become samples")


class SampleSelection(Config):
    """What `select_samples` depends on."""

    selection: SelectionConfig
    rewards: RewardConfig = Field(description="how responses are judged")
    system_prompt: str = Field(default="", description="first turn of every sample; the policy's, or SFT and RL differ")
    tokenizer: str | None = Field(
        default=None, description="folder or hub id whose tokenizer counts the mixture; none: characters / 4"
    )
