"""What the commands share: options, consoles, and how their texts become a recipe, a profile and a store."""

from __future__ import annotations

import sys
import tomllib
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from infra.config import ConfigError

if TYPE_CHECKING:
    from infra.runtime import Runtime

# A pipe has no width of its own; 80 columns would cut the tables.
console = Console(width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True)

RecipeArgument = Annotated[str, typer.Argument(help="Name of a recipe in flows/recipes, or the path of a TOML file.")]
ProfileOption = Annotated[str, typer.Option(help="Name of a profile in infra/profiles, or the path of a TOML file.")]
StoreOption = Annotated[
    str | None, typer.Option(help="Store: a folder, or s3://bucket/prefix. Default: the profile's.")
]
RawOption = Annotated[str | None, typer.Option("--raw", help="Folder of raw files, for recipes that read one.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a recipe field: --set sft.lr=1e-3 (TOML value). Repeatable.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, nothing else.")]


def open_runtime(profile: str, store: str | None = None, raw: str | None = None) -> Runtime:
    """The profile, with the store and the raw folder that were given in place of its own."""
    from infra.runtime import load_profile

    given = {"store": store, "raw_folder": raw}
    return load_profile(profile, {key: value for key, value in given.items() if value is not None})


def overrides(pairs: list[str] | None) -> dict[str, Any]:
    """`key=value` texts as dotted keys and TOML values.

    Raises:
        ConfigError: a text has no `=`, or its value is not TOML.
    """
    found: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        try:
            found[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            raise ConfigError(
                f"--set {pair}: not KEY=VALUE with a TOML value; write text in quotes: --set 'a.b=\"text\"'"
            ) from None
        if not equals:
            raise ConfigError(f"--set {pair}: no `=`; write --set key=value")
    return found
