"""What the pages on compression show is what the example does and what result files hold."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.compression.tables import DOCS, TABLES, DocumentedTable
from hisplat_models.compression.gkt import GroupKnowledge
from hisplat_models.compression.slimming import slimmed
from hisplat_models.compression.spaces import DepthSpace
from hisplat_models.compression.st import Stimulative
from hisplat_models.compression.statistics import reestimated_statistics

ROOT = Path(__file__).resolve().parents[1]
PAGES = [DOCS / "compression.md", *sorted((DOCS / "compression").glob("*.md"))]


def shown_code() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGES[0].read_text(), re.MULTILINE | re.DOTALL)


def test_the_code_for_a_network_of_ones_own_is_that_of_the_example():
    shown = shown_code()
    assert shown[0] in (ROOT / "examples/compress_own_network.py").read_text()
    assert len(shown[0].splitlines()) <= 30


@pytest.mark.parametrize("method", [Stimulative, GroupKnowledge])
def test_the_code_for_a_network_of_many_depths_works_for_both_methods(method: type):
    pytest.importorskip("sklearn")
    from examples import compress_own_network as example

    torch.manual_seed(0)
    network: Any = example.resnet()
    task = example.Digits()
    images = torch.randn(128, 1, 8, 8)
    train = images, torch.randint(10, (128,))
    names: dict[str, Any] = {
        "network": network,
        "task": task,
        "weights": torch.optim.SGD(network.parameters(), 0.05),
        "epochs": 1,
        "train": train,
        "images": images,
        "torch": torch,
        "DepthSpace": DepthSpace,
        "Stimulative": method,
        "slimmed": slimmed,
        "reestimated_statistics": reestimated_statistics,
    }
    before = copy.deepcopy(network)
    exec(compile(shown_code()[1], "compression.md", "exec"), names)
    small, shorter = names["small"], names["shorter"]
    assert not torch.equal(before[3].inner[0].weight, network[3].inner[0].weight), "not trained"
    assert not list(small[4].parameters()), "block 4 is left out"
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in network.parameters())
    assert small.eval()(images).isfinite().all()
    torch.testing.assert_close(small.train()(images), shorter)
    assert not torch.allclose(network.train()(images), shorter), "the whole network is back"


@pytest.mark.parametrize("documented", TABLES, ids=lambda documented: documented.results)
def test_tables_are_those_of_result_files(documented: DocumentedTable):
    text = (DOCS / documented.page).read_text()
    assert documented.written_into(text) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
