"""The one layout of every response text in this world: think first, then answer (AM section 3.2)."""

from collections.abc import Sequence


def render_response(steps: Sequence[str], answer: str) -> str:
    """Lay out a response; no steps leave the think part empty, as the direct style has it."""
    thought = "".join(f"{step}\n" for step in steps)
    return f"<think>\n{thought}</think>\n<answer>\n{answer}\n</answer>"
