"""Photos of newer phones, with the optional package pillow-heif."""

import io

from PIL import Image

BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def is_heic(head: bytes) -> bool:
    """Whether a file that begins so is a HEIC photo."""
    return head[4:8] == b"ftyp" and head[8:12] in BRANDS


def open_heic(stream: io.BytesIO | io.BufferedReader) -> Image.Image:
    """The photo with its header read, nothing decoded; upright already when it is.

    Raises:
        ImportError: saying what to install, without pillow-heif.
        SyntaxError: for a damaged file.
    """
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError as error:
        raise ImportError(
            'HEIC photos need another package: pip install "hisplat-app[heic]"'
        ) from error
    return HeifImageFile(stream)
