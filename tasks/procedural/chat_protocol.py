"""The OpenAI chat form of the scripted stand-in: a request's body in, a reply's body out, no server between."""

import re
from hashlib import blake2b
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from tasks.procedural.roles import Ask, Role, StandInConfig, speak

FINGERPRINT = "scripted stand-in"
MODELS = tuple(f"scripted-stand-in/{role}" for role in Role)
_TOKEN = re.compile(r"\w+|[^\w\s]|\n")


class _TextPart(BaseModel):
    model_config = ConfigDict(frozen=True)

    type: Literal["text"]
    text: str


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)

    role: str
    content: str | tuple[_TextPart, ...]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class _ChatRequest(BaseModel):
    """The fields that are honoured; others of the OpenAI form are accepted and change nothing."""

    model_config = ConfigDict(frozen=True)

    model: str
    messages: tuple[_Message, ...] = Field(min_length=1)
    n: int = Field(default=1, ge=1, le=1024)
    seed: int | None = None
    temperature: float | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stream: Literal[False] | None = Field(default=None, description="Streaming is not spoken here")

    def asks(self) -> list[Ask]:
        prompt = next((message.text for message in reversed(self.messages) if message.role == "user"), "")
        temperature = 1.0 if self.temperature is None else self.temperature
        return [Ask(prompt, self.seed or 0, temperature, index) for index in range(self.n)]


class _Sample(NamedTuple):
    text: str
    num_tokens: int
    finish_reason: Literal["stop", "length"]

    def choice(self, index: int) -> dict[str, object]:
        message = {"role": "assistant", "content": self.text}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": self.finish_reason}


def complete_chat(body: bytes, config: StandInConfig) -> dict[str, object]:
    """Answer a `/v1/chat/completions` body; the same body gets the same reply, id and time stamp included.

    Raises LookupError for a model that is no role of the stand-in, and pydantic's ValidationError for a body that is
    not of the OpenAI form.
    """
    request = _ChatRequest.model_validate_json(body)
    if request.model not in MODELS:
        raise LookupError(f"no model {request.model!r}; use one of {', '.join(MODELS)}")
    role = Role(request.model.partition("/")[2])
    limit = request.max_completion_tokens or request.max_tokens
    samples = [_cut(speak(role, ask, config), limit) for ask in request.asks()]
    num_prompt_tokens = sum(_count_tokens(message.text) for message in request.messages)
    num_completion_tokens = sum(sample.num_tokens for sample in samples)
    return {
        "id": f"chatcmpl-{blake2b(body, digest_size=8).hexdigest()}",
        "object": "chat.completion",
        "created": 0,
        "model": f"{FINGERPRINT} ({role})",
        "system_fingerprint": FINGERPRINT,
        "choices": [sample.choice(index) for index, sample in enumerate(samples)],
        "usage": {
            "prompt_tokens": num_prompt_tokens,
            "completion_tokens": num_completion_tokens,
            "total_tokens": num_prompt_tokens + num_completion_tokens,
        },
    }


def list_models() -> dict[str, object]:
    """The reply to `/v1/models`: one model a role."""
    models = [{"id": model, "object": "model", "created": 0, "owned_by": FINGERPRINT} for model in MODELS]
    return {"object": "list", "data": models}


def _cut(text: str, limit: int | None) -> _Sample:
    num_tokens = _count_tokens(text)
    if limit is None or num_tokens <= limit:
        return _Sample(text, num_tokens, "stop")
    ends = [token.end() for token in _TOKEN.finditer(text)]
    return _Sample(text[: ends[limit - 1]], limit, "length")


def _count_tokens(text: str) -> int:
    """Words and marks: the stand-in's own measure, for there is no tokenizer behind it."""
    return len(_TOKEN.findall(text))
