"""A real browser on the pages of a stack: Chromium without a window on the screen, its faults, and pictures of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Error, FrameLocator, Locator, Page, Response, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# It talks to the stack alone: no updates, no sync, nothing in the background.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTH, HEIGHT = 1440, 1000
PATIENCE_MS = 60_000
# Prefect on SQLite answers so where two writes cross; its clients ask again, of its form a person presses the button.
BUSY = 503
MAX_PRESSES = 10
# What the pages of Prefect and MLflow ask for and their servers do not have: icons, and who is logged in.
MISSING_BY_THEMSELVES = ("/favicon.ico", "/favicon-dark.ico", "/ico/undefined.svg", "/mlflow/users/current")
NOISE = (
    "Failed to load resource",  # told as an answer already
    "ResizeObserver loop",  # the browser's own remark about MLflow's tables: they are drawn in the next frame
)


class Window:
    """A page of the browser as a person has it before them; it remembers what went wrong on all that it showed."""

    def __init__(self, page: Page, pictures: Path) -> None:
        self.page, self._pictures = page, pictures
        self.faults: list[str] = []
        self._num_busy = 0
        page.on("response", self._answered)
        page.on("console", self._told)
        page.on("pageerror", self._threw)

    def _answered(self, response: Response) -> None:
        self._num_busy += response.status == BUSY
        if response.status >= 400 and response.status != BUSY and not response.url.endswith(MISSING_BY_THEMSELVES):
            self.faults.append(f"{self.page.url}: {response.status} for {response.url}")

    def _told(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._said(message.text)

    def _threw(self, error: Error) -> None:
        # A page throws what a busy server answers, under a name that its build made up.
        if self._num_busy:
            self._num_busy -= 1
        else:
            self._said(str(error))

    def _said(self, text: str) -> None:
        if not any(noise in text for noise in NOISE):
            self.faults.append(f"{self.page.url}: {text}")

    def picture(self, name: str) -> Path:
        """Keep what the window shows, as a test artifact."""
        self._pictures.mkdir(parents=True, exist_ok=True)
        path = self._pictures / f"{name}.png"
        self.page.screenshot(path=path, animations="disabled")
        return path


@contextmanager
def open_window(pictures: Path) -> Iterator[Window]:
    """A window of a browser of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), headless=True)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield Window(page, pictures)
        browser.close()


# Prefect


def open_form(window: Window, deployment_page: str) -> None:
    """From a deployment's page to its form: Run, then Custom run."""
    window.page.goto(deployment_page)
    window.page.get_by_role("button", name="Run", exact=True).click()
    window.page.get_by_text("Custom run").click()
    window.page.get_by_text("Parameters", exact=True).wait_for()


def form_field(window: Window, description: str) -> Locator:
    """The innermost field of a form that carries the description."""
    return window.page.locator(".schema-form-property", has_text=description).last


def press_submit(window: Window) -> Response:
    """Press a form's button; what the server answers."""
    with window.page.expect_response(re.compile("/create_flow_run$")) as answered:
        window.page.get_by_role("button", name="Submit").click()
    return answered.value


def submit(window: Window, name: str) -> str:
    """Name the run, submit the form, and go to the run's page; the flow run's id."""
    window.page.locator(".flow-run-name-input input").fill(name)
    answer = press_submit(window)
    presses = 1
    while answer.status == BUSY and presses < MAX_PRESSES:
        window.page.wait_for_timeout(1000)
        answer = press_submit(window)
        presses += 1
    assert answer.ok, answer.text()
    flow_run: str = answer.json()["id"]
    # The page links to the run in a toast that is gone after seconds.
    window.page.goto(f"{window.page.url.partition('/deployments/')[0]}/runs/flow-run/{flow_run}")
    window.page.get_by_text("Subflow Runs", exact=True).wait_for()
    return flow_run


def open_tab(window: Window, name: str) -> None:
    """Open a tab of a run's page."""
    window.page.get_by_role("tablist").get_by_text(name, exact=True).click()


def subflow(window: Window, name: str) -> Locator:
    """The entry of a flow run in a list of them; it fills in when it is looked at."""
    entry = window.page.locator(".flow-run-list-item", has_text=name)
    entry.scroll_into_view_if_needed()
    return entry


def open_artifact(window: Window, key: str) -> None:
    """From the Artifacts tab to the page of an artifact."""
    window.page.locator(".artifact-card__title").get_by_text(key, exact=True).click()
    window.page.wait_for_url(re.compile("/artifacts/artifact/"))


def card(window: Window) -> Locator:
    """The Markdown of an artifact's page, rendered."""
    return window.page.locator("article", has=window.page.locator("table")).first


# MLflow


def open_in_mlflow(window: Window, address: str) -> None:
    """Open a page, and close the assistant that takes a quarter of it."""
    window.page.goto(address)
    close = window.page.get_by_label("Close", exact=True)
    window.page.get_by_text("Artifacts", exact=True).first.wait_for()
    if close.count():
        close.first.click()


# lineage.html: `view` is the page itself, or the frame that shows it


def select_node(view: Page | FrameLocator, kind: str, name: str) -> None:
    """Click a node of the drawing, and wait until the panel tells about it."""
    view.locator(f"a.node[data-kind={kind}]", has_text=name).click()
    expect(view.locator("#panel h2")).to_have_text(name)


def selected_node(view: Page | FrameLocator) -> str:
    """Id of the node that is selected."""
    return view.locator("a.node.selected").get_attribute("id") or ""


def panel_title(view: Page | FrameLocator) -> str:
    """Name of the node that the panel tells about."""
    return view.locator("#panel h2").inner_text()


def panel_kind(view: Page | FrameLocator) -> str:
    """Kind of the node that the panel tells about."""
    return view.locator("#panel .badge").inner_text()


def panel_links(view: Page | FrameLocator, title: str) -> list[str]:
    """Ids of the nodes that one list of the panel links to, such as `Made from`."""
    links = view.locator(f"#panel h3:text-is('{title}') + ul a").all()
    return [(link.get_attribute("href") or "").removeprefix("#") for link in links]


def follow(view: Page | FrameLocator, title: str, node: str) -> None:
    """Click the panel's link to a node in one of its lists, and wait until the node is selected."""
    view.locator(f"#panel h3:text-is('{title}') + ul a[href='#{node}']").click()
    expect(view.locator("a.node.selected")).to_have_id(node)
