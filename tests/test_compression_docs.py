"""What the pages on compression show is what the example does and what result files hold."""

import re
from pathlib import Path

import pytest

from benchmarks.compression.tables import DOCS, TABLES, DocumentedTable

ROOT = Path(__file__).resolve().parents[1]
PAGES = [DOCS / "compression.md", *sorted((DOCS / "compression").glob("*.md"))]


def test_the_code_for_a_network_of_ones_own_is_that_of_the_example():
    shown = re.findall(r"^```python\n(.*?)^```", PAGES[0].read_text(), re.MULTILINE | re.DOTALL)
    assert shown[0] in (ROOT / "examples/compress_own_network.py").read_text()
    assert len(shown[0].splitlines()) <= 30


@pytest.mark.parametrize("documented", TABLES, ids=lambda documented: documented.results)
def test_tables_are_those_of_result_files(documented: DocumentedTable):
    text = (DOCS / documented.page).read_text()
    assert documented.written_into(text) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
