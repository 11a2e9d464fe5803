"""Links between Markdown files of the repository lead somewhere, to a heading too where they name one."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SINGLE = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")
PAGES = [*(ROOT / name for name in SINGLE), *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`[^`]*`")


def prose(text: str) -> str:
    """Return the text without its blocks of code."""
    return FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """Return what GitHub calls the headings: lower case, no punctuation, hyphens for spaces, then numbers."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)? *$", prose(text), re.MULTILINE):
        bare = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)  # of a link, what is shown
        slug = re.sub(r"[^\w\- ]", "", bare.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(anchor)
    return found


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere; those to other sites are not followed."""
    links = LINK.findall(CODE.sub("", prose(page.read_text(encoding="utf-8"))))
    return [link for link in links if not re.match(r"[a-z]+:", link) and not leads_somewhere(page, link)]


def leads_somewhere(page: Path, link: str) -> bool:
    """Return whether there is such a file and, in it, such a heading."""
    place, _, anchor = link.partition("#")
    target = page.parent / place if place else page
    return target.exists() and (not anchor or anchor in anchors(target.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_anchors_are_those_of_github() -> None:
    text = "# `fit`: one, two & three\n## It_costs\n## It_costs\n```sh\n# no heading\n```\n### A [x](y.md)\n"
    assert anchors(text) == {"fit-one-two--three", "it_costs", "it_costs-1", "a-x"}


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Here\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "# Top\n[a](#top) [b](#bottom) [c](other.md#here) [d](other.md#there) [e](missing.md) [f](other.md)\n"
        "[g](https://example.org/#x) `[h](code.md)`\n```\n[i](block.md)\n```\n",
        encoding="utf-8",
    )
    assert broken(page) == ["#bottom", "other.md#there", "missing.md"]
