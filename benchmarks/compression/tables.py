"""Writes the tables of result files into the pages of the documentation, between their markers.

Usage: python -m benchmarks.compression.tables
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import depth_distillation, elastic, soft_to_hard, sparsification
from .report import runs_of, table

DOCS = Path(__file__).resolve().parents[2] / "docs"


@dataclass(frozen=True)
class DocumentedTable:
    """A table of a page, between ``<!-- RESULTS -->`` and ``<!-- end -->``.

    Of modes for which all its columns were measured.
    """

    page: str
    """Within ``docs/``."""
    results: str
    """Name of the result file."""
    columns: Mapping[str, str]
    """Key -> heading."""
    digits: int = 1
    """After the point."""
    part: str = ""
    """Follows the file's name in the marker where a page has several tables of it."""

    def written_into(self, text: str) -> str:
        """The page's text with the table as the result file has it.

        Raises:
            ValueError: if the text has no place for it.
        """
        start, end = f"<!-- {self.results}{self.part} -->\n", "<!-- end -->"
        runs = [
            run
            for run in runs_of(DOCS / "benchmarks" / self.results)
            if self.columns.keys() <= run.keys()
        ]
        found = f"{start}\n{table(runs, self.columns, self.digits)}\n\n{end}"
        pattern = re.escape(start) + r".*?" + re.escape(end)
        text, count = re.subn(pattern, lambda _: found, text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"Expected one {start!r} in {self.page}, found {count}")
        return text


TABLES = (
    DocumentedTable("compression/st.md", "compression_e1.json", elastic.COLUMNS),
    DocumentedTable("compression/gkt.md", "compression_e2.json", elastic.COLUMNS),
    DocumentedTable("compression/s2hpruner.md", "compression_e3.json", soft_to_hard.COLUMNS),
    DocumentedTable("compression/s2hpruner.md", "compression_e3_digits.json", soft_to_hard.COLUMNS),
    DocumentedTable("compression/stp.md", "compression_e4.json", sparsification.COLUMNS),
    DocumentedTable("compression/stp.md", "compression_e4_digits.json", sparsification.COLUMNS),
    DocumentedTable(
        "compression/stp.md",
        "compression_e4.json",
        sparsification.NORM_COLUMNS,
        digits=2,
        part=" norms",
    ),
    DocumentedTable("compression.md", "compression_e5.json", depth_distillation.COLUMNS, 2),
)


def main() -> None:
    """Brings all pages up to date."""
    for each in TABLES:
        page = DOCS / each.page
        page.write_text(each.written_into(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
