"""Where weights come from: names, files, and the Hub's own client against a local stand-in."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hisplat_models.checkpoints import CheckpointError, load_model
from hisplat_models.model_sources import bundled_models, find_weights
from tests.models.hub_stand_in import COMMIT, NAME, REPOSITORY, HubStandIn

ADDRESS = f"hf://{REPOSITORY}/{NAME}"
# In a process of its own: the client reads its settings when it is imported.
PROGRAM = """
import json, sys
from hisplat_models.model_sources import CheckpointError, find_weights
answers = []
for address in sys.argv[1:]:
    try:
        answers.append(str(find_weights(address)))
    except CheckpointError as error:
        answers.append(f"refused: {error}")
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[HubStandIn]:
    with HubStandIn(find_weights("hisplat-small").read_bytes()) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(endpoint: str, cache: Path, *addresses: str, offline: bool = False) -> list[str]:
    """What ``find_weights`` answers where the Hub is at ``endpoint``."""
    pytest.importorskip("huggingface_hub")
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-c", PROGRAM, *addresses]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def test_hub_files_are_downloaded_once_and_serve_without_the_hub(hub: HubStandIn, tmp_path: Path):
    hub.requests.clear()
    (path,) = ask(hub.url, tmp_path, ADDRESS)
    assert Path(path).is_relative_to(tmp_path)
    assert load_model(path).config == load_model("hisplat-small").config
    assert sum(request.startswith("GET") for request in hub.requests) == 1

    assert ask(hub.url, tmp_path, ADDRESS) == [path]
    assert sum(request.startswith("GET") for request in hub.requests) == 1
    hub.requests.clear()
    assert ask(hub.url, tmp_path, ADDRESS, offline=True) == [path]
    assert hub.requests == []
    assert ask("http://127.0.0.1:9", tmp_path, ADDRESS) == [path]


def test_revisions_are_what_follows_the_ending(hub: HubStandIn, tmp_path: Path):
    hub.requests.clear()
    second, commit = ask(hub.url, tmp_path, f"{ADDRESS}@second", f"{ADDRESS}@{COMMIT}")
    assert any(f"/resolve/second/{NAME}" in request for request in hub.requests)
    assert second == commit
    assert COMMIT in second


def test_what_the_hub_does_not_have_is_said(hub: HubStandIn, tmp_path: Path):
    answers = ask(
        hub.url,
        tmp_path,
        f"hf://nobody/weights/{NAME}",
        f"hf://{REPOSITORY}/other.safetensors",
        f"{ADDRESS}@never",
        f"hf://closed/weights/{NAME}",
        f"hf://no--such..name/x/{NAME}",
    )
    assert "no repository nobody/weights" in answers[0]
    assert "no file 'other.safetensors'" in answers[1]
    assert "no revision 'never'" in answers[2]
    assert "gated" in answers[3]
    assert "Cannot download" in answers[4]
    assert all(answer.startswith("refused: ") and "\n" not in answer for answer in answers)


def test_without_hub_and_cache_the_connection_is_named(tmp_path: Path):
    # Offline by request: the client tries a Hub that is down for half a minute, to the same end.
    (answer,) = ask("http://127.0.0.1:9", tmp_path, ADDRESS, offline=True)
    assert answer.startswith("refused: Cannot reach the Hub")


@pytest.mark.parametrize(
    "address",
    [
        "hf://",
        "hf://owner/repo",
        "hf://owner/file.safetensors",
        "hf://owner/repo/pickled.ckpt",
        "hf://owner/repo/weights.safetensors.exe",
        "hf://owner/repo/../../secret.safetensors",
        "hf://owner/repo/weights.safetensors@",
    ],
)
def test_addresses_of_another_form_are_refused_unasked(address: str):
    with pytest.raises(CheckpointError, match="Expected hf://OWNER/REPO/"):
        find_weights(address)


def test_without_the_client_its_installation_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r'pip install "hisplat-app\[hub\]"'):
        find_weights(ADDRESS)


def test_pickled_files_are_told_to_be_converted(tmp_path: Path):
    (tmp_path / "re10k.ckpt").write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match=r"hisplat convert .*re10k\.ckpt re10k\.safetensors"):
        find_weights(tmp_path / "re10k.ckpt")


def test_presets_without_weights_say_how_to_get_some():
    with pytest.raises(CheckpointError, match="hisplat convert"):
        find_weights("hisplat")


def test_unknown_names_list_all_that_was_expected():
    with pytest.raises(CheckpointError, match=r"hisplat-small.*hf://OWNER/REPO") as refusal:
        find_weights("hisplat-smal")
    assert "'hisplat-smal'" in str(refusal.value)


def test_bundled_names_are_files():
    for name in bundled_models():
        assert find_weights(name).is_file()
