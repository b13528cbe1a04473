"""What a report must show, read from its file and from a real browser that opens it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from chromium import browse

from glombridge.report.page import fixed, resolve
from glombridge.steps.report import MOST_PICTURES

PLOTS = {
    "Precision over recall",
    "Precision over confidence",
    "Recall over confidence",
    "F1 over confidence",
    "Recall over false objects per slide (FROC)",
    "reliability Validation slides",
    "reliability Test slides",
    "review",
    "growth 1",
    "growth 2",
    "training 1",
}


def pictured(evaluation: Any) -> list[str]:
    """Kinds of the errors that have a picture: of each kind only so many."""
    kinds = sorted(f["kind"] for f in evaluation["faults"])
    return [kind for n, kind in enumerate(kinds) if n - kinds.index(kind) < MOST_PICTURES]


class Numbers(HTMLParser):
    """What stands in every element that says which number of the JSON it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[str, str]] = []
        self._pointer: str | None = None
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._pointer = dict(attrs).get("data-figure")
        if self._pointer is not None:
            self.shown.append((self._pointer, ""))

    def handle_data(self, data: str) -> None:
        if self._pointer is not None:
            self.shown[-1] = (self._pointer, self.shown[-1][1] + data)

    def handle_endtag(self, tag: str) -> None:
        self._pointer = None


def parsed(page: Path) -> Numbers:
    parser = Numbers()
    parser.feed(page.read_text("utf-8"))
    return parser


def assert_numbers(shown: list[tuple[str, str]], evaluation: Any) -> None:
    assert len(shown) > 100
    for pointer, text in shown:
        value = resolve(evaluation, pointer)
        assert text in (fixed(value, 3), fixed(value, 2)), pointer


PROBE = """
const probe = () => ({
  width: document.documentElement.clientWidth,
  scroll: document.documentElement.scrollWidth,
  plots: [...document.querySelectorAll('figure[data-plot]')].map((f) => {
    const svg = f.querySelector('svg'), box = svg.getBoundingClientRect();
    return [f.dataset.plot, box.width, box.height, svg.querySelectorAll('path').length]; }),
  pictures: [...document.images].map((i) => i.naturalWidth),
  figures: [...document.querySelectorAll('[data-figure]')].map(
    (f) => [f.dataset.figure, f.textContent]),
  fetched: performance.getEntriesByType('resource').map((e) => e.name)
    .filter((n) => !n.startsWith('data:')),
  clipped: [...document.querySelectorAll('td, th')].filter(
    (c) => c.offsetParent && c.getBoundingClientRect().width < 24 && c.textContent.length > 4).length,
});
for (const i of document.images) i.loading = 'eager';
"""


def assert_shown(page: Path, evaluation: Any, *, width: int) -> None:
    """Opened in a browser, the page holds every plot and picture and no number but the JSON's."""
    seen = browse(page, PROBE, width=width)
    assert seen["scroll"] <= seen["width"], "nothing sticks out at the side"
    assert seen["clipped"] == 0, "no column is squeezed to single letters"
    drawn = {name: (w, h, paths) for name, w, h, paths in seen["plots"]}
    assert set(drawn) >= PLOTS
    for name, (w, h, paths) in drawn.items():
        assert w > 300, name
        assert h > 200, name
        assert paths > 5, name
    assert seen["pictures"] == [200] * len(pictured(evaluation))
    assert seen["fetched"] == []
    assert_numbers([(p, t) for p, t in seen["figures"]], evaluation)
