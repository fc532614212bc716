"""What the page on HiSplat's compression shows is what result files hold."""

import json
from pathlib import Path

from benchmarks.compression import hisplat, hisplat_full

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "compression" / "hisplat.md"


def result(name: str) -> dict:
    return json.loads((DOCS / "benchmarks" / name).read_text())


def test_the_table_of_methods_is_that_of_the_result():
    assert hisplat.table(result("compression_hisplat.json")) in PAGE.read_text()


def test_the_table_of_the_published_network_is_that_of_the_result():
    assert hisplat_full.table(result("compression_hisplat_full.json")) in PAGE.read_text()
