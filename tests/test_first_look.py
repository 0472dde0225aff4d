"""What a newcomer sees first: pictures that are small and of no machine in particular, and commands that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/first-night.md")
PICTURES = sorted((ROOT / "docs" / "images").iterdir())


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_a_target_and_every_setting_is_one(page: str) -> None:
    """Of those that begin a line."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    (listed,) = re.findall(r"^SETTINGS := (.*?[^\\])$", makefile, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^    make ([^#\n]*)", (ROOT / page).read_text(), re.MULTILINE)
    settings = {name for line in lines for name in re.findall(r"\b([A-Z_]+)=", line)}

    assert 5 < len(lines)
    assert set() == {line.split()[0] for line in lines} - targets
    assert set() == settings - set(listed.replace("\\", " ").split())


def test_the_page_of_the_first_night_is_found() -> None:
    """README leads there, and shows both pictures at its beginning."""
    beginning = (ROOT / "README.md").read_text()[:4000]

    assert "(docs/first-night.md)" in beginning
    assert {f"docs/images/{path.name}" for path in PICTURES} == set(re.findall(r"!\[[^]]+\]\(([^)]+)\)", beginning))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_small_and_names_no_machine(picture: Path) -> None:
    """Nor does it load anything."""
    data = picture.read_bytes()

    assert len(data) < 150_000
    assert not re.search(rb"/(?:tmp|home|root|work)/|url\(\"?http|@import", data)
