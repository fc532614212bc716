"""Files that appear whole or not at all."""

import os
import uuid
from pathlib import Path


def write_atomically(path: Path | str, content: bytes) -> None:
    """Writes a file beside its final place and moves it there, so readers never see half of it.

    Raises:
        FileNotFoundError: if the folder does not exist.
        OSError: if the folder cannot be written to.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"Cannot write {path}: the folder {path.parent} does not exist.")
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
