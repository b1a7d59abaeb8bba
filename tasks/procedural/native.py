"""The field layouts of the public sources: the adapters of `ingest` read this world as they read the real one."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tasks.procedural.families.problem import LETTERS, FamilyName, Problem
from tasks.procedural.truth import BlemishKind

Row = dict[str, object]


@dataclass(slots=True, eq=False)
class Draft:
    """A row before it has an index: a problem, the text and label it is given, and what was done to it."""

    file: str
    problem: Problem
    place: float
    """Rows are ordered by place, from 0 to 1; a copy stands after its origin."""
    text: str
    label: str
    tests: tuple[str, ...] = ()
    blemish: BlemishKind | None = None
    variant: str = ""
    origin: "Draft | None" = None
    right_answer: str | None = None

    @classmethod
    def of(cls, file: str, problem: Problem, place: float) -> "Draft":
        """A row without blemish."""
        return cls(file, problem, place, problem.text, problem.solution.answer, problem.tests)


def gsm8k(draft: Draft, index: int) -> Row:
    """`openai/grade-school-math`: the label stands after `####`; the text before it is no training response."""
    solution = draft.problem.solution
    told = solution.steps if draft.label == solution.answer else solution.ending_in(draft.label).steps
    return {"question": draft.text, "answer": "\n".join([*told, f"#### {draft.label}"])}


def hendrycks(draft: Draft, index: int) -> Row:
    """The MATH train set as rllm has it: answers already extracted."""
    kind = "Algebra" if draft.problem.solution.family is FamilyName.EQUATION else "Prealgebra"
    return {"problem": draft.text, "answer": draft.label, "difficulty": _difficulty(draft), "type": kind}


def deepmath(draft: Draft, index: int) -> Row:
    """DeepMath-103K in chat-message form: every field is a string, the messages too."""
    system = r"Please reason step by step, and put your final answer within \boxed{}."
    messages = [{"role": "system", "content": system}, {"role": "user", "content": draft.text}]
    return {
        "id": str(index + 1),
        "source": "deepmath_103k",
        "difficulty": str(_difficulty(draft)),
        "prompt": draft.text,
        "messages": json.dumps(messages),
        "ground_truth": draft.label,
        "case_type": "",
        "test_case_function": "",
        "test_cases": "",
        "tag": "deepmath_103k",
    }


def mbpp(draft: Draft, index: int) -> Row:
    """MBPP: reference solution and assertions."""
    return {
        "text": draft.text,
        "code": draft.label,
        "task_id": index + 1,
        "test_setup_code": "",
        "test_list": list(draft.tests),
        "challenge_test_list": [],
    }


def mmlu(draft: Draft, index: int) -> Row:
    """MMLU: four options by letter."""
    options = dict(zip(LETTERS, draft.problem.options, strict=True))
    return {
        "subject": "elementary_mathematics",
        "index": index,
        "question": draft.text,
        **options,
        "answer": draft.label,
    }


def tulu_if(draft: Draft, index: int) -> Row:
    """Instruction following with IFEval ids and kwargs."""
    return {
        "key": index,
        "prompt": draft.text,
        "instruction_id_list": list(draft.problem.instruction_ids),
        "kwargs": list(draft.problem.kwargs),
    }


def fastchat(draft: Draft, index: int) -> Row:
    """ShareGPT conversations, ended by the model's turn."""
    says = (*draft.problem.history, draft.text, draft.label)
    turns = [{"from": ("human", "gpt")[position % 2], "value": said} for position, said in enumerate(says)]
    return {"id": f"chat_{index}", "conversations": turns}


def math500(problem: Problem, index: int) -> Row:
    """MATH-500."""
    subject = "Algebra" if problem.solution.family is FamilyName.EQUATION else "Prealgebra"
    steps = problem.solution.steps
    return {
        "problem": problem.text,
        "solution": "\n".join([*steps, problem.solution.answer_part()]),
        "answer": problem.solution.answer,
        "subject": subject,
        "level": min(5, len(steps)),
        "unique_id": f"test/{subject.lower()}/{index}.json",
    }


def gsm8k_test(problem: Problem, index: int) -> Row:
    """The test split of GSM8K."""
    return gsm8k(Draft.of("gsm8k_test.jsonl", problem, 0.0), index)


# In the order in which a reader of the folder meets them: a copy across files stands in a later one.
RAW_LAYOUTS: Mapping[str, Callable[[Draft, int], Row]] = {
    "gsm8k_train.jsonl": gsm8k,
    "hendrycks_math.jsonl": hendrycks,
    "deepmath.jsonl": deepmath,
    "mbpp_train.jsonl": mbpp,
    "mmlu_science_val.jsonl": mmlu,
    "tulu_if.jsonl": tulu_if,
    "fastchat_dummy.jsonl": fastchat,
}
MATH_FILES = ("gsm8k_train.jsonl", "hendrycks_math.jsonl", "deepmath.jsonl")
BENCHMARK_LAYOUTS: Mapping[str, Callable[[Problem, int], Row]] = {
    "math500.jsonl": math500,
    "gsm8k_test.jsonl": gsm8k_test,
}


def _difficulty(draft: Draft) -> float:
    return float(len(draft.problem.solution.steps))
