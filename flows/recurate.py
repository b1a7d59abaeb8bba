"""The scheduled one: read the sources again, work on what is new, and publish a data version if anything changed."""

from __future__ import annotations

import time
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from flows.curate import Curated, curate
from flows.data_card import data_card
from flows.recipe import Recipe
from infra.artifacts import Dataset
from infra.cards import show
from infra.data_versions import DataVersion, is_announced, last_version, mark_announced, publish_version
from infra.lookup import find_artifact, text_of
from infra.phase import phase
from infra.run import Run, require_run
from infra.runtime import Runtime
from infra.version_diff import VersionDiff, diff_card, diff_versions

PUBLISHED = "posttrain.data-version.published"

Announce = Annotated[
    bool, Field(description="emit the event that a data version is published; the deployment that trains waits for it")
]


class Recurated(NamedTuple):
    """The data version that stands now."""

    queries: Dataset
    samples: Dataset


@phase
def recurate(recipe: Recipe, runtime: Runtime, announce: Announce = True) -> Recurated:
    """Curate the recipe's sources as they are today. Rows seen before cost nothing: their answers are in the cache."""
    run = require_run()
    recipe = _with_keepers(recipe, last_version(run.store, recipe.name))
    curated = curate(recipe, runtime)
    if not run.planning:
        _publish(run, curated, recipe, announce)
    return Recurated(queries=curated.queries, samples=curated.samples)


def _with_keepers(recipe: Recipe, before: DataVersion | None) -> Recipe:
    """The recipe by which queries of the version that stands win over new copies of theirs, whatever their source.

    It is this recipe that the event carries, so that whoever trains makes the very rows that were published.
    """
    if before is None or recipe.filter.keepers is not None:
        return recipe
    return recipe.model_copy(update={"filter": recipe.filter.model_copy(update={"keepers": before.queries})})


def _publish(run: Run, curated: Curated, recipe: Recipe, announce: bool) -> None:
    before = last_version(run.store, recipe.name)
    if before is not None and (before.queries_digest, before.samples_digest) == _digests(curated):
        show("data-version", f"# Data version {before.number} stands\n\nThe sources gave nothing new.")
        version, diff = before, None
    else:
        diff = _diff(run, before, curated)
        version = publish_version(run.store, _version(curated, recipe, before, run.id))
        show("data-version", data_card(run.store, version, curated.queries, curated.samples))
    if diff is not None:
        show("data-diff", diff_card(diff))
    # Asked of a version that stands too: the run that published it may have ended before it could tell.
    if announce and run.dispatcher is not None and not is_announced(run.store, version):
        _emit(version, diff, recipe)
        mark_announced(run.store, version)


def _diff(run: Run, before: DataVersion | None, curated: Curated) -> VersionDiff | None:
    if before is None:
        return None
    old = find_artifact(run.store, before.queries, recipe=before.recipe)
    assert isinstance(old, Dataset), "a data version names its queries"
    return diff_versions(run.store, old, curated.queries)


def _digests(curated: Curated) -> tuple[str, str]:
    return curated.queries.digest, curated.samples.digest


def _version(curated: Curated, recipe: Recipe, before: DataVersion | None, run_id: str) -> DataVersion:
    return DataVersion(
        recipe=recipe.name,
        number=before.number + 1 if before else 1,
        queries=text_of(curated.queries),
        queries_digest=curated.queries.digest,
        num_queries=curated.queries.rows,
        samples=text_of(curated.samples),
        samples_digest=curated.samples.digest,
        num_samples=curated.samples.rows,
        run=run_id,
        at=time.time(),
    )


def _emit(version: DataVersion, diff: VersionDiff | None, recipe: Recipe) -> None:
    """Tell the stack. The payload carries the recipe, so that whoever trains takes the very same one."""
    from prefect.events import emit_event

    changes = {"added": diff.num_added, "dropped": diff.num_dropped, "relabelled": diff.num_relabelled} if diff else {}
    payload: dict[str, Any] = {
        **version.model_dump(),
        "changes": changes,
        "recipe_fields": recipe.model_dump(mode="json"),
    }
    name = f"{version.recipe} {version.number}"
    resource = {"prefect.resource.id": f"posttrain.data-version.{version.recipe}", "prefect.resource.name": name}
    emit_event(event=PUBLISHED, resource=resource, payload=payload)
