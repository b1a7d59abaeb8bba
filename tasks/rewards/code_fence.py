"""The fenced block of a response that holds its program, and the language that the fence names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from infra.sandbox.limits import Language

# Spellings of a fence's language; compared in lower case.
SPELLINGS = {
    **dict.fromkeys(("python", "python3", "py", "py3"), Language.PYTHON),
    **dict.fromkeys(("cpp", "c++", "cxx", "cc", "cpp17", "cpp20", "c++17", "c++20"), Language.CPP),
}
_MARK = re.compile(r"^([ \t]*)(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*$")


class CodeBlock(NamedTuple):
    """A fenced block. `language` is None where the fence names none."""

    source: str
    language: Language | None


class _Fence(NamedTuple):
    """Where a block begins: `indent` is taken off its lines, `mark` (or more of it) ends it."""

    indent: str
    mark: str
    name: str

    def is_closed_by(self, line: str) -> bool:
        mark = line.strip()
        return len(mark) >= len(self.mark) and set(mark) == {self.mark[0]}

    def outdented(self, line: str) -> str:
        width = next((at for at, sign in enumerate(line) if sign not in " \t"), len(line))
        return line[min(width, len(self.indent)) :]


def last_code_block(text: str, languages: frozenset[Language]) -> CodeBlock | None:
    """The last block in one of `languages`; where no fence names one of them, the last block without a name.

    A block whose end mark is missing reaches to the end of the text and counts: many models stop after the program's
    last line, and a program that was cut off fails its tests anyhow. A block of another language (`text`, `bash`)
    never counts, so that sample output after the program is not taken for it.
    """
    blocks = list(_blocks(text.replace("\r\n", "\n")))
    named = [block for block in blocks if block.language in languages]
    bare = [block for block in blocks if block.language is None]
    return next(reversed(named or bare), None)


def _blocks(text: str) -> Iterator[CodeBlock]:
    """Blocks of text in order, without empty ones and those that name a language that is not ours."""
    fence: _Fence | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        if fence is None:
            fence, lines = _opened(line), []
        elif fence.is_closed_by(line):
            yield from _block(fence, lines)
            fence = None
        else:
            lines.append(fence.outdented(line))
    if fence is not None:
        yield from _block(fence, lines)


def _opened(line: str) -> _Fence | None:
    found = _MARK.match(line)
    return _Fence(found[1], found[2], found[3].strip("{}.,:;").lower()) if found else None


def _block(fence: _Fence, lines: list[str]) -> Iterator[CodeBlock]:
    source = "\n".join(lines)
    if source.strip() and (not fence.name or fence.name in SPELLINGS):
        yield CodeBlock(source.rstrip("\n") + "\n", SPELLINGS.get(fence.name))
