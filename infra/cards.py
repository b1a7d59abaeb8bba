"""Markdown that a flow shows beside its steps' cards: in Prefect, and in MLflow on the run."""

from __future__ import annotations

from infra.run import require_run


def show(key: str, markdown: str) -> None:
    """Show a card of the run, on the page of the flow run that calls; the same key again replaces it."""
    from prefect.artifacts import create_markdown_artifact

    run = require_run()
    if run.planning:
        return
    create_markdown_artifact(key=artifact_key(run.name, key), markdown=markdown, description=f"run {run.id}")
    if run.lineage is not None:
        run.lineage.show(f"{key}.md", markdown)


def link(key: str, url: str, text: str) -> None:
    """Show a link on the page of the flow run that calls."""
    from prefect.artifacts import create_link_artifact

    create_link_artifact(key=artifact_key(require_run().name, key), link=url, link_text=text, description=text)


def artifact_key(*parts: str) -> str:
    """A key as Prefect wants it: lower case, digits and dashes."""
    return "".join(c if c.isalnum() else "-" for c in "-".join(parts).lower()).strip("-")
