"""What runs inside the jails that check code: the candidate's side, and the judge's side.

Run as a program in a jail, from this file's text, so it imports the standard library only; the grader imports the
value coding from here. Candidate and judge never share a process: the candidate's knows calls but no expected value,
the judge's knows the tests but holds no line of the candidate. They speak in JSON lines, through the grader.

Values cross as plain data. A value of a subclass crosses as what its base holds, so that no method of the candidate's
own (`__eq__`, say) ever decides a comparison. Other objects stay where they are, and cross as a reference.
"""

import builtins
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from fractions import Fraction
from typing import Any, TextIO

_LONG_INT = 1 << 60
# Errors that mean something to the judge itself: a failed test, and the quiet end of a loop over `map(f, …)`.
_TELLING = (AssertionError, StopIteration, StopAsyncIteration)
_SEQUENCES: dict[str, type] = {"tuple": tuple, "set": set, "frozenset": frozenset, "bytes": bytes}
Refer = Callable[[Any], dict[str, Any]]
Resolve = Callable[[dict[str, Any]], Any]
Check = Callable[[Iterable[Any]], list[Any]]


class NotPlainError(TypeError):
    """A value that cannot cross between processes."""


def _refuse(value: Any) -> dict[str, Any]:
    raise NotPlainError(f"{type(value).__name__} is not plain data")


def encode(value: Any, refer: Refer = _refuse) -> Any:
    """JSON form of a value; `refer` gives that of an object that is not plain data."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        number = int.__int__(value)
        return number if -_LONG_INT < number < _LONG_INT else {"int": hex(number)}
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, complex):
        return {"complex": [complex.__complex__(value).real, complex.__complex__(value).imag]}
    if isinstance(value, Fraction):
        return {"fraction": [hex(value.numerator), hex(value.denominator)]}
    if isinstance(value, list):
        return [encode(item, refer) for item in list.__iter__(value)]
    if isinstance(value, dict):
        return {"dict": [[encode(key, refer), encode(item, refer)] for key, item in dict.items(value)]}
    for name, kind in _SEQUENCES.items():
        if isinstance(value, kind):
            items: Any = kind.__iter__(value)  # type: ignore[attr-defined]
            return {name: [encode(item, refer) for item in items]}
    return refer(value)


def decode(form: Any, resolve: Resolve = _refuse, check: Check = list) -> Any:
    """The value of a JSON form; `resolve` gives the object of a reference, `check` sees what is about to be hashed."""
    if isinstance(form, list):
        return [decode(item, resolve, check) for item in form]
    if not isinstance(form, dict):
        return form
    (name, content), *_ = form.items()
    if name == "int":
        return int(content, 16)
    if name == "complex":
        return complex(*content)
    if name == "fraction":
        return Fraction(*(int(part, 16) for part in content))
    if name == "dict":
        keys = check(decode(key, resolve, check) for key, _ in content)
        return dict(zip(keys, [decode(item, resolve, check) for _, item in content], strict=True))
    if name in _SEQUENCES:
        items = (decode(item, resolve, check) for item in content)
        return _SEQUENCES[name](check(items) if "set" in name else items)
    return resolve(form)


class _Channel:
    """The jail's pipes, taken away from what the jailed code sees as standard input and output."""

    def __init__(self) -> None:
        self._inward: TextIO = os.fdopen(os.dup(0), encoding="utf-8")
        self._outward: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)

    def receive(self) -> dict[str, Any]:
        line = self._inward.readline()
        if not line:
            os._exit(0)
        message: dict[str, Any] = json.loads(line)
        return message

    def send(self, message: dict[str, Any]) -> None:
        self._outward.write(json.dumps(message) + "\n")
        self._outward.flush()


def _told(error: BaseException) -> dict[str, Any]:
    kind = type(error)
    return {"error": f"{kind.__name__}: {str.__str__(str(error))[:200]}", "kind": kind.__name__}


class _Candidate:
    """Runs the candidate's program and answers calls on what it defines."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {"__name__": "candidate", "__builtins__": builtins}
        self._objects: list[Any] = []

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"value": encode(self._do(message["do"], message["with"]), self._refer)}
        except BaseException as error:  # SystemExit too: a call that leaves is a call that failed
            return _told(error)

    def _refer(self, value: Any) -> dict[str, Any]:
        self._objects.append(value)
        return {"ref": len(self._objects) - 1}

    def _resolve(self, form: dict[str, Any]) -> Any:
        return self._objects[form["ref"]]

    def _do(self, verb: str, content: Any) -> Any:
        if verb == "compile":
            self._compiled = compile(content, "candidate.py", "exec")
            return None
        if verb == "run":
            return exec(self._compiled, self._names)
        if verb == "eval":
            return eval(compile(content, "test.py", "eval"), self._names)
        if verb == "invoke":
            return self._callee(content["function"], content["owner"])(*content["arguments"])
        if verb == "name":
            return self._names[content]
        target, *arguments = decode(content, self._resolve)
        if verb == "get":
            return getattr(target, arguments[0])
        if verb == "set":
            return setattr(target, *arguments)
        return target(*arguments[0], **arguments[1])

    def _callee(self, function: str, owner: str | None) -> Any:
        """The function of that name; otherwise the method of a new object of the class `owner`, by default Solution."""
        if owner is None and callable(self._names.get(function)) and "Solution" not in self._names:
            return self._names[function]
        if owner or hasattr(self._names.get("Solution"), function):
            return getattr(self._names[owner or "Solution"](), function)
        return self._names[function]


def serve_candidate() -> None:
    """Main loop of the candidate's jail."""
    channel, candidate = _Channel(), _Candidate()
    while True:
        message = channel.receive()
        channel.send(candidate.answer(message))


class _Judge:
    """Runs the tests; calls of the candidate's names go out through the channel and come back as data."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._names: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}

    def call(self, verb: str, content: Any) -> Any:
        self._channel.send({"do": verb, "with": content})
        reply = self._channel.receive()
        if "error" in reply:
            kind = getattr(builtins, str(reply.get("kind")), None)
            is_error = isinstance(kind, type) and issubclass(kind, Exception) and kind not in _TELLING
            raise (kind if is_error else RuntimeError)(reply["error"])  # type: ignore[misc]
        return decode(reply["value"], lambda form: _Remote(self, form))

    def define(self, names: list[str]) -> None:
        for name in names:
            with suppress(KeyError):  # the program lacks it: the test that needs it will fail
                self._names[name] = self.call("name", name)

    def run(self, source: str) -> dict[str, Any]:
        try:
            exec(compile(source, "tests.py", "exec"), self._names)
        except NotPlainError as error:  # the test hands over what cannot cross: it cannot be judged apart
            return {"done": False, "fault": str(error)}
        except BaseException as error:
            return {"done": False, **_told(error)}
        return {"done": True}


class _Remote:
    """An object of the candidate, seen from the judge: calls and attributes cross, comparisons do not."""

    def __init__(self, judge: _Judge, form: dict[str, Any]) -> None:
        object.__setattr__(self, "_judge", judge)
        object.__setattr__(self, "_form", form)

    def _cross(self, verb: str, *content: Any) -> Any:
        judge: _Judge = object.__getattribute__(self, "_judge")
        return judge.call(verb, [self._form, *(encode(item, _form_of) for item in content)])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._cross("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._cross("set", name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._cross("call", list(args), kwargs)


def _form_of(value: Any) -> dict[str, Any]:
    if isinstance(value, _Remote):
        form: dict[str, Any] = object.__getattribute__(value, "_form")
        return form
    return _refuse(value)


def serve_judge() -> None:
    """Main loop of the judge's jail: first the candidate's names, then one piece of source at a time."""
    channel = _Channel()
    judge = _Judge(channel)
    while True:
        message = channel.receive()
        if "names" in message:
            judge.define(message["names"])
            channel.send({"done": True})
        else:
            channel.send(judge.run(message["source"]))


if __name__ == "__main__":
    {"candidate": serve_candidate, "judge": serve_judge}[vars(sys.modules["__main__"])["ROLE"]]()
