"""One process of the pool: reads pairs of answers as JSON lines, writes what math_verify says of them.

Run as a program; knows nothing of the package, so that it starts with math_verify alone.
"""

import json
import logging
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

_READY = json.dumps({"ready": True})


@lru_cache(maxsize=512)
def _parse(answer: str) -> Any:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    # Its own time-out is a signal that a long multiplication never hears; the parent's clock holds instead.
    configs = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
    return parse(rf"$\boxed{{{answer}}}$", configs, fallback_mode="no_fallback", parsing_timeout=None)


def _compare(gold: str, answer: str) -> dict[str, str]:
    from math_verify import verify

    golds = _parse(gold)
    if not golds:
        return {"outcome": "gold_unparseable"}
    answers = _parse(answer)
    if not answers:
        return {"outcome": "answer_unparseable"}
    is_equal = verify(golds, answers, timeout_seconds=None, raise_on_error=True)
    return {"outcome": "equal" if is_equal else "different"}


def _answer(line: str) -> dict[str, str]:
    try:
        job = json.loads(line)
        # Default action of the alarm: the kernel ends an orphan, whatever it computes, when no parent is left to.
        signal.alarm(job["orphan_s"])
        return _compare(job["gold"], job["answer"])
    except (Exception, RecursionError) as error:
        return {"outcome": "crash", "detail": f"{type(error).__name__}: {error}"[:300]}
    finally:
        signal.alarm(0)


def _main() -> None:
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    replies, sys.stdout = sys.stdout, sys.stderr
    _compare("x+1", "1+x")  # imports and builds the grammar's tables, so that the first job is not charged for it
    print(_READY, file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(line)), file=replies, flush=True)


if __name__ == "__main__":
    _main()
