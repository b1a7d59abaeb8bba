"""Where the program stands in a response."""

import pytest

from infra.sandbox.limits import Language
from tasks.rewards.code_fence import CodeBlock, last_code_block

PYTHON, BOTH = frozenset({Language.PYTHON}), frozenset(Language)


def source(text: str, languages: frozenset[Language] = PYTHON) -> str | None:
    block = last_code_block(text, languages)
    return block.source if block else None


@pytest.mark.parametrize("name", ["python", "Python", "py", "python3", "py3", "", "python title=x", "{python}"])
@pytest.mark.parametrize("mark", ["```", "~~~", "````"])
def test_python(name: str, mark: str) -> None:
    assert source(f"text\n{mark}{name}\nx = 1\n{mark}\nend") == "x = 1\n"


@pytest.mark.parametrize("name", ["cpp", "C++", "cxx", "cc", "CPP", "c++17", "cpp20"])
def test_cpp(name: str) -> None:
    text = f"```{name}\nint main() {{}}\n```"
    assert last_code_block(text, BOTH) == CodeBlock("int main() {}\n", Language.CPP)
    assert last_code_block(text, PYTHON) is None


def test_the_last_block_that_names_a_wanted_language() -> None:
    text = "```python\na\n```\n```py\nb\n```\n```\noutput\n```\n```cpp\nc\n```\n```text\nd\n```"
    assert source(text) == "b\n"
    assert source(text, BOTH) == "c\n"
    assert source(text, frozenset({Language.CPP})) == "c\n"


def test_blocks_of_other_languages_and_empty_ones_do_not_count() -> None:
    assert source("```python\na\n```\n```bash\nrun\n```\n```python\n\n```") == "a\n"
    assert source("```json\n{}\n```") is None
    assert source("no block, `x` and ```y``` inline") is None


def test_a_block_without_its_end_mark_reaches_to_the_end() -> None:
    assert source("```python\na\n```\n```python\nb\nc") == "b\nc\n"
    assert source("text ```python\nb") is None


def test_indented_fences_lose_their_indentation() -> None:
    assert source("1. so:\n   ```python\n   def f():\n       return 1\n   ```\n") == "def f():\n    return 1\n"
    assert source("  ```python\nx = 1\n  y\n  ```") == "x = 1\ny\n"


def test_a_longer_fence_holds_a_shorter_one() -> None:
    assert source("````python\ns = '''\n```\n'''\n````") == "s = '''\n```\n'''\n"
    assert source("~~~python\n```\n~~~") == "```\n"


def test_line_ends_of_windows() -> None:
    assert source("```python\r\nx = 1\r\n```\r\n") == "x = 1\n"
