"""Data sets as `datasets` streams them, from local folders of the hub's layout; what names them; and their errors."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import HfHubHTTPError

from infra.artifacts import Raw
from infra.output import Output
from infra.rows import read_shard
from tasks.ingest import hub
from tasks.ingest.config import SourceConfig
from tasks.ingest.conversion import Converted, Unread, convert_rows
from tasks.ingest.hub import HubError, commit_of, hub_raw, read_hub
from tasks.ingest.native import plain, read_rows
from tasks.ingest.origin import OriginConfig
from tasks.ingest.steps import ingest_source
from tasks.records import Query

# The HTTP client whose errors the hub's own client raises: httpx in some versions, httpx2 in others.
http = importlib.import_module(HfHubHTTPError.__bases__[0].__module__)
COMMIT = "c" * 40
NUM_ROWS = 1300


def native_row(number: int) -> dict[str, Any]:
    """Values of one type, of mixed types, nested and missing ones."""
    mixed: Any = number if number % 3 else [number]
    return {
        "question": f"{number}?",
        "answer": f"#### {number}",
        "mixed": mixed,
        "turns": [{"n": number}],
        "none": None,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two configurations, of which one is in three files of JSON Lines."""
    root = tmp_path_factory.mktemp("dataset")
    for name, numbers in (("lines", range(NUM_ROWS)), ("few", range(2))):
        (root / name).mkdir()
        for part in range(0, len(numbers), 500):
            text = "".join(f"{json.dumps(native_row(number))}\n" for number in numbers[part : part + 500])
            (root / name / f"train-{part:05d}.jsonl").write_text(text)
    (root / "README.md").write_text(
        "---\nconfigs:\n- config_name: lines\n  data_files: lines/*.jsonl\n"
        "- config_name: few\n  data_files: few/*.jsonl\n---\n"
    )
    return root


def of_hub(**fields: Any) -> OriginConfig:
    return OriginConfig.model_validate({"hub": "owner/name"} | fields)


def test_rows_come_in_order_and_in_json_types(folder: Path) -> None:
    rows = list(read_hub(of_hub(subset="lines"), str(folder)))
    assert rows == [native_row(number) for number in range(NUM_ROWS)]
    named = list(read_hub(of_hub(files="lines/*.jsonl"), str(folder)))
    assert named == rows


def test_the_hub_a_download_and_json_lines_make_the_same_queries(tmp_path: Path) -> None:
    rows = [{**native_row(number), "mixed": number / 7} for number in range(NUM_ROWS)]
    download = tmp_path / "dataset/data/test-0.parquet"
    download.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), download)
    config = SourceConfig(name="toy", hub="owner/name", split="test", adapter="gsm8k", license="MIT")
    streamed = list(convert_rows(read_hub(config, str(tmp_path / "dataset")), config))
    downloaded = list(convert_rows(read_rows(download, "a.parquet"), config))
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    lines = list(convert_rows(read_rows(tmp_path / "a.jsonl", "a.jsonl"), config))
    assert len(streamed) == NUM_ROWS
    assert streamed == downloaded == lines


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says: no test here reaches the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


class Breaking:
    """A stream that breaks with an error after a few batches, as often as told."""

    def __init__(self, stream: Any, breaks: list[Exception]) -> None:
        self._stream, self._breaks = stream, breaks

    def iter(self, batch_size: int) -> Iterator[Any]:
        for number, batch in enumerate(self._stream.iter(batch_size=batch_size)):
            if self._breaks and number == len(self._breaks) % 3:
                raise self._breaks.pop()
            yield batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Errors that streams still raise, the last first; no one waits."""
    left: list[Exception] = []
    real = hub._open
    monkeypatch.setattr(hub, "_open", lambda config, uri: Breaking(real(config, uri), left))
    monkeypatch.setattr(hub, "BATCH_ROWS", 150)
    monkeypatch.setattr(hub, "FIRST_WAIT_S", 0.0)
    return left


def test_a_broken_connection_loses_and_repeats_no_row(folder: Path, breaks: list[Exception]) -> None:
    breaks += [ConnectionResetError("reset"), http.ReadTimeout("slow"), http.RemoteProtocolError("cut")]
    rows = list(read_hub(of_hub(subset="lines"), str(folder)))
    assert breaks == []
    assert [row["question"] for row in rows] == [f"{number}?" for number in range(NUM_ROWS)]


def test_a_hub_that_stays_away_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def away(*_: object) -> None:
        tries.append(1)
        raise http.ConnectError("no route")

    monkeypatch.setattr(hub, "_open", away)
    monkeypatch.setattr(hub, "FIRST_WAIT_S", 0.0)
    with pytest.raises(HubError, match=r"owner/name:lines .*the hub cannot be reached; check the network"):
        list(read_hub(of_hub(subset="lines"), str(folder)))
    assert len(tries) == hub.ATTEMPTS


def test_what_cannot_pass_is_not_asked_again(folder: Path, breaks: list[Exception]) -> None:
    breaks += [ValueError("a column changed its type")] * 2
    with pytest.raises(HubError, match=r"it cannot be read; check `subset`.*a column changed its type"):
        list(read_hub(of_hub(subset="lines"), str(folder)))
    assert len(breaks) == 1


def test_unknown_subsets_splits_and_files_are_told(folder: Path) -> None:
    for fields, told in (
        ({}, "Config name is missing"),
        ({"subset": "liens"}, "liens"),
        ({"subset": "lines", "split": "dev"}, "dev"),
    ):
        with pytest.raises(HubError, match=f"it cannot be read; check `subset`, `split` and `files`.*{told}"):
            list(read_hub(of_hub(**fields), str(folder)))
    with pytest.raises(HubError, match="owner/name:none"):
        list(read_hub(of_hub(files="none/*.jsonl"), str(folder)))


def refused(name: str, status: int = 404) -> Exception:
    from huggingface_hub import errors

    response = http.Response(status, request=http.Request("GET", "https://example.org"))
    error: Exception = getattr(errors, name)("told by the hub", response=response)
    return error


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the hub answers to a question for a commit, the last first: an error, or a commit."""
    left: list[Any] = []

    def ask(_: object, name: str, revision: str, timeout: float) -> Any:
        answer = left.pop()
        if isinstance(answer, Exception):
            raise answer
        return type("Info", (), {"sha": answer})

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", ask)
    monkeypatch.setattr(hub, "FIRST_WAIT_S", 0.0)
    return left


def test_what_names_the_rows_makes_the_digest(answers: list[Any]) -> None:
    answers += [COMMIT] * 2
    raw = hub_raw(of_hub(subset="one"))
    assert (raw.name, raw.uri) == ("owner/name:one@cccccccccccc", f"hf://datasets/owner/name@{COMMIT}")
    assert hub_raw(of_hub(subset="one", revision=COMMIT)).digest == raw.digest  # pinned: nobody is asked
    others = [{"subset": "two"}, {"subset": "one", "split": "test"}, {"subset": "one", "revision": "d" * 40}]
    pinned = [hub_raw(of_hub(**{"revision": COMMIT} | fields)).digest for fields in [*others, {"files": "*.csv"}]]
    assert len({raw.digest, *pinned}) == 5
    answers.append("e" * 40)
    assert hub_raw(of_hub(subset="one")).digest != raw.digest  # the branch has moved
    assert len(answers) == 1


def test_a_busy_hub_is_asked_again(answers: list[Any]) -> None:
    answers += [COMMIT, refused("HfHubHTTPError", 503), refused("HfHubHTTPError", 429), http.ConnectTimeout("slow")]
    assert commit_of("owner/name", "main") == COMMIT


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("GatedRepoError", "it is gated; accept its terms .* and set HF_TOKEN, or download"),
        ("RepositoryNotFoundError", "no data set of that name, .*; check `hub` for a typo, set HF_TOKEN"),
        ("HfHubHTTPError", "or you may not see it; .* set HF_TOKEN"),
        ("RevisionNotFoundError", "it has no such revision; give a commit or a branch"),
    ],
)
def test_refusals_are_told_with_their_remedy(answers: list[Any], error: str, told: str) -> None:
    answers.append(refused(error, 403))
    with pytest.raises(HubError, match=f"data set owner/name@main: .*{told}"):
        commit_of("owner/name", "main")


def test_without_network_the_error_says_so(answers: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import OfflineModeIsEnabled

    answers += [http.ConnectError("no route")] * 9
    with pytest.raises(HubError, match=r"cannot be reached; check the network .*give a commit as `revision`"):
        commit_of("owner/name", "main")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    answers.append(OfflineModeIsEnabled("HF_HUB_OFFLINE=1"))
    with pytest.raises(HubError, match="unset HF_HUB_OFFLINE, or download"):
        commit_of("owner/name", "main")


def test_rows_that_are_not_wanted_have_a_reason_and_no_adapter_sees_them() -> None:
    config = SourceConfig(
        name="toy",
        file="a.jsonl",
        adapter="gsm8k",
        license="MIT",
        only={"source": "olympiads|aops.*"},
        without={"year": "2024"},
    )
    rows: list[dict[str, Any]] = [
        {"question": "a?", "answer": "#### 1", "source": "aops_forum", "year": 2023},
        {"source": "cn_k12", "year": 2023},
        {"source": "olympiads", "year": 2024},
        {"year": 2023},
    ]
    found: list[Converted] = list(convert_rows(rows, config))
    assert [each.reason for each in found] == [None, "not_selected", "not_selected", "not_selected"]
    told = [each.query.refusal for each in found if isinstance(each.query, Unread)]
    assert told == [
        "source is 'cn_k12'; only olympiads|aops.*",
        "year is '2024'; without 2024",
        "source is 'None'; only olympiads|aops.*",
    ]
    assert len({each.query.id for each in found}) == 4


@pytest.mark.parametrize("shard_rows", [500, 50_000])
def test_a_stream_becomes_shards_and_every_row_is_accounted_for(
    folder: Path, out: Output, monkeypatch: pytest.MonkeyPatch, shard_rows: int
) -> None:
    monkeypatch.setattr("infra.output.SHARD_ROWS", shard_rows)
    fields = {"subset": "lines", "without": {"question": "1.*"}}
    config = SourceConfig(name="toy", hub="owner/name", adapter="gsm8k", license="MIT", **fields)
    ingest_source.inner(Raw(name="toy", digest="d", uri=str(folder)), config, out)
    out.check_conservation(out.rows_in)
    dropped = sum(str(number).startswith("1") for number in range(NUM_ROWS))
    assert out.sorted_funnel() == {"toy": {"kept": NUM_ROWS - dropped, "not_selected": dropped}}
    files = [file for file in out.finish(is_dataset=True) if file.path.startswith("kept-")]
    assert len(files) == -(-(NUM_ROWS - dropped) // shard_rows)
    asked = [query.prompt for file in files for query in read_shard(out.store.local_file(file), Query)]
    assert asked == [f"{number}?" for number in range(NUM_ROWS) if not str(number).startswith("1")]


def test_plain_is_the_same_twice() -> None:
    row = {"a": (1, float("inf")), "b": b"x", 3: {"c": float("nan")}}
    assert plain(plain(row)) == plain(row) == {"a": [1, None], "b": plain(b"x"), "3": {"c": None}}
