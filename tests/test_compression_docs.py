"""What the pages on compression show is what the example does and what result files hold."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.compression import depth_distillation, elastic
from benchmarks.compression.report import runs_of, table

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [DOCS / "compression.md", *sorted((DOCS / "compression").glob("*.md"))]


def test_the_code_for_a_network_of_ones_own_is_that_of_the_example():
    shown = re.findall(r"^```python\n(.*?)^```", PAGES[0].read_text(), re.MULTILINE | re.DOTALL)
    assert shown[0] in (ROOT / "examples/compress_own_network.py").read_text()
    assert len(shown[0].splitlines()) <= 30


@pytest.mark.parametrize(
    ("page", "results", "columns", "digits"),
    [
        ("compression/st.md", "compression_e1.json", elastic.COLUMNS, 1),
        ("compression/gkt.md", "compression_e2.json", elastic.COLUMNS, 1),
        ("compression.md", "compression_e5.json", depth_distillation.COLUMNS, 2),
    ],
)
def test_tables_are_those_of_result_files(
    page: str, results: str, columns: Mapping[str, str], digits: int
):
    assert (
        table(runs_of(DOCS / "benchmarks" / results), columns, digits) in (DOCS / page).read_text()
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
