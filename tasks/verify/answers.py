"""The answer in a response, and the comparison of two answers: by the same rules that judge responses."""

from __future__ import annotations

from collections.abc import Sequence

from infra.output import Output
from infra.runtime import Runtime
from tasks.records import Outcome, Query
from tasks.rewards.choice import is_letter_of, letter_of
from tasks.rewards.extract import final_answer
from tasks.rewards.math import MathConfig, MathVerifier
from tasks.verify.votes import Compare, Comparisons, Pair


def answer_of(query: Query, text: str) -> str | None:
    """What a response to a labelled query answers; the option's letter where it is multiple choice. None: no answer."""
    answer = final_answer(text)
    if answer is None or not answer.strip():
        return None
    return letter_of(answer, query.choices) if is_choice(query) else answer


def is_choice(query: Query) -> bool:
    """Is the label the letter of an option?"""
    return is_letter_of(query.answer, query.choices)


def open_comparisons(config: MathConfig, out: Output, runtime: Runtime) -> Comparisons:
    """Comparisons by math_verify's processes, which live as long as the run."""
    verdicts = out.cache("verdicts")  # of the rewarder too: a pair that one compared is known to the other
    verifier = out.resource("math-verifier", lambda: MathVerifier(config, runtime.verifier_processes, verdicts))
    return Comparisons(_compare_with(verifier))


def _compare_with(verifier: MathVerifier) -> Compare:
    def compare(pairs: Sequence[Pair]) -> list[Outcome]:
        return [verdict.outcome for verdict in verifier.compare_all(pairs)]

    return compare
