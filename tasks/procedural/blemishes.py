"""Faults planted among good rows: each function makes the rows of one kind, and says what it did to them."""

import math
import re
from collections.abc import Iterator
from random import Random

from tasks.procedural.config import BlemishCounts
from tasks.procedural.families import multiple_choice
from tasks.procedural.families.problem import FamilyName, Problem, misread
from tasks.procedural.families.wording import reword
from tasks.procedural.native import MATH_FILES, Draft
from tasks.procedural.pool import ProblemPool
from tasks.procedural.truth import BlemishKind

_IMAGES = {
    "markdown": "{} ![](figure_{}.png)",
    "tag": "<image> {}",
    "asy": "{} [asy] draw((0,0)--({},1)); [/asy]",
    "phrase": "{} Use the numbers as shown in the figure.",
}


_UNCLEAR = {
    "missing number": "some number",
    "dangling reference": "the number from before",
    "distraction": None,  # the question stays whole, and a remark stands in it
}


class Planter:
    """Plants every kind of blemish; an origin is used once, so that a row is touched by one blemish at most."""

    def __init__(self, rng: Random, pool: ProblemPool, keepers: list[Draft]) -> None:
        self._rng = rng
        self._pool = pool
        self._free = [draft for draft in keepers if draft.file in MATH_FILES]
        rng.shuffle(self._free)

    def exact_duplicates(self, number: int) -> Iterator[Draft]:
        """Copies within and across files, equal once case and whitespace are normalised."""
        for turn in range(number):
            variant = ("verbatim", "recased", "respaced")[turn % 3]
            origin = self._take_origin()
            yield self._copy(origin, BlemishKind.EXACT_DUPLICATE, variant, _disguise(origin.text, variant, self._rng))

    def near_duplicates(self, number: int) -> Iterator[Draft]:
        """Copies with one word changed and the same numbers; chains only, for one word of five is no near copy."""
        for _ in range(number):
            origin = self._take_origin(FamilyName.ARITHMETIC)
            yield self._copy(origin, BlemishKind.NEAR_DUPLICATE, "reworded", reword(origin.text, self._rng, 1))

    def keep_twins(self, number: int) -> Iterator[Draft]:
        """Rows without blemish: an origin's sentence with one other number."""
        while number:
            origin = self._take_origin(FamilyName.ARITHMETIC)
            if twin := self._pool.draw_twin(origin.problem):
                draft = Draft.of(origin.file, twin, self._rng.random())
                draft.origin = origin
                yield draft
                number -= 1

    def urls(self, number: int) -> Iterator[Draft]:
        """Questions that send the reader to a page."""
        for problem in self._fresh(number):
            page = self._rng.randint(1, 999)
            yield self._spoilt(problem, BlemishKind.URL, "url", f"{problem.text} See https://example.com/page/{page}.")

    def images(self, number: int) -> Iterator[Draft]:
        """Questions that show or mention a picture, in the four ways that real rows have."""
        for turn, problem in enumerate(self._fresh(number)):
            variant = tuple(_IMAGES)[turn % len(_IMAGES)]
            text = _IMAGES[variant].format(problem.text, self._rng.randint(1, 99))
            yield self._spoilt(problem, BlemishKind.IMAGE, variant, text)

    def proofs(self, number: int) -> Iterator[Draft]:
        """Statements to be proved, each with a plausible label."""
        for turn, problem in enumerate(self._fresh(number)):
            opening = ("Prove that", "Show that")[turn % 2]
            statement = " and ".join(problem.solution.steps)
            yield self._spoilt(problem, BlemishKind.PROOF, opening, f"{opening} {statement}.")

    def multi_part(self, number: int) -> Iterator[Draft]:
        """Two questions in one row, of which the label answers the second."""
        for first, second in zip(self._fresh(number), self._fresh(number), strict=True):
            yield self._spoilt(second, BlemishKind.MULTI_PART, "(a) (b)", f"(a) {first.text} (b) {second.text}")

    def incomplete(self, number: int) -> Iterator[Draft]:
        """Questions cut off between half and three quarters of their words; no two break off alike."""
        seen: set[str] = set()
        while len(seen) < number:
            (problem,) = self._fresh(1)
            words = problem.text.split()
            text = " ".join(words[: self._rng.randint(len(words) // 2, len(words) * 3 // 4)])
            if text not in seen:
                seen.add(text)
                yield self._spoilt(problem, BlemishKind.INCOMPLETE, "cut off", text)

    def unclear(self, number: int) -> Iterator[Draft]:
        """Questions that lack a number, point at what is not there, or carry a remark that does not belong to them."""
        for turn in range(number):
            variant = tuple(_UNCLEAR)[turn % len(_UNCLEAR)]
            problem = self._pool.draw(FamilyName.ARITHMETIC)
            stands_in = _UNCLEAR[variant]
            if stands_in is None:
                first, space, rest = problem.text.partition(" ")
                text = f"{first} (log in to vote, {turn + 2} users did){space}{rest}"
            else:
                text = re.sub(r"\d+", stands_in, problem.text, count=1)
            yield self._spoilt(problem, BlemishKind.UNCLEAR, variant, text)

    def bound_choices(self, number: int) -> Iterator[Draft]:
        """Multiple choice that asks about its options."""
        for turn in range(number):
            stem = tuple(multiple_choice.BOUND_STEMS)[turn % len(multiple_choice.BOUND_STEMS)]
            problem = multiple_choice.make_bound(self._rng, stem)
            draft = Draft.of("mmlu_science_val.jsonl", problem, self._rng.random())
            draft.blemish, draft.variant = BlemishKind.BOUND_CHOICE, stem
            yield draft

    def leaks(self, held_out: list[Problem], counts: BlemishCounts) -> Iterator[Draft]:
        """Benchmark questions among the training rows; each leaks once, and reworded ones are chains."""
        chains = [problem for problem in held_out if problem.solution.family is FamilyName.ARITHMETIC]
        reworded = self._sample(chains, counts.num_reworded_leaks)
        others = [problem for problem in held_out if problem not in reworded]
        wanted = {
            "verbatim": counts.num_exact_leaks,
            "recased": counts.num_recased_leaks,
            "respaced": counts.num_respaced_leaks,
        }
        variants = [variant for variant, number in wanted.items() for _ in range(number)]
        leaks = [*zip(variants, self._sample(others, len(variants)), strict=True), *(("reworded", p) for p in reworded)]
        for variant, problem in leaks:
            text = _disguise(problem.text, variant, self._rng)
            yield self._spoilt(problem, BlemishKind.BENCHMARK_LEAK, variant, text)

    def code_faults(self, counts: BlemishCounts) -> Iterator[Draft]:
        """Code rows that nothing can verify: no tests, or a reference that fails them."""
        file = "mbpp_train.jsonl"
        for problem in self._pool.draw_many(FamilyName.CODE, counts.num_without_tests):
            draft = Draft.of(file, problem, self._rng.random())
            draft.tests, draft.blemish, draft.variant = (), BlemishKind.NO_TESTS, "empty list"
            yield draft
        for problem in self._pool.draw_many(FamilyName.CODE, counts.num_failing_references):
            draft = Draft.of(file, problem, self._rng.random())
            draft.label = problem.solution.with_slip(self._rng).answer
            draft.blemish, draft.variant = BlemishKind.FAILING_REFERENCE, "wrong value"
            yield draft

    def mislabel(self, num_math_rows: int, rate: float) -> None:
        """Put a wrong label on free keepers, so many that their share of all mathematics rows is `rate` or more."""
        for _ in range(math.ceil(rate * num_math_rows)):
            draft = self._take_origin()
            draft.blemish, draft.variant, draft.right_answer = BlemishKind.WRONG_LABEL, "off by a little", draft.label
            draft.label = misread(int(draft.label), self._rng)

    def _sample(self, problems: list[Problem], number: int) -> list[Problem]:
        if number > len(problems):
            raise ValueError(f"{number} leaks of {len(problems)} held-out questions; leak fewer or hold out more")
        return self._rng.sample(problems, number)

    def _take_origin(self, family: FamilyName | None = None) -> Draft:
        for position in reversed(range(len(self._free))):
            if family in (None, self._free[position].problem.solution.family):
                return self._free.pop(position)
        raise ValueError(
            "more blemishes than mathematics rows to plant them on; plant fewer or raise the family counts"
        )

    def _fresh(self, number: int) -> list[Problem]:
        families = self._rng.choices((FamilyName.ARITHMETIC, FamilyName.EQUATION), weights=(4, 1), k=number)
        return [self._pool.draw(family) for family in families]

    def _spoilt(self, problem: Problem, kind: BlemishKind, variant: str, text: str) -> Draft:
        draft = Draft.of(self._rng.choice(MATH_FILES), problem, self._rng.random())
        draft.text, draft.blemish, draft.variant = text, kind, variant
        return draft

    def _copy(self, origin: Draft, kind: BlemishKind, variant: str, text: str) -> Draft:
        later = MATH_FILES[MATH_FILES.index(origin.file) :]
        draft = self._spoilt(origin.problem, kind, variant, text)
        draft.file = self._rng.choice(later)
        draft.place = self._rng.uniform(origin.place, 1.0) if draft.file == origin.file else draft.place
        draft.origin = origin
        return draft


def _disguise(text: str, variant: str, rng: Random) -> str:
    if variant == "recased":
        return text.upper() if rng.random() < 0.5 else text.lower()
    if variant == "respaced":
        return f" {'  '.join(text.split())}\n"
    return reword(text, rng, 2) if variant == "reworded" else text
