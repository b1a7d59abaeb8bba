"""Ingest from the hub's HTTP interface, by the real client, in a process of its own: FakeHub serves and breaks."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.runtime import child_environment
from tests.integration.fake_hub import MOVED, FakeHub, fake_hub

pytestmark = pytest.mark.integration

NAME = "owner/questions"
NUM_ROWS = 1500
# The hub's address is read when its client is imported, so each look takes a process.
READ = """
import json, sys
from tasks.ingest.config import SourceConfig
from tasks.ingest.hub import hub_raw
from tasks.ingest.conversion import convert_rows, native_rows

made = []
for fields in json.loads(sys.argv[1]):
    config = SourceConfig(name="toy", adapter="gsm8k", license="MIT", **fields)
    try:
        raw = hub_raw(config)
        queries = [query for query, _ in convert_rows(native_rows(raw, config), config)]
        made.append({"raw": raw.model_dump(), "ids": [q.id for q in queries], "first": queries[0].prompt})
    except Exception as error:
        made.append({"error": f"{type(error).__name__}: {error}"})
print(json.dumps(made))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    """A hub with one data set of two configurations, of which one is in three files."""
    folder = tmp_path / "hub" / NAME
    for subset, parts in (("main", 3), ("small", 1)):
        (folder / subset).mkdir(parents=True)
        for part in range(parts):
            rows = ({"question": f"{subset} {part} {n}?", "answer": "#### 3"} for n in range(NUM_ROWS // 3))
            text = "".join(f"{json.dumps(row)}\n" for row in rows)
            (folder / subset / f"train-{part}.jsonl").write_text(text)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files: main/*.jsonl\n"
        "- config_name: small\n  data_files: small/*.jsonl\n---\n"
    )
    with fake_hub(tmp_path / "hub") as running:
        yield running


def read(hub: FakeHub, *configs: dict[str, Any], **environment: str) -> list[dict[str, Any]]:
    """What each config reads, all in one new process with a cache of its own."""
    home = hub.folder.parent / f"home-{len(hub.asked)}"
    env = child_environment() | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"} | environment
    command = [sys.executable, "-c", READ, json.dumps(configs)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    made: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return made


def test_rows_are_read_over_http_and_a_moved_branch_is_another_input(hub: FakeHub) -> None:
    main, small, named = read(
        hub, {"hub": NAME, "subset": "main"}, {"hub": NAME, "subset": "small"}, {"hub": NAME, "files": "main/*.jsonl"}
    )
    assert (main["first"], len(set(main["ids"]))) == ("main 0 0?", NUM_ROWS)
    assert len(small["ids"]) == NUM_ROWS // 3
    assert named["ids"] == main["ids"]
    assert main["raw"]["uri"] == f"hf://datasets/{NAME}@{'a' * 40}"
    assert len({each["raw"]["digest"] for each in (main, small, named)}) == 3

    hub.commits[NAME] = MOVED
    moved, pinned = read(
        hub, {"hub": NAME, "subset": "main"}, {"hub": NAME, "subset": "main", "revision": MOVED, "limit": 5}
    )
    assert moved["raw"]["digest"] != main["raw"]["digest"]
    assert moved["raw"]["digest"] == pinned["raw"]["digest"]
    assert (moved["ids"], pinned["ids"]) == (main["ids"], main["ids"][:5])


def test_a_plan_looks_the_commit_up_and_says_when_it_cannot(hub: FakeHub) -> None:
    source = f'[{{ hub = "{NAME}", subset = "small", name = "questions", adapter = "gsm8k", license = "MIT" }}]'
    command = [sys.executable, "-m", "flows.cli", "plan", "smoke", "--set", f"ingest.sources={source}", "--json"]
    env = child_environment() | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "COLUMNS": "200"}
    env |= {"HF_HOME": str(hub.folder.parent / "home")}
    command += ["--store", str(hub.folder.parent / "store")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    steps = {line["label"]: line["state"] for line in json.loads(done.stdout)}
    assert steps["ingest questions"] == "miss"
    assert f"GET /api/datasets/{NAME}/revision/main" in hub.asked

    env["HF_HUB_OFFLINE"] = "1"
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    assert "unset HF_HUB_OFFLINE, or download its files and name one under `file`" in " ".join(done.stderr.split())


def test_broken_connections_and_a_busy_hub_lose_nothing(hub: FakeHub) -> None:
    hub.busy = 2
    (first,) = read(hub, {"hub": NAME, "subset": "main"})
    hub.breaks = 4
    (again,) = read(hub, {"hub": NAME, "subset": "main"})
    assert hub.breaks == 0
    assert again == first


def test_refusals_name_the_data_set_and_the_remedy(hub: FakeHub) -> None:
    (hub.folder / "owner/closed").mkdir()
    hub.gated.add("owner/closed")
    absent, gated, revision, subset = read(
        hub,
        {"hub": "owner/nothing"},
        {"hub": "owner/closed"},
        {"hub": NAME, "revision": "nope"},
        {"hub": NAME, "subset": "mian"},
    )
    assert "owner/nothing@main: the hub has no data set of that name" in absent["error"]
    assert "owner/closed@main: it is gated; accept its terms" in gated["error"]
    assert f"{NAME}@nope: it has no such revision" in revision["error"]
    assert "check `subset`, `split` and `files`" in subset["error"]
    (offline,) = read(hub, {"hub": NAME}, HF_HUB_OFFLINE="1")
    assert "unset HF_HUB_OFFLINE" in offline["error"]
