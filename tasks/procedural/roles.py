"""What the scripted stand-in says in each of its roles: pure functions of a conversation and a sample index."""

import json
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import pairwise
from random import Random
from typing import NamedTuple

from pydantic import Field

from infra.config import Config
from tasks.procedural.families.multiple_choice import stem_of
from tasks.procedural.families.problem import FamilyName, Solution, Style
from tasks.procedural.layout import render_response
from tasks.procedural.solver import solve

_CANNOT = "I cannot solve this."
_SPEAKER = re.compile(r"^(?:user|human|assistant|gpt)\s*:\s*", re.IGNORECASE | re.MULTILINE)
_ANSWER_PART = re.compile(r"<answer>\n?(.*?)\n?</answer>", re.DOTALL)
_WORD = re.compile(r"\w+")


class StandInConfig(Config):
    """How good the scripted teacher and judges are, and how they talk."""

    error_rate: float = Field(default=0.08, ge=0, le=1, description="Chance that a teacher's sample ends in a mistake")
    direct_share: float = Field(default=0.2, ge=0, le=1, description="Share of teacher's samples without steps")
    misjudging_rate: float = Field(default=0.05, ge=0, le=1, description="Chance that a judge's vote is the wrong one")
    garbled_rate: float = Field(default=0.02, ge=0, le=1, description="Chance that a judge's reply holds no rating")


class Role(StrEnum):
    """The part that a model name asks for: `scripted-stand-in/<role>`."""

    TEACHER = "teacher"
    ARBITER = "arbiter"
    JUDGE = "judge"
    SECOND_JUDGE = "second-judge"
    REWRITER = "rewriter"
    REWARD_MODEL = "reward-model"


class Ask(NamedTuple):
    """One sample that is wanted: what was said, and which draw of it this is."""

    prompt: str
    """The last user message."""
    seed: int
    temperature: float
    sample_index: int

    def rng(self) -> Random:
        """Independent between samples; at temperature 0 every sample is the same."""
        index = self.sample_index if self.temperature > 0 else 0
        return Random(f"{self.prompt}/{self.seed}/{index}")

    def own_rng(self, role: Role) -> Random:
        """As `rng`, apart by role, and the same for sample i of seed s as for sample 0 of seed s + i.

        A caller that asks for further samples in a second request gets those that one request would have given.
        """
        index = self.sample_index if self.temperature > 0 else 0
        return Random(f"{role}/{self.prompt}/{self.seed + index}")


def speak(role: Role, ask: Ask, config: StandInConfig) -> str:
    """The text of one sample."""
    return _ROLES[role](ask, config)


def _teach(ask: Ask, config: StandInConfig) -> str:
    """Solve the question in a style of the sample's own, now and then with a mistake."""
    solution = _solve_prompt(ask.prompt)
    if solution is None:
        return render_response((), _CANNOT)
    rng = ask.rng()
    style = Style.DIRECT if rng.random() < config.direct_share else Style.STEPS
    is_wrong = rng.random() < config.error_rate
    return (solution.with_slip(rng) if is_wrong else solution).render(style)


def _arbitrate(ask: Ask, config: StandInConfig) -> str:
    """Always right."""
    solution = _solve_prompt(ask.prompt)
    return render_response((), _CANNOT) if solution is None else solution.render(Style.STEPS)


def _judge(ask: Ask, config: StandInConfig) -> str:
    return _vote(Role.JUDGE, ask, config)


def _judge_again(ask: Ask, config: StandInConfig) -> str:
    return _vote(Role.SECOND_JUDGE, ask, config)


def _vote(role: Role, ask: Ask, config: StandInConfig) -> str:
    """A query is valid when a family reads it as a complete question; now and then a vote is wrong, or none."""
    rng = ask.own_rng(role)
    if rng.random() < config.garbled_rate:
        return "<reasons>The question"
    solution = _solve_query(_query_in(ask.prompt))
    is_valid = (solution is not None) is not (rng.random() < config.misjudging_rate)
    told = f"A complete {solution.family} question." if solution else "The question is incomplete or unclear."
    return f"<reasons>{told}</reasons>\n<rating>{'valid' if is_valid else 'invalid'}</rating>"


def _rewrite(ask: Ask, config: StandInConfig) -> str:
    """Turn multiple choice into fill-in-the-blank: the stem, and the text of the right option as its answer."""
    stem = stem_of(_query_in(ask.prompt))
    fact = solve(stem) if stem else None
    if stem is None or fact is None:
        told, question, answer = "Not a multiple-choice question that stands without its options.", "none", "none"
    else:
        told, question, answer = "The stem is complete without its options.", stem, fact.answer
    return f"<reason>{told}</reason>\n<question>{question}</question>\n<answer>{answer}</answer>"


def _score(ask: Ask, config: StandInConfig) -> str:
    """Score a response in [0, 1] by three questions: does it answer, is it right, does it stutter."""
    response = _tagged("response", ask.prompt) or ""
    answer = _answer_of(response)
    scores = {
        "helpfulness": 0.0 if not answer or _CANNOT in answer else 1.0,
        "correctness": _correctness(_solve_query(_query_in(ask.prompt)), answer),
        "coherence": _coherence(answer),
    }
    return json.dumps(scores)


_ROLES: Mapping[Role, Callable[[Ask, StandInConfig], str]] = {
    Role.TEACHER: _teach,
    Role.ARBITER: _arbitrate,
    Role.JUDGE: _judge,
    Role.SECOND_JUDGE: _judge_again,
    Role.REWRITER: _rewrite,
    Role.REWARD_MODEL: _score,
}


def _tagged(tag: str, prompt: str) -> str | None:
    # Greedy: a response may hold the closing tag of its own prompt, and the last one closes.
    found = re.search(rf"<{tag}>\n?(.*)\n?</{tag}>", prompt, re.DOTALL)
    return found[1].strip() if found else None


def _query_in(prompt: str) -> str:
    return _tagged("query", prompt) or prompt


def _solve_query(query: str) -> Solution | None:
    """Solve a query; of a written-out conversation, its last turn."""
    return solve(query) or solve(_SPEAKER.split(query)[-1].strip())


def _solve_prompt(prompt: str) -> Solution | None:
    """Solve a prompt; what follows a blank line may be a wish about the form of the answer."""
    query = _query_in(prompt)
    return _solve_query(query) or solve(query.strip().partition("\n\n")[0])


def _answer_of(response: str) -> str:
    found = _ANSWER_PART.search(response)
    return (found[1] if found else response.rpartition("</think>")[2]).strip()


def _correctness(solution: Solution | None, answer: str) -> float:
    if solution is None:
        return 0.5  # nothing to compare with: neither right nor wrong
    if solution.family is not FamilyName.CHAT:
        return float(solution.answer_part() in answer)
    wanted, said = set(_words(solution.answer)), set(_words(answer))
    return round(2 * len(wanted & said) / (len(wanted) + len(said)), 3) if said else 0.0


def _coherence(answer: str) -> float:
    """Share of words that do not repeat the word before."""
    words = _words(answer)
    if not words:
        return 0.0
    stutters = sum(left == right for left, right in pairwise(words))
    return round(1 - stutters / len(words), 3)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
