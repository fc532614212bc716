"""Files that people send for photos, and what should become of them: True if they are photos."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def odd_files() -> dict[str, tuple[bytes, bool]]:
    """Content by file name, and whether it can be used."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    jpg, png = encoded(photo, "JPEG"), encoded(photo, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    broken: dict[str, bytes] = {
        "empty.jpg": b"",
        "text.jpg": b"no photo at all",
        "zeros.png": bytes(10_000),
        "noise.jpg": generator.bytes(5_000),
        "header only.jpg": jpg[:20],
        "half.jpg": jpg[: len(jpg) // 2],
        "half.png": png[: len(png) // 2],
        "signature.png": png[:8],
        "flipped.png": png[:60] + bytes([png[60] ^ 0xFF]) + png[61:],
        "page.html": b"<html><script>alert(1)</script></html>",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='64' height='64'/>",
        "document.pdf": b"%PDF-1.4\n%%EOF\n",
        "archive.zip": b"PK\x05\x06" + bytes(18),
        "movie.mp4": b"\x00\x00\x00\x18ftypmp42" + bytes(100),
        "phone.heic": b"\x00\x00\x00\x18ftypheic" + bytes(100),
        "tiny.png": encoded(photo.resize((3, 2)), "PNG"),
        "line.png": encoded(photo.resize((400, 1)), "PNG"),
        "huge.png": bomb(60_000, 60_000),
        "wide.png": bomb(2_000_000_000, 64),
        "negative.bmp": b"BM" + bytes(12) + struct.pack("<IiiHH", 40, -5, 64, 1, 24) + bytes(24),
        "floats.tiff": encoded(Image.fromarray(pixels[..., 0].astype(np.float32)), "TIFF"),
        "<img src=x onerror=alert(1)>.jpg": b"hello",
    }
    fine: dict[str, bytes] = {
        "plain.jpg": jpg,
        "no ending": png,
        "a lie.jpg": png,
        "übergröße 照片.webp": encoded(photo, "WEBP"),
        "gray.png": encoded(photo.convert("L"), "PNG"),
        "palette.gif": encoded(photo.convert("P"), "GIF"),
        "see-through.png": encoded(photo.convert("RGBA"), "PNG"),
        "print.jpg": encoded(photo.convert("CMYK"), "JPEG"),
        "turned.jpg": encoded(photo, "JPEG", exif=exif),
        "with a tail.jpg": jpg + b"something behind it",
    }
    return {name: (content, name in fine) for name, content in {**broken, **fine}.items()}


def encoded(photo: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    photo.save(content, kind, **options)
    return content.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A .png of few bytes that claims to be huge."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(1_000_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")
