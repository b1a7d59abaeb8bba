"""posttrain sources: the catalogue of public sources and benchmarks, and what each carries."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from string import hexdigits
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from flows.commands.options import JsonOption, ProfileOption, RawOption, console, open_runtime
from infra.config import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from tasks.ingest.catalogue import Entry

SHOWN_CHARACTERS = 100  # of a field of an example


class SystemName(StrEnum):
    """A published system."""

    AM = "am"
    SK = "sk"


class DomainName(StrEnum):
    """What rows ask for."""

    MATH = "math"
    CODE = "code"
    SCIENCE = "science"
    INSTRUCTION = "instruction_following"
    CHAT = "chat"


class Example(NamedTuple):
    """A native row, and where it is from."""

    row: Mapping[str, Any]
    origin: str


app = typer.Typer()
EPILOG = (
    "Examples:\n\n  posttrain sources\n\n  posttrain sources --system sk --domain code\n\n"
    "  posttrain sources deepmath_103k\n\n  posttrain sources --raw FOLDER --json\n\n"
    'A recipe takes one by name: \\[\\[ingest.sources]] with catalogue = "deepmath_103k"; '
    "any field may be set beside it."
)


@app.command(epilog=EPILOG)
def sources(
    name: Annotated[str | None, typer.Argument(help="One of them, in full, with an example of its fields.")] = None,
    system: Annotated[SystemName | None, typer.Option(help="Only what this published system names.")] = None,
    domain: Annotated[DomainName | None, typer.Option(help="Only rows that ask for this.")] = None,
    profile: ProfileOption = "local",
    raw: RawOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the public sources and benchmarks that a recipe can name, with what each carries, and which are here."""
    from tasks.ingest.catalogue import catalogue, find_entry

    folder = _raw_folder(profile, raw)
    if name is not None:
        try:
            entry = find_entry(name)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        _show_one(entry, folder, as_json)
        return
    chosen = [
        entry
        for entry in catalogue().values()
        if (system is None or system.value in entry.systems) and (domain is None or domain.value == entry.domain)
    ]
    if as_json:
        print(json.dumps([_as_json(entry, folder) for entry in chosen], indent=1))
    else:
        console.print(_table(chosen, folder))
        console.print(_counts(chosen, folder), highlight=False)


def _raw_folder(profile: str, raw: str | None) -> Path | None:
    folder = open_runtime(profile, raw=raw).raw_folder
    if folder is None:
        return None
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ConfigError(f"{path}: no such raw folder; give one that exists with --raw")
    return path


def local_file(entry: Entry, folder: Path | None) -> Path | None:
    """The file of a raw folder that holds an entry's rows: its own, or a copy of the hub's named for the entry."""
    if folder is None:
        return None
    names = [entry.file] if entry.file else [f"raw/{entry.name}.parquet", f"raw/{entry.name}.jsonl"]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _as_json(entry: Entry, folder: Path | None) -> dict[str, Any]:
    from tasks.ingest.catalogue import schemas

    here = local_file(entry, folder)
    fields = entry.model_dump(mode="json")
    return fields | {"columns": list(schemas()[entry.adapter].needs), "present": here is not None}


def _table(entries: Iterable[Entry], folder: Path | None) -> Table:
    from rich.table import Column, Table

    columns: list[Column | str] = [
        "source",
        "of",
        "domain",
        "carries",
        "adapter",
        "licence",
        Column("from", overflow="fold"),
        "here",
    ]
    table = Table(*columns, box=None, pad_edge=False)
    for entry in entries:
        group = "[dim]benchmark[/]" if entry.is_benchmark else " ".join(entry.systems)
        here = "yes" if local_file(entry, folder) else "[dim]–[/]"
        domain = entry.domain.value.replace("instruction_following", "instruction")
        table.add_row(entry.name, group, domain, entry.carries, entry.adapter, entry.license, _origin(entry), here)
    return table


def _origin(entry: Entry) -> str:
    if entry.revision is None:
        return entry.origin
    is_commit = all(character in hexdigits for character in entry.revision)
    return f"{entry.origin}@{entry.revision[:7] if is_commit else entry.revision}"


def _counts(entries: list[Entry], folder: Path | None) -> str:
    num_here = sum(local_file(entry, folder) is not None for entry in entries)
    num_benchmarks = sum(entry.is_benchmark for entry in entries)
    where = f"in {folder}" if folder else "(no raw folder is set: --raw FOLDER)"
    return f"\n{len(entries) - num_benchmarks} sources, {num_benchmarks} benchmarks; {num_here} are here {where}"


def _show_one(entry: Entry, folder: Path | None, as_json: bool) -> None:
    from tasks.ingest.catalogue import schemas

    example = _example(entry, folder)
    if as_json:
        print(
            json.dumps({**_as_json(entry, folder), "example": {"from": example.origin, "row": example.row}}, indent=1)
        )
        return
    needs = schemas()[entry.adapter].needs
    role = "a benchmark: never trained on" if entry.is_benchmark else "a source to train on"
    facts = {
        "from": _origin(entry),
        "rows": _selection(entry),
        "domain": entry.domain.value,
        "carries": entry.carries.value,
        "licence": entry.license,
        "adapter": entry.adapter,
        "systems": ", ".join(entry.systems) or "none",
        "here": str(local_file(entry, folder) or "no"),
        "note": entry.note,
    }
    console.print(f"[bold]{entry.name}[/] is {role}")
    for key, value in facts.items():
        if value:
            console.print(f"  {key:<9} {value}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"\nA row ({example.origin}); * must be there, and what is not taken is kept in the meta:")
    for key, value in example.row.items():
        text = json.dumps(value, ensure_ascii=False)
        cut = text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"
        console.print(f"  {'*' if key in needs else ' '} {key}: {cut}", markup=False, highlight=False, soft_wrap=True)


def _selection(entry: Entry) -> str:
    rules = [f"only {column} = {pattern}" for column, pattern in entry.only.items()]
    return "; ".join([*rules, *(f"without {column} = {pattern}" for column, pattern in entry.without.items())])


def _example(entry: Entry, folder: Path | None) -> Example:
    """The first row of the file that is here, or a made-up one of the schema."""
    from tasks.ingest.catalogue import schemas
    from tasks.ingest.native import read_rows

    here = local_file(entry, folder)
    row = next(iter(read_rows(here, here.name)), None) if here else None
    if row is None:
        return Example(schemas()[entry.adapter].row, "made up, in the shape of the source")
    return Example(row, "the first of the file")
