"""The phase: a Prefect flow that is called from another, dispatched to a work pool, triggered alone, or planned.

One function, four ways in. Inline, a call runs the flow in this process. In a run that has a dispatcher (one that
began from a deployment) a call becomes a flow run of the phase's own deployment, on its own pool. `deployed` is that
flow: its parameters are the phase's own, with text in the place of artifacts, so that people and other processes can
fill them. Prefect is imported when a phase runs, not when it is declared.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Generic, ParamSpec, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import Field
from pydantic.fields import FieldInfo

from infra.config import ConfigError
from infra.dispatch import Ticket
from infra.passing import decode, form_of
from infra.run import Run, current_run, in_phase
from infra.runtime import Runtime

Params = ParamSpec("Params")
Result = TypeVar("Result")


class PhaseError(RuntimeError):
    """A phase that was called where it cannot work, or whose flow run did not complete."""


ProfileText = Annotated[
    str, Field(description="profile by name or path, on the worker's machine; empty: the worker's own")
]
TicketField = Annotated[Ticket | None, Field(description="filled in by the run that dispatches; leave it empty")]


class Phase(Generic[Params, Result]):
    """A declared phase; calling it runs, dispatches or plans it."""

    def __init__(self, function: Callable[Params, Result]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self.name = function.__name__.replace("_", "-")

    def __call__(self, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        run = current_run()
        if run is None:
            raise PhaseError(f"phase {self.name} needs a run: open one with infra.run.active(Run(…))")
        if run.planning:
            return self._within(run, *args, **kwargs)
        if run.dispatcher is not None and run.dispatcher.serves(self.name):
            bound = inspect.signature(self._function).bind(*args, **kwargs)
            bound.apply_defaults()  # a parameter that is left out would be what the deployment has filled in
            given = {name: value for name, value in bound.arguments.items() if not isinstance(value, Runtime)}
            answer = run.dispatcher.call(self.name, given)
            return cast(Result, decode(self.hints["return"], answer, run.store, run.name))
        return cast(Result, self.flow(*args, **kwargs))

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        """The function's annotations, evaluated."""
        return get_type_hints(self._function)

    @functools.cached_property
    def flow(self) -> Any:
        """The Prefect flow for calls in this process."""
        from prefect import flow

        @functools.wraps(self._function)
        def within(*args: Params.args, **kwargs: Params.kwargs) -> Result:
            run = current_run()
            assert run is not None, "a phase's flow runs within its call"
            return self._within(run, *args, **kwargs)

        return flow(name=self.name, validate_parameters=False)(within)

    @functools.cached_property
    def deployed(self) -> Any:
        """The Prefect flow for deployments: it opens the run that its ticket names, or one of its own."""
        from prefect import flow

        from infra.deployed import run_deployed

        def within(**given: Any) -> Any:
            return run_deployed(self, given)

        form = self.form()
        within.__name__, within.__module__ = self._function.__name__, self.__module__
        within.__doc__ = f"{self.__doc__}\n\nArgs:\n{_described(form)}"
        within.__signature__ = form  # type: ignore[attr-defined]
        return flow(name=self.name, validate_parameters=False, persist_result=False)(within)

    def form(self) -> inspect.Signature:
        """The deployed flow's parameters, as a person or a dispatcher fills them in."""
        word = inspect.Parameter.KEYWORD_ONLY
        described = get_type_hints(self._function, include_extras=True)
        own = [
            inspect.Parameter(name, word, default=parameter.default, annotation=form_of(described[name]))
            for name, parameter in inspect.signature(self._function).parameters.items()
            if self.hints[name] is not Runtime
        ]
        profile = inspect.Parameter("profile", word, default="", annotation=ProfileText)
        ticket = inspect.Parameter("ticket", word, default=None, annotation=TicketField)
        return inspect.Signature([*own, profile, ticket])

    def arguments(self, given: Mapping[str, Any], run: Run) -> dict[str, Any]:
        """The function's arguments from a filled form.

        Raises:
            ConfigError: a field is missing.
        """
        arguments: dict[str, Any] = {}
        for name, parameter in inspect.signature(self._function).parameters.items():
            if self.hints[name] is Runtime:
                arguments[name] = run.runtime
            elif name in given:
                arguments[name] = decode(self.hints[name], given[name], run.store, run.name)
            elif parameter.default is inspect.Parameter.empty:
                raise ConfigError(f"phase {self.name}: parameter `{name}` is empty; fill it in")
        return arguments

    def run_in(self, run: Run, arguments: Mapping[str, Any]) -> Result:
        """Run the function as the root of `run`."""
        return cast(Callable[..., Result], self._within)(run, **arguments)

    def _within(self, run: Run, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        with in_phase(run, self.name):
            return self._function(*args, **kwargs)


def _described(form: inspect.Signature) -> str:
    """Lines of a docstring; Prefect takes the descriptions of a form's fields from there alone."""
    described = {name: _description(parameter.annotation) for name, parameter in form.parameters.items()}
    return "\n".join(f"    {name}: {text}" for name, text in described.items() if text)


def _description(annotation: Any) -> str:
    """Of a field: its own, or that of its items. A model's is in the schema by itself."""
    if get_origin(annotation) is list:
        return _description(get_args(annotation)[0])
    notes = (note.description for note in get_args(annotation)[1:] if isinstance(note, FieldInfo))
    return next((note for note in notes if note), "")


def phase(function: Callable[Params, Result]) -> Phase[Params, Result]:
    """Declare a phase."""
    return Phase(function)
