"""Each adapter on a row of its source's shape; errors name source, row and field."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tasks.ingest.adapters.labels import label, whole_number
from tasks.ingest.adapters.registry import ADAPTERS, find_adapter
from tasks.ingest.config import BenchmarkConfig, IngestConfig, SourceConfig
from tasks.ingest.conversion import IngestReason, RowError, content_id, convert_file
from tasks.ingest.native import Draft, NativeRow, RawFileError, read_rows
from tasks.records import Domain


def draft_of(adapter: str, row: dict[str, Any]) -> Draft:
    return find_adapter(adapter)(NativeRow(row))


def source_of(file: str, adapter: str, **fields: Any) -> SourceConfig:
    return SourceConfig(name="toy", file=file, adapter=adapter, license="MIT", **fields)


def write_lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


MATH_ROWS: list[tuple[str, dict[str, Any], str | None]] = [
    ("gsm8k", {"question": "How many?", "answer": "10*120 = <<10*120=1200>>1200\n#### 1,200"}, "1200"),
    ("gsm8k", {"question": "How many?", "answer": "no label"}, None),
    (
        "hendrycks_math",
        {"problem": "What is 1+1?", "answer": "$\\frac12$", "difficulty": 1.0, "type": "Algebra"},
        "\\frac12",
    ),
    (
        "math500",
        {"problem": "What?", "solution": "It is 3.", "answer": "3", "subject": "Algebra", "unique_id": "u"},
        "3",
    ),
    ("aime", {"problem": "Find it.", "solution": "So 25.", "answer": "025", "year": 1983}, "25"),
    ("aimo", {"id": 0, "question": "Find it.", "answer": 142.0, "url": "u", "solution": None}, "142"),
    ("amc", {"problem": "Find it.", "answer": 2.5, "url": "u", "difficulty": 2.0}, "2.5"),
    ("gaokao", {"source": "s", "question": "Find it.", "lang": "en", "answer": "$84$"}, "84"),
    ("minerva", {"problem": "Find it.", "solution": "s", "type": "t", "idx": 9, "answer": ["9.6\n", "9.60"]}, "9.6"),
    ("minif2f", {"informal_statement": "Show that it is 3.", "informal_proof": "p", "header": "h"}, None),
    ("olympiadbench", {"problem": "P?", "context": None, "answer": ["$2n$"], "solution": ["s"], "unit": None}, "2n"),
    ("aime_verl", {"prompt": [{"role": "user", "content": "Find it."}], "reward_model": {"ground_truth": "073"}}, "73"),
    (
        "aime_verl",
        {"prompt": [{"role": "user", "content": "F."}], "reward_model": {"ground_truth": "336^\\circ"}},
        "336",
    ),
    ("scibench", {"problem_text": "P?", "answer_number": "+65.49", "unit": "$\\mathrm{kJ}$ ", "source": "a"}, "+65.49"),
]


@pytest.mark.parametrize(("adapter", "row", "answer"), MATH_ROWS)
def test_labels_of_math_and_science(adapter: str, row: dict[str, Any], answer: str | None) -> None:
    assert draft_of(adapter, row).answer == answer


def test_deepmath_asks_the_question_without_the_system_turn() -> None:
    turns = [{"role": "system", "content": "Box it."}, {"role": "user", "content": "Find x."}]
    row = {"id": "1", "prompt": "Find x.", "messages": json.dumps(turns), "ground_truth": "1"}
    draft = draft_of("deepmath", row)
    assert [(m.role, m.content) for m in draft.messages] == [("user", "Find x.")]
    multi = draft_of("multi_subject", row | {"prompt": "Box it."})
    assert multi.messages[0].content == "Find x."
    assert multi.domain is Domain.SCIENCE


def test_aime_verl_takes_off_the_closing_sentence() -> None:
    text = "Find $xy$. Let's think step by step and output the final answer within \\boxed{}."
    row = {"prompt": [{"role": "user", "content": text}], "reward_model": {"ground_truth": "025"}}
    assert draft_of("aime_verl", row).messages[0].content == "Find $xy$."


def test_multiple_choice_shows_lettered_options_and_keeps_the_stem() -> None:
    row = {"question": "Which?", "A": "one", "B": "two", "C": "three", "D": "four", "answer": "D", "subject": "s"}
    draft = draft_of("mmlu_mcq", row)
    assert draft.messages[0].content == "Which?\n\nA. one\nB. two\nC. three\nD. four"
    assert (draft.answer, draft.choices, draft.stem) == ("D", ("one", "two", "three", "four"), "Which?")
    assert draft_of("mmlu_stem", {"question": "Q", "choices": ["x", "y"], "answer": 1}).answer == "B"
    sat = draft_of("agieval_math", {"passage": "", "question": "Q", "options": ["(A)2", "(B)4"], "label": "B"})
    assert (sat.answer, sat.choices) == ("B", ("2", "4"))
    logic = {
        "passage": "P.",
        "question": "Q?",
        "options": ["(A)x", "(B)y"],
        "label": "A",
        "answer": None,
        "other": None,
    }
    logiqa = draft_of("agieval", logic)
    assert (logiqa.stem, logiqa.choices, logiqa.domain) == ("P.\n\nQ?", ("x", "y"), Domain.SCIENCE)
    qasc = draft_of("qasc", {"question": "Q?\\nOptions:\\n- (A) DNA\\n- (B) sex", "answer": "(B)", "rationale": "r"})
    assert (qasc.answer, qasc.choices, qasc.stem, qasc.solution) == ("B", ("DNA", "sex"), "Q?", "r")


def test_mbpp_shows_its_tests_and_checks_the_hidden_ones_too() -> None:
    row = {
        "text": "Add.",
        "code": "def f(): pass\r\n",
        "test_setup_code": "n = 1\r\n",
        "test_list": ["assert f(1) == 1"],
    }
    draft = draft_of("mbpp", row | {"challenge_test_list": ["assert f(2) == 2"], "task_id": 1})
    assert draft.messages[0].content == "Add.\n\nYour code should pass these tests:\n\nassert f(1) == 1"
    asserts = ["assert f(1) == 1", "assert f(2) == 2"]
    assert draft.tests == {"kind": "assert", "setup": "n = 1\n", "asserts": asserts}
    assert draft_of("mbpp", row | {"challenge_test_list": [], "test_list": []}).tests is None
    clean = draft_of(
        "mbpp_sanitized", {"prompt": "Add.", "code": "c", "test_imports": ["import math"], "test_list": ["assert f()"]}
    )
    assert clean.tests == {"kind": "assert", "setup": "import math", "asserts": ["assert f()"]}


def test_leetcode_checks_become_one_assert_a_case() -> None:
    body = "    assert candidate(n = 1) == [0]\n    assert candidate(n = 2) == 3\n"
    check = f"def check(candidate):\n{body}\n\ncheck(Solution().go)"
    draft = draft_of("leetcode", {"problem": "P", "solutions": "class Solution: ...", "tests": {"functional": check}})
    assert draft.tests is not None
    assert draft.tests["asserts"] == ["assert Solution().go(n=1) == [0]", "assert Solution().go(n=2) == 3"]
    pairs = 'my_solution = Solution()\n\ntest_input = { "w": "a" }\nassert my_solution.go(**test_input) == 5\n'
    weekly = draft_of("leetcode_weekly", {"prompt_sft": "P", "test": pairs})
    assert weekly.tests is not None
    assert weekly.tests["asserts"] == ["assert Solution().go(**{'w': 'a'}) == 5"]


def test_stdin_tests() -> None:
    contests = draft_of("code_contests", {"problem": "P", "tests": {"inputs": ["1\n"], "outputs": ["2\n"]}})
    forces = draft_of("codeforces", {"problem": "P", "tests": [{"input": "1\n", "output": "2\n"}]})
    assert contests.tests == forces.tests == {"kind": "stdio", "inputs": ["1\n"], "outputs": ["2\n"]}
    assert draft_of("taco", {"prompt": "\nQUESTION:\nAdd.\nANSWER:\n", "output": ["x"]}).messages[0].content == "Add."
    assert draft_of("acecode", {"question": "Q", "test_cases": ["assert f()"]}).tests is not None


def test_humaneval_calls_its_check() -> None:
    row = {
        "prompt": "def f():\n",
        "entry_point": "f",
        "canonical_solution": "    return 1\n",
        "test": "def check(c): ...",
    }
    draft = draft_of("humaneval", row)
    assert draft.tests == {"kind": "assert", "setup": "def check(c): ...", "asserts": ["check(f)"]}
    assert draft.solution == "def f():\n    return 1\n"


def test_ifeval_pairs_ids_with_their_arguments() -> None:
    row = {"key": 1, "prompt": "Write.", "instruction_id_list": ["a:b", "c:d"], "kwargs": [{}, {"n": 3, "m": None}]}
    expected = [{"id": "a:b", "kwargs": {}}, {"id": "c:d", "kwargs": {"n": 3}}]
    assert draft_of("ifeval", row).constraints == expected
    with pytest.raises(ValueError, match="`kwargs` has 1 entries for 2"):
        draft_of("ifeval", row | {"kwargs": [{}]})


def test_sharegpt_ends_with_the_last_user_turn() -> None:
    turns = [("human", "Hi"), ("gpt", "Hello"), ("human", "Who?"), ("gpt", "Me")]
    draft = draft_of("sharegpt", {"conversations": [{"from": who, "value": said} for who, said in turns]})
    assert [m.role for m in draft.messages] == ["user", "assistant", "user"]
    assert draft.solution == "Me"
    chosen = {"from": "gpt", "value": "good"}
    pair = draft_of(
        "preference", {"conversations": [{"from": "human", "value": "Hi"}], "chosen": chosen, "rejected": {}}
    )
    assert pair.solution == "good"


def test_plain_prompts() -> None:
    rows: dict[str, dict[str, Any]] = {
        "followbench": {"instruction": "Do.", "target": ""},
        "autoif": {"prompt": "Do.", "eval_func": [["code", 1.0]]},
        "tulu_eval_instances": {"prompt": "Do.", "completions": []},
        "alpaca": {"instruction": "Do.", "input": "", "output": "Done."},
        "self_instruct": {"instruction": "Do.", "instances": [{"input": "", "output": "Done."}]},
        "mt_bench": {"turns": ["Do.", "Again."], "category": "c"},
        "evol_instruct": {"Instruction": "Do.", "Skill": "Math"},
        "arena_hard": {"uid": "1", "prompt": "Do."},
    }
    for adapter, row in rows.items():
        assert draft_of(adapter, row).messages[0].content == "Do.", adapter


def test_every_adapter_is_tried() -> None:
    text = Path(__file__).read_text() + (Path(__file__).parent / "test_ingest_hub_adapters.py").read_text()
    assert [name for name in ADAPTERS if f'"{name}"' not in text] == []


def test_labels() -> None:
    assert [label(v) for v in (142.0, 2.5, "$ 7 $", "$1$ and $2$", "", None)] == [
        "142",
        "2.5",
        "7",
        "$1$ and $2$",
        None,
        None,
    ]
    assert [whole_number(v) for v in ("025", 142.0, "336^{\\circ}", "x+1")] == ["25", "142", "336", "x+1"]


def test_queries_carry_source_licence_and_unknown_fields(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"question": "How many?", "answer": "#### 3", "extra": [1, None]})
    (query, reason), *_ = convert_file(path, source_of("a.jsonl", "gsm8k", domain=Domain.SCIENCE))
    assert reason is None
    assert (query.source, query.license, query.domain, query.meta) == (
        "toy",
        "MIT",
        Domain.SCIENCE,
        {"extra": [1, None]},
    )


def test_ids_name_the_content_and_tell_equal_rows_apart(tmp_path: Path) -> None:
    row = {"question": "How many?", "answer": "#### 3"}
    path = write_lines(tmp_path / "a.jsonl", row, {"answer": "#### 3", "question": "How many?"}, {**row, "n": 1}, row)
    names = [query.id for query, _ in convert_file(path, source_of("a.jsonl", "gsm8k"))]
    assert names == [content_id("toy", row), f"{names[0]}#2", content_id("toy", {**row, "n": 1}), f"{names[0]}#3"]
    assert content_id("other", row) != names[0]


def test_unusable_rows_have_a_reason(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "a.jsonl", {"question": "  ", "answer": "#### 3"}, {"question": "\ud800?", "answer": "#### 3"}
    )
    found = [reason for _, reason in convert_file(path, source_of("a.jsonl", "gsm8k"))]
    assert found == [IngestReason.EMPTY_PROMPT, IngestReason.INVALID_UNICODE]
    path = write_lines(tmp_path / "b.jsonl", {"conversations": [{"from": "gpt", "value": "Hi"}]})
    assert [reason for _, reason in convert_file(path, source_of("b.jsonl", "sharegpt"))] == [IngestReason.NO_USER_TURN]


def test_limit_reads_from_the_top(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", *({"question": f"{n}?", "answer": "#### 3"} for n in range(5)))
    assert [query.prompt for query, _ in convert_file(path, source_of("a.jsonl", "gsm8k", limit=2))] == ["0?", "1?"]


def test_a_missing_field_names_source_row_and_field(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", {"question": "?", "answer": "#### 3"}, {"question": "?"})
    with pytest.raises(RowError, match=r"source toy \(a.jsonl\), row 2: field `answer` is missing; .*adapter `gsm8k`"):
        list(convert_file(path, source_of("a.jsonl", "gsm8k")))
    path = write_lines(tmp_path / "b.jsonl", {"question": 3, "answer": "#### 3"})
    with pytest.raises(RowError, match="row 1: field `question` is int, not text"):
        list(convert_file(path, source_of("b.jsonl", "gsm8k")))


def test_a_corrupt_line_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "?"}\n\n{"question": \n')
    with pytest.raises(RawFileError, match=r"raw/a.jsonl, line 3: not JSON"):
        list(read_rows(path, "raw/a.jsonl"))
    path.write_text("[1]\n")
    with pytest.raises(RawFileError, match="line 1: list instead of an object"):
        list(read_rows(path, "a.jsonl"))


def test_parquet_gives_the_same_rows_as_json_lines(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": "#### 3", "score": float("nan")} for n in range(3000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=500)
    write_lines(tmp_path / "a.jsonl", *rows)
    assert list(read_rows(tmp_path / "a.parquet", "a.parquet")) == list(read_rows(tmp_path / "a.jsonl", "a.jsonl"))


def test_configs_refuse_what_cannot_work() -> None:
    with pytest.raises(ValidationError, match="no adapter `gsm9k`; known: acecode"):
        source_of("a.jsonl", "gsm9k")
    with pytest.raises(ValidationError):
        source_of("a.csv", "gsm8k")
    twice = BenchmarkConfig(name="toy", file="b.jsonl", adapter="gsm8k")
    with pytest.raises(ValidationError, match="toy occur twice"):
        IngestConfig(sources=(source_of("a.jsonl", "gsm8k"),), benchmarks=(twice,))
    assert find_adapter("tasks.ingest.adapters.code:taco") is ADAPTERS["taco"]
