"""Sources of instruction following and chat."""

from __future__ import annotations

from typing import Any

from tasks.ingest.adapters.labels import user_turn
from tasks.ingest.native import Draft, FieldError, NativeRow
from tasks.records import Domain, Message

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def ifeval(row: NativeRow) -> Draft:
    """IFEval and IFBench: verifiable instructions by id, each with its arguments."""
    ids, kwargs = row.list("instruction_id_list"), row.list("kwargs")
    if len(ids) != len(kwargs):
        raise FieldError(f"field `kwargs` has {len(kwargs)} entries for {len(ids)} instructions")
    constraints = [
        {"id": name, "kwargs": {key: value for key, value in (given or {}).items() if value is not None}}
        for name, given in zip(ids, kwargs, strict=True)
    ]
    return Draft(Domain.INSTRUCTION, user_turn(row.text("prompt")), constraints=constraints or None)


def followbench(row: NativeRow) -> Draft:
    """FollowBench: levels 0 to 5 of one example differ by a constraint; none is checkable by a rule."""
    return Draft(Domain.INSTRUCTION, user_turn(row.text("instruction")), solution=row.text("target") or None)


def autoif(row: NativeRow) -> Draft:
    """AutoIF: the checking functions (`eval_func`) are untrusted code and stay in the meta as text."""
    return Draft(Domain.INSTRUCTION, user_turn(row.text("prompt")))


def sharegpt(row: NativeRow) -> Draft:
    """ShareGPT conversations: the dialog ends with the last user turn; the reply to it is the solution."""
    return _dialog(row.list("conversations"))


def preference(row: NativeRow) -> Draft:
    """Preference pairs on a conversation: the chosen reply is the solution, the rejected one stays in the meta."""
    chosen = row.mapping("chosen")
    draft = _dialog(row.list("conversations"))
    return Draft(draft.domain, draft.messages, solution=str(chosen.get("value") or "") or None)


def tulu_eval_instances(row: NativeRow) -> Draft:
    """Tulu's human evaluation: a prompt with the completions of two models, which stay in the meta."""
    return Draft(Domain.CHAT, user_turn(row.text("prompt")))


def alpaca(row: NativeRow) -> Draft:
    """Alpaca: an instruction with an optional input below it."""
    prompt = f"{row.text('instruction')}\n\n{row.text('input')}"
    return Draft(Domain.CHAT, user_turn(prompt), solution=row.text("output") or None)


def self_instruct(row: NativeRow) -> Draft:
    """Self-Instruct seeds: an instruction and its first instance."""
    first: dict[str, Any] = next(iter(row.list("instances")), {})
    prompt = f"{row.text('instruction')}\n\n{first.get('input') or ''}"
    return Draft(Domain.CHAT, user_turn(prompt), solution=first.get("output") or None)


def mt_bench(row: NativeRow) -> Draft:
    """MT-Bench: the first turn is asked; the follow-up stays in the meta."""
    turns = [str(turn) for turn in row.list("turns")]
    return Draft(Domain.CHAT, user_turn(turns[0] if turns else ""), meta={"follow_ups": turns[1:]})


def evol_instruct(row: NativeRow) -> Draft:
    """Evol-Instruct prompts with skill and difficulty."""
    return Draft(Domain.CHAT, user_turn(row.text("Instruction")))


def arena_hard(row: NativeRow) -> Draft:
    """Arena-Hard questions, either version."""
    return Draft(Domain.CHAT, user_turn(row.text("prompt")))


def _dialog(turns: list[Any]) -> Draft:
    messages = [_message(turn) for turn in turns]
    asked = [place for place, message in enumerate(messages) if message.role == "user"]
    if not asked:
        return Draft(Domain.CHAT, ())
    end = asked[-1] + 1
    reply = messages[end].content if end < len(messages) else None
    return Draft(Domain.CHAT, tuple(messages[:end]), solution=reply or None)


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict) or not {"from", "value"} <= turn.keys():
        raise FieldError("field `conversations` holds a turn without `from` or `value`")
    if turn["from"] not in _ROLES:
        raise FieldError(f"field `conversations` holds a turn from `{turn['from']}`; known: {', '.join(_ROLES)}")
    return Message(role=_ROLES[turn["from"]], content=str(turn["value"] or "").strip())
