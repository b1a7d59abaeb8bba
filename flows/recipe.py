"""Recipe: what a run makes. Every number that changes a result is in its TOML file, with a comment on its source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from flows.promotion import PromotionConfig
from infra.config import Config, load_toml, named_toml
from tasks.benchmark.config import BenchmarkRunConfig
from tasks.filter.config import FilterConfig
from tasks.generation.policy import PolicyConfig
from tasks.grpo.config import GrpoConfig
from tasks.grpo.prompts import PromptPoolConfig
from tasks.ingest.config import IngestConfig
from tasks.pass_rate.config import PassRateConfig
from tasks.rewards.rewarder import RewardConfig
from tasks.sft.config import SftConfig
from tasks.synthesize.config import SynthesizeConfig
from tasks.training.model import ModelConfig
from tasks.verify.config import VerifyConfig

RECIPES = Path(__file__).parent / "recipes"


class GrpoStage(Config):
    """One GRPO stage: which prompts it trains on, and how."""

    prompts: PromptPoolConfig = Field(description="what is removed from and added to the prompts before the stage")
    train: GrpoConfig = Field(description="rollouts, loss, schedule, and when the stage ends")


class Recipe(Config):
    """The phases' configs, in the order of the pipeline."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="name of the recipe, as people and MLflow see it")
    description: str = Field(description="one sentence")
    ingest: IngestConfig = Field(description="raw mixture and benchmarks")
    filter: FilterConfig = Field(default=FilterConfig(), description="rules, dedup, decontamination")
    verify: VerifyConfig = Field(description="teacher majority, arbitration, reference-solution check")
    synthesize: SynthesizeConfig = Field(description="teacher responses and which of them to train on")
    model: ModelConfig = Field(description="base model")
    policy: PolicyConfig = Field(description="how the model is prompted and served in every phase after SFT")
    rewards: RewardConfig = Field(default=RewardConfig(), description="how responses are judged in every phase")
    sft: SftConfig = Field(description="supervised fine-tuning")
    pass_rate: PassRateConfig = Field(description="difficulty by the SFT model")
    grpo: tuple[GrpoStage, ...] = Field(min_length=1, description="stages, in order")
    benchmark: BenchmarkRunConfig = Field(description="evaluation after each training phase")
    promotion: PromotionConfig = Field(
        default=PromotionConfig(), description="the gate that a checkpoint passes before it may become champion"
    )


def load_recipe(name_or_path: str, overrides: Mapping[str, object] | None = None) -> Recipe:
    """A recipe by the name of a file in `flows/recipes`, or by path.

    Raises:
        ConfigError: no such recipe, or an unknown key, a wrong type or an impossible value in it.
    """
    return load_toml(named_toml(name_or_path, RECIPES, "recipe"), Recipe, overrides)
