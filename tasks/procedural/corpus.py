"""The corpus of the small world: raw rows with planted blemishes, held-out benchmarks, and the truth about both."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tasks.procedural.blemishes import Planter
from tasks.procedural.config import (
    BenchmarkSizes,
    BlemishCounts,
    CorpusConfig,
    FamilyCounts,
)
from tasks.procedural.families.problem import FamilyName, Problem
from tasks.procedural.native import (
    BENCHMARK_LAYOUTS,
    MATH_FILES,
    RAW_LAYOUTS,
    Draft,
    Row,
)
from tasks.procedural.pool import ProblemPool
from tasks.procedural.truth import Blemish, BlemishKind, KeepPair, RowRef, Truth

# Which files a family is written to; a family with several is spread evenly.
_FILES: Mapping[FamilyName, tuple[str, ...]] = {
    FamilyName.ARITHMETIC: MATH_FILES,
    FamilyName.EQUATION: ("hendrycks_math.jsonl", "deepmath.jsonl"),
    FamilyName.COMPARISON: ("gsm8k_train.jsonl",),
    FamilyName.UNITS: ("gsm8k_train.jsonl",),
    FamilyName.CODE: ("mbpp_train.jsonl",),
    FamilyName.MULTIPLE_CHOICE: ("mmlu_science_val.jsonl",),
    FamilyName.INSTRUCTION: ("tulu_if.jsonl",),
    FamilyName.CHAT: ("fastchat_dummy.jsonl",),
}


@dataclass(frozen=True, slots=True)
class Corpus:
    """Rows by file name. The truth is for whoever made the corpus: `write_raw` leaves it out."""

    raw: Mapping[str, Sequence[Row]]
    benchmarks: Mapping[str, Sequence[Row]]
    truth: Truth


def make_corpus(config: CorpusConfig) -> Corpus:
    """Make a corpus; the same config gives the same corpus on every machine."""
    pool = ProblemPool(Random(f"{config.seed}/problems"), config.ranges)
    held_out = _hold_out(pool, config.benchmarks)
    rng = Random(f"{config.seed}/rows")
    drafts = _draw_keepers(pool, config.counts, rng)
    drafts += _plant(Planter(rng, pool, drafts), drafts, held_out, config.blemishes)
    return _assemble(drafts, held_out)


def write_raw(corpus: Corpus, folder: Path) -> None:
    """Write `raw/*.jsonl` and `benchmarks/*.jsonl` under a folder, each file aside first and renamed when whole."""
    for name, files in (("raw", corpus.raw), ("benchmarks", corpus.benchmarks)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file, rows in files.items():
            aside = folder / name / f".{file}.partial"
            aside.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
            aside.replace(folder / name / file)


def _hold_out(pool: ProblemPool, sizes: BenchmarkSizes) -> dict[str, list[Problem]]:
    return {
        "math500.jsonl": [
            *pool.draw_many(FamilyName.ARITHMETIC, sizes.num_math500_arithmetic),
            *pool.draw_many(FamilyName.EQUATION, sizes.num_math500_equations),
        ],
        "gsm8k_test.jsonl": [
            *pool.draw_many(FamilyName.COMPARISON, sizes.num_gsm8k_test_comparisons),
            *pool.draw_many(FamilyName.UNITS, sizes.num_gsm8k_test_units),
        ],
    }


def _draw_keepers(pool: ProblemPool, counts: FamilyCounts, rng: Random) -> list[Draft]:
    wanted = {
        FamilyName.ARITHMETIC: counts.num_arithmetic,
        FamilyName.EQUATION: counts.num_equations,
        FamilyName.COMPARISON: counts.num_comparisons,
        FamilyName.UNITS: counts.num_units,
        FamilyName.CODE: counts.num_code,
        FamilyName.MULTIPLE_CHOICE: counts.num_multiple_choice,
        FamilyName.INSTRUCTION: counts.num_instructions,
        FamilyName.CHAT: counts.num_chats,
    }
    return [
        Draft.of(_FILES[family][turn % len(_FILES[family])], pool.draw(family), rng.random())
        for family, number in wanted.items()
        for turn in range(number)
    ]


def _plant(
    planter: Planter, keepers: Sequence[Draft], held_out: Mapping[str, list[Problem]], counts: BlemishCounts
) -> list[Draft]:
    planted = [
        *planter.exact_duplicates(counts.num_exact_duplicates),
        *planter.near_duplicates(counts.num_near_duplicates),
        *planter.keep_twins(counts.num_keep_pairs),
        *planter.urls(counts.num_urls),
        *planter.images(counts.num_images),
        *planter.proofs(counts.num_proofs),
        *planter.multi_part(counts.num_multi_part),
        *planter.incomplete(counts.num_incomplete),
        *planter.leaks([problem for problems in held_out.values() for problem in problems], counts),
        *planter.code_faults(counts),
    ]
    num_math_rows = sum(draft.file in MATH_FILES for draft in (*keepers, *planted))
    planter.mislabel(num_math_rows, counts.wrong_label_rate)
    return [*planted, *planter.unclear(counts.num_unclear), *planter.bound_choices(counts.num_bound_choices)]


def _assemble(drafts: Sequence[Draft], held_out: Mapping[str, list[Problem]]) -> Corpus:
    by_file: dict[str, list[Draft]] = defaultdict(list)
    for draft in sorted(drafts, key=lambda draft: draft.place):
        by_file[draft.file].append(draft)
    return Corpus(
        raw={file: [row(draft, i) for i, draft in enumerate(by_file[file])] for file, row in RAW_LAYOUTS.items()},
        benchmarks={
            file: [row(problem, i) for i, problem in enumerate(held_out[file])]
            for file, row in BENCHMARK_LAYOUTS.items()
        },
        truth=_tell_truth(by_file, held_out),
    )


def _tell_truth(by_file: Mapping[str, list[Draft]], held_out: Mapping[str, list[Problem]]) -> Truth:
    refs = {draft: RowRef(file, row) for file, drafts in by_file.items() for row, draft in enumerate(drafts)}
    leaked = {item.key: RowRef(file, row) for file, items in held_out.items() for row, item in enumerate(items)}
    blemishes = {}
    for draft, ref in refs.items():
        if draft.blemish is not None:
            origin = refs[draft.origin] if draft.origin else None
            if draft.blemish is BlemishKind.BENCHMARK_LEAK:
                origin = leaked[draft.problem.key]
            blemishes[ref] = Blemish(ref, draft.blemish, draft.variant, origin, draft.right_answer)
    pairs = [KeepPair(refs[draft.origin], ref) for draft, ref in refs.items() if draft.origin and draft.blemish is None]
    return Truth(blemishes=blemishes, keep_pairs=tuple(pairs))
