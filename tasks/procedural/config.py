"""The description of a corpus: everything that decides its rows, and nothing else."""

from pydantic import Field

from infra.config import Config
from tasks.procedural.families.arithmetic import ArithmeticRanges
from tasks.procedural.families.comparison import ComparisonRanges
from tasks.procedural.families.equation import EquationRanges
from tasks.procedural.families.units import UnitRanges


class MathRanges(Config):
    """Which numbers the mathematics questions are about."""

    arithmetic: ArithmeticRanges = Field(default=ArithmeticRanges(), description="Chained arithmetic")
    equation: EquationRanges = Field(default=EquationRanges(), description="Linear equations")
    comparison: ComparisonRanges = Field(default=ComparisonRanges(), description="Comparisons of two numbers")
    units: UnitRanges = Field(default=UnitRanges(), description="Unit conversions")


class FamilyCounts(Config):
    """How many rows without blemish each family gets, before wrong labels are put on some of them."""

    num_arithmetic: int = Field(default=2600, ge=0, description="Chained arithmetic rows over the mathematics files")
    num_equations: int = Field(default=400, ge=0, description="Linear-equation rows")
    num_comparisons: int = Field(default=200, ge=0, description="Comparison rows")
    num_units: int = Field(default=150, ge=0, description="Unit-conversion rows")
    num_code: int = Field(default=260, ge=0, le=400, description="Code rows; the family has 472 different ones")
    num_multiple_choice: int = Field(default=240, ge=0, le=320, description="Multiple-choice rows; about 400 exist")
    num_instructions: int = Field(default=300, ge=0, description="Instruction-following rows")
    num_chats: int = Field(default=400, ge=0, description="Chat rows, more than half of them with two turns")


class BlemishCounts(Config):
    """How many faulty rows are planted; all but wrong labels come on top of the family counts."""

    num_exact_duplicates: int = Field(default=90, ge=0, description="Copies: verbatim, in other case, in other spacing")
    num_near_duplicates: int = Field(default=60, ge=0, description="Copies with a word changed and the same numbers")
    num_keep_pairs: int = Field(
        default=40, ge=0, description="Twins with one number changed, which must not be dropped"
    )
    num_urls: int = Field(default=25, ge=0, description="Questions that refer to a URL")
    num_images: int = Field(default=25, ge=0, description="Questions that refer to an image or figure")
    num_proofs: int = Field(default=25, ge=0, description="Proof questions")
    num_multi_part: int = Field(default=25, ge=0, description="Questions with parts (a) and (b)")
    num_incomplete: int = Field(default=25, ge=0, description="Questions that break off")
    num_unclear: int = Field(
        default=24, ge=0, description="Questions that a rule takes for whole and a reader does not"
    )
    num_bound_choices: int = Field(
        default=12, ge=0, description="Multiple-choice questions that are none without their options"
    )
    wrong_label_rate: float = Field(default=0.035, ge=0, le=0.5, description="Share of mathematics rows labelled wrong")
    num_exact_leaks: int = Field(default=12, ge=0, description="Benchmark questions, verbatim")
    num_recased_leaks: int = Field(default=8, ge=0, description="Benchmark questions in other case")
    num_respaced_leaks: int = Field(default=4, ge=0, description="Benchmark questions in other spacing")
    num_reworded_leaks: int = Field(default=8, ge=0, description="Benchmark questions with two words changed")
    num_without_tests: int = Field(default=10, ge=0, description="Code rows whose test list is empty")
    num_failing_references: int = Field(default=10, ge=0, description="Code rows whose reference fails its tests")


class BenchmarkSizes(Config):
    """How many questions are held out; no training row asks one of them, but for the leaks."""

    num_math500_arithmetic: int = Field(default=160, ge=0, description="Chained arithmetic in the MATH-500 layout")
    num_math500_equations: int = Field(default=40, ge=0, description="Linear equations in the MATH-500 layout")
    num_gsm8k_test_comparisons: int = Field(default=60, ge=0, description="Comparisons in the GSM8K layout")
    num_gsm8k_test_units: int = Field(default=40, ge=0, description="Unit conversions in the GSM8K layout")


class CorpusConfig(Config):
    """One corpus: the same config gives the same rows, blemishes and benchmarks."""

    seed: int = Field(default=0, description="Seed of every draw")
    ranges: MathRanges = Field(default=MathRanges(), description="Number ranges of the mathematics families")
    counts: FamilyCounts = Field(default=FamilyCounts(), description="Rows per family")
    blemishes: BlemishCounts = Field(default=BlemishCounts(), description="Faults to plant")
    benchmarks: BenchmarkSizes = Field(default=BenchmarkSizes(), description="Held-out questions")
