"""Data sets of the Hugging Face hub: the commit that a revision names now, and the rows of a split as a stream."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from infra.artifacts import Raw
from infra.config import ConfigError
from infra.fingerprint import fingerprint
from tasks.ingest.native import plain
from tasks.ingest.origin import OriginConfig

BATCH_ROWS = 512
ATTEMPTS = 5
FIRST_WAIT_S = 1.0  # doubled with each attempt
TIMEOUT_S = 30.0
PREFIX = "hf://datasets/"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_READERS = {"jsonl": "json", "json": "json", "parquet": "parquet", "csv": "csv", "arrow": "arrow"}

Found = TypeVar("Found")


class HubError(ConfigError):
    """A data set of the hub that cannot be had; the message names it, the cause and the remedy."""


def hub_raw(config: OriginConfig) -> Raw:
    """A split of a data set, at the commit that its revision names now, as an input.

    Its digest is made of what names the rows for good: data set, commit, subset, split, files. A branch that has moved
    since the last run is another input; a revision that is a commit is not looked up.

    Raises:
        HubError: there is no such data set or revision, it is gated, or the hub cannot be reached.
    """
    assert config.hub is not None
    commit = commit_of(config.hub, config.revision or "main")
    named = {"hub": config.hub, "commit": commit, "subset": config.subset, "split": config.split, "files": config.files}
    return Raw(name=f"{config.origin}@{commit[:12]}", digest=fingerprint(named), uri=f"{PREFIX}{config.hub}@{commit}")


def commit_of(hub: str, revision: str) -> str:
    """The commit that a revision of a data set names now.

    Raises:
        HubError: it cannot be found out.
    """
    if _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi

    def ask() -> str:
        return str(HfApi().dataset_info(hub, revision=revision, timeout=TIMEOUT_S).sha)

    return _patiently(ask, f"{hub}@{revision}")


def read_hub(config: OriginConfig, uri: str) -> Iterator[dict[str, Any]]:
    """Rows of the data set at `uri` (of `hub_raw`, or a local folder of the same layout), in order, in JSON types.

    A connection that breaks is opened again where the last batch ended: rows come once, and in the same order.
    In JSON files a column of mixed types comes as `datasets` decodes it: there the text "7" is the number 7.

    Raises:
        HubError: there is no such subset, split or file, it cannot be read, or the hub stays out of reach.
    """
    name = f"{config.origin} ({uri.removeprefix(PREFIX)})"
    place: dict[str, Any] | None = None
    failures = 0
    while True:
        try:
            stream = _patiently(lambda: _open(config, uri), name)
            if place is not None:
                stream.load_state_dict(place)
            for batch in stream.iter(batch_size=BATCH_ROWS):
                place, failures = stream.state_dict(), 0
                for values in zip(*batch.values(), strict=True):
                    yield plain(dict(zip(batch, values, strict=True)))
            return
        except Exception as error:  # what is not the connection's is told with its remedy
            failures += 1
            if not _may_pass(error) or failures >= ATTEMPTS:
                raise _told(error, name) from error
            time.sleep(FIRST_WAIT_S * 2 ** (failures - 1))


def _open(config: OriginConfig, uri: str) -> Any:
    from datasets import load_dataset

    folder, _, commit = uri.removeprefix(PREFIX).partition("@")
    if config.files is not None:
        reader = _READERS[config.files.rpartition(".")[2]]
        return load_dataset(reader, data_files=f"{uri}/{config.files}", split="train", streaming=True)
    return load_dataset(folder, config.subset, split=config.split or "train", revision=commit or None, streaming=True)


def _patiently(ask: Callable[[], Found], name: str) -> Found:
    for attempt in range(ATTEMPTS):
        try:
            return ask()
        except Exception as error:  # what is not the connection's is told with its remedy
            if not _may_pass(error) or attempt + 1 == ATTEMPTS:
                raise _told(error, name) from error
            time.sleep(FIRST_WAIT_S * 2**attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    from huggingface_hub.errors import HfHubHTTPError

    if _is_offline() or isinstance(error, FileNotFoundError):
        return False
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code if error.response is not None else 500
        return status in {408, 429} or status >= 500
    # The base of its errors is that of the HTTP client that it uses: httpx in some versions, httpx2 in others.
    return isinstance(error, HfHubHTTPError.__bases__[0] | ConnectionError | TimeoutError)


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _told(error: Exception, name: str) -> Exception:
    """The error as people need it. One that is not of the hub's goes on as it is."""
    if isinstance(error, HubError):
        return error
    said = str(error).strip().partition("\n")[0][:300]
    return HubError(f"data set {name}: {_cause(error)}; {_remedy(error)} ({type(error).__name__}: {said})")


def _cause(error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "it is gated"
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision"
    if _is_absent(error):
        return "the hub has no data set of that name, or you may not see it"
    if _is_away(error):
        return "the hub cannot be reached"
    return "it cannot be read"


def _remedy(error: Exception) -> str:
    from huggingface_hub import errors

    raw = "or download its files and name one under `file`, below the raw folder"
    if isinstance(error, errors.GatedRepoError):
        return f"accept its terms on its page of the hub and set HF_TOKEN, {raw}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "give a commit or a branch that it has under `revision`"
    if _is_absent(error):
        return f"check `hub` for a typo, set HF_TOKEN if it is private, {raw}"
    if _is_offline():
        return f"unset HF_HUB_OFFLINE, {raw}"
    if _is_away(error):
        return f"check the network (and HF_ENDPOINT, if you set it), give a commit as `revision`, {raw}"
    return f"check `subset`, `split` and `files`, {raw}"


def _is_absent(error: Exception) -> bool:
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    if isinstance(error, HfHubHTTPError) and error.response is not None and error.response.status_code in {401, 403}:
        return True
    return isinstance(error, RepositoryNotFoundError | DatasetNotFoundError)


def _is_away(error: Exception) -> bool:
    is_missing = isinstance(error, FileNotFoundError)  # a file of the data set, not the hub
    return _may_pass(error) or (isinstance(error, OSError) and not is_missing)
