"""What a model is told when it is asked a query, and the layout of what it should say (AM § 3.2)."""

from __future__ import annotations

from tasks.records import Domain, Message, Query

# Part of every request's cache key: raise it with any change of the texts below.
PROMPT_VERSION = 1

# The system prompt that AM-Thinking-v1 is trained with.
SYSTEM_PROMPT = (
    "You are a helpful assistant. To answer the user's question, you first think about the reasoning process and then "
    "provide the user with the answer. The reasoning process and answer are enclosed within <think> </think> and "
    "<answer> </answer> tags, respectively, i.e., <think> reasoning process here </think> "
    "<answer> answer here </answer>."
)
_BOXED = "Put the final answer, and nothing else, in \\boxed{} within the answer part."
_LETTER = "Put the letter of the right option in \\boxed{} within the answer part, such as \\boxed{B}."
_CODE = "Put the whole program in one fenced ```python block within the answer part."


def ask_messages(query: Query) -> list[dict[str, str]]:
    """The dialog that asks a model for a full response: layout and form of the answer in the system turn.

    The query's user and assistant turns stay as they are; its own system turn follows ours.
    """
    turns = list(query.messages)
    system = [SYSTEM_PROMPT, *_form_of_answer(query)]
    if turns[0].role == "system":
        system.append(turns.pop(0).content)
    dialog = [Message(role="system", content="\n".join(system)), *turns]
    return [{"role": turn.role, "content": turn.content} for turn in dialog]


def lay_out(thinking: str, answer: str) -> str:
    """A response: think part, then answer part. Empty thinking leaves an empty part."""
    thought = f"{thinking.strip()}\n" if thinking.strip() else ""
    return f"<think>\n{thought}</think>\n<answer>\n{answer.strip()}\n</answer>"


def _form_of_answer(query: Query) -> list[str]:
    if query.choices:
        return [_LETTER]
    if query.domain in {Domain.MATH, Domain.SCIENCE}:
        return [_BOXED]
    return [_CODE] if query.domain is Domain.CODE else []
