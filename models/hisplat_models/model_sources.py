"""Where weights come from: bundled, a file, or a repository on the Hugging Face Hub."""

import re
from pathlib import Path

from .config import PRESETS

WEIGHTS_DIR = Path(__file__).parent / "weights"
HUB_SCHEME = "hf://"
_HUB_FORM = f"{HUB_SCHEME}OWNER/REPO/PATH/FILE.safetensors[@REVISION]"
# What follows the ending is the revision, so that file names may contain an "@".
_HUB_PATTERN = re.compile(r"hf://([\w.-]+/[\w.-]+)/(.+?\.safetensors)(?:@(.+))?")
_PICKLED = (".ckpt", ".pth", ".pt", ".bin")


class CheckpointError(ValueError):
    """Weights that cannot be found, read, or fitted into the network; says what to do."""


def find_weights(source: str | Path) -> Path:
    """The .safetensors file that a name, a path or a Hub address means.

    A Hub address, ``hf://OWNER/REPO/PATH/FILE.safetensors[@REVISION]``, is downloaded into the
    Hub's cache unless it is there; without a connection the cache serves.

    Raises:
        CheckpointError: if there is no such model; says what was expected.
        ImportError: for a Hub address without huggingface_hub.
    """
    if str(source).startswith(HUB_SCHEME):
        return _from_hub(str(source))
    if str(source) in (*PRESETS, *bundled_models()):
        return _bundled(str(source))
    path = Path(source)
    if path.suffix in _PICKLED:
        raise CheckpointError(
            f"{path} may be a pickled checkpoint, which is never loaded as a model; convert it "
            f"first: hisplat convert {path} {path.with_suffix('.safetensors').name}"
        )
    if not path.is_file():
        raise CheckpointError(
            f"Expected a bundled model {bundled_models()}, a .safetensors file or {_HUB_FORM}, "
            f"got {str(source)!r}, which is no file."
        )
    return path


def bundled_models() -> list[str]:
    """Names that need no file."""
    return sorted(p.stem for p in WEIGHTS_DIR.glob("*.safetensors"))


def _bundled(name: str) -> Path:
    path = WEIGHTS_DIR / f"{name}.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"No weights are bundled for {name!r}; bundled: {bundled_models()}. Pass a "
            ".safetensors file instead; hisplat convert makes one of a published checkpoint."
        )
    return path


def _from_hub(address: str) -> Path:
    match = _HUB_PATTERN.fullmatch(address)
    if match is None or ".." in match[2].split("/"):
        raise CheckpointError(f"Expected {_HUB_FORM}, got {address!r}.")
    repository, name, revision = match.groups()
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise ImportError(
            f'{address} needs huggingface_hub: pip install "hisplat-app[hub]"'
        ) from error
    try:
        return Path(hf_hub_download(repository, name, revision=revision))
    # From the narrow to the wide: a gated repository counts as one not found.
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{repository} is gated: accept its terms on its page, then log in with hf auth login."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"There is no repository {repository} on the Hub, or it is private: check the name, "
            "or log in with hf auth login."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{repository} has no revision {revision!r}.") from error
    except errors.LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"Cannot reach the Hub for {address}, and it is not in the cache; check the "
            "connection, and that HF_HUB_OFFLINE is not set."
        ) from error
    except errors.EntryNotFoundError as error:
        raise CheckpointError(f"{repository} has no file {name!r}.") from error
    except Exception as error:  # the client's transport has errors of its own, by version
        raise CheckpointError(f"Cannot download {address}: {shown(error)}") from error


def shown(untrusted: object, most: int = 160) -> str:
    """The first line of a text from elsewhere, without characters that steer a terminal."""
    line = (str(untrusted).strip().splitlines() or [""])[0]
    clean = "".join(c if c.isprintable() else "?" for c in line[: most + 1])
    return clean if len(clean) <= most else clean[:most] + "…"
