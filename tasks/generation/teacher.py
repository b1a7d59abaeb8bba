"""Teacher responses: sampled from a model, or the sources' own solutions laid out as responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic import Field

from infra.chat import Answered, ChatRequest, Sampling
from infra.config import Config
from infra.output import Output
from infra.runtime import Runtime
from tasks.generation.chat import PROMPT_VERSION, ask_messages, lay_out
from tasks.generation.roles import ask_in_order, open_role
from tasks.records import Domain, Query, Response

SOURCE_SOLUTIONS = "source-solutions"


class TeacherConfig(Config):
    """Who answers, and how it samples. Two phases with equal values share samples through the row cache."""

    model: str = Field(
        description="model at the endpoint `teacher`; `source-solutions` asks no model and takes the sources' solutions"
    )
    temperature: float = Field(default=0.6, ge=0, description="choice: DeepSeek-R1's own advice")
    top_p: float = Field(default=0.95, gt=0, le=1, description="choice: DeepSeek-R1's own advice")
    max_tokens: int = Field(default=32768, ge=1, description="longest response, thinking included")
    seed: int = Field(default=0, ge=0, description="sample i of a query is drawn with seed + i")

    @property
    def is_a_model(self) -> bool:
        """False where the sources' own solutions stand for a teacher."""
        return self.model != SOURCE_SOLUTIONS


class Ask(NamedTuple):
    """A query and how many responses are wanted."""

    query: Query
    num_samples: int


class Refusal(Config):
    """Row of the side table `refusals`: a query that the endpoint would not take."""

    query_id: str
    reason: str


def teacher_responses(
    asks: Sequence[Ask], config: TeacherConfig, out: Output, runtime: Runtime
) -> Iterator[list[Response]]:
    """Responses of each query, in the order of `asks`; an empty list where there are none.

    Raises:
        EndpointError: the teacher's endpoint cannot be used; finished samples are kept for the next run.
    """
    if not config.is_a_model:
        yield from (source_responses(ask.query) for ask in asks)
        return
    client = open_role(out, runtime, "teacher", config.model)
    for answers in ask_in_order(out, client, [_request(ask, config) for ask in asks]):
        refused = [done.reply.refusal for done in answers if done.reply.refusal is not None]
        if refused:
            out.attach("refusals", Refusal(query_id=answers[0].request.key, reason=refused[0]))
        yield [_response(done, config.model) for done in answers if done.reply.refusal is None]


def source_responses(query: Query) -> list[Response]:
    """The source's own solution as the one response to its query, or none where it carries no solution or label."""
    answer = _answer_part(query)
    if not query.solution or answer is None:
        return []
    thinking = query.solution if query.domain in {Domain.MATH, Domain.SCIENCE} else ""
    text = lay_out(thinking, answer)
    return [Response(query_id=query.id, model=SOURCE_SOLUTIONS, sample_index=0, text=text, finish_reason="stop")]


def _answer_part(query: Query) -> str | None:
    if query.domain in {Domain.MATH, Domain.SCIENCE}:
        return None if query.answer is None else f"\\boxed{{{query.answer}}}"
    language = (query.tests or {}).get("language") or "python"
    return f"```{language}\n{query.solution}\n```" if query.domain is Domain.CODE else query.solution


def _request(ask: Ask, config: TeacherConfig) -> ChatRequest:
    sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_tokens=config.max_tokens)
    return ChatRequest(
        key=ask.query.id,
        messages=ask_messages(ask.query),
        sampling=sampling,
        num_samples=ask.num_samples,
        prompt_version=PROMPT_VERSION,
        seed=config.seed,
    )


def _response(done: Answered, model: str) -> Response:
    reply = done.reply
    return Response(
        query_id=done.request.key,
        model=model,
        sample_index=reply.sample_index,
        text=reply.text,
        finish_reason=reply.finish_reason,
        usage=dict(reply.usage),
    )
