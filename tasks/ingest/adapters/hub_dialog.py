"""Instruction following and chat as the hub's data sets publish them. The last reply of a dialog is its solution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.ingest.adapters.labels import user_turn
from tasks.ingest.native import Draft, FieldError, NativeRow
from tasks.records import Domain, Message

_ROLES = {"system", "user", "assistant"}


def messages(row: NativeRow) -> Draft:
    """Turns with role and content (tulu-3-sft-mixture, ultrachat_200k)."""
    return _replied(row, Domain.CHAT)


def messages_if(row: NativeRow) -> Draft:
    """The same where the question sets constraints in words: no rule can check them."""
    return _replied(row, Domain.INSTRUCTION)


def nemotron_if(row: NativeRow) -> Draft:
    """Llama-Nemotron's RL part: IFEval's instructions with their arguments below `args`."""
    args = row.mapping("args")
    ids, kwargs = args.get("instruction_id_list"), args.get("instruction_kwargs")
    if not isinstance(ids, list) or not isinstance(kwargs, list) or len(ids) != len(kwargs):
        raise FieldError("field `args` does not hold as many `instruction_kwargs` as `instruction_id_list`")
    turns = role_turns(row.list("input"), "input")
    return Draft(Domain.INSTRUCTION, turns, constraints=instructions(ids, kwargs))


def open_orca(row: NativeRow) -> Draft:
    """OpenOrca: a system prompt, a question of FLAN, a reply of GPT-3.5 or GPT-4."""
    return _asked(row.text("question"), row.text("system_prompt"), row.text("response"))


def natural_reasoning(row: NativeRow) -> Draft:
    """natural_reasoning: a question with a reference in words; the models' responses are not kept."""
    row.leave("responses")
    return _asked(row.text("question"), "", row.text("reference_answer"))


def flan(row: NativeRow) -> Draft:
    """FLAN: input and target text."""
    return _asked(row.text("inputs"), "", row.text("targets"))


def instructions(ids: list[Any], kwargs: list[Any]) -> list[dict[str, Any]] | None:
    """IFEval's instructions; a table gives each all arguments of all, those of others as None."""
    pairs = zip(ids, kwargs, strict=True)
    found = [
        {"id": name, "kwargs": {key: v for key, v in (given or {}).items() if v is not None}} for name, given in pairs
    ]
    return found or None


def role_turns(turns: Any, field: str) -> tuple[Message, ...]:
    """Turns of a list of {role, content}; a system turn without words is no turn.

    Raises:
        FieldError: it is not such a list.
    """
    if not isinstance(turns, list):
        raise FieldError(f"field `{field}` is {type(turns).__name__}, not a list of turns")
    found = [_turn(turn, field) for turn in turns]
    return tuple(turn for turn in found if turn.content or turn.role != "system")


def _turn(turn: Any, field: str) -> Message:
    if not isinstance(turn, Mapping) or not {"role", "content"} <= turn.keys():
        raise FieldError(f"field `{field}` holds a turn without `role` or `content`")
    if turn["role"] not in _ROLES:
        raise FieldError(f"field `{field}` holds a turn of `{turn['role']}`; known: {', '.join(sorted(_ROLES))}")
    return Message(role=turn["role"], content=str(turn["content"] or "").strip())


def _replied(row: NativeRow, domain: Domain) -> Draft:
    row.leave("prompt")  # ultrachat's copy of the first turn
    turns = role_turns(row.list("messages"), "messages")
    end = max((place for place, turn in enumerate(turns) if turn.role == "user"), default=-1) + 1
    reply = turns[end].content if end < len(turns) else None
    return Draft(domain, turns[:end], solution=reply or None)


def _asked(question: str, system: str, reply: str) -> Draft:
    before = (Message(role="system", content=system.strip()),) if system.strip() else ()
    turn = user_turn(question)
    return Draft(Domain.CHAT, (*before, *turn) if turn else (), solution=reply or None)
