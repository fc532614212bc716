"""The card of a smaller network: what was kept, how good and fast it is beside the whole one."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hisplat_data_tools.atomic_write import write_atomically


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Writes slim.json, all of it, and slim.md, what people want to know."""
    text = json.dumps(card, indent=1, default=str) + "\n"
    write_atomically(folder / "slim.json", text.encode())
    write_atomically(folder / "slim.md", card_text(card).encode())


def card_text(card: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    flops, parameters = card["flops"], card["parameters"]
    run = card["run"]
    share = parameters["kept"] / parameters["whole"]
    lines = [
        f"# {run['model']}, compressed by {run['method'].upper()}",
        "",
        f"Parts: {', '.join(card['parts'])}. {card['steps']} steps of training.",
        "",
        f"- operations of the parts: {flops['kept'] / 1e9:.3f} of {flops['whole'] / 1e9:.3f} GFLOP "
        f"({flops['share']:.1%}), for two photos of {run['width']}x{run['height']}",
        f"- parameters of the network: {parameters['kept']:,} of {parameters['whole']:,} "
        f"({share:.1%})",
        *(f"- {name}.safetensors: {size:,} bytes" for name, size in card["bytes"].items()),
        "",
        "## Quality",
        "",
        *_quality(card["quality"]),
        "## Seconds",
        "",
        "The least of several runs, networks in turns. *features*: CNN, transformer, ViT branch; "
        "*layers*: these and all layers of the stages; *network*: everything but the matcher.",
        "",
        *_seconds(card["seconds"], card["latency_size"]),
        "## What is kept",
        "",
        *_table(
            ("channels of", "kept", "of"),
            (
                (f"`{name}`", str(len(group["kept"])), str(group["of"]))
                for name, group in card["kept_channels"].items()
                if len(group["kept"]) < group["of"]
            ),
        ),
        f"Skipped blocks: {', '.join(f'`{b}`' for b in card['skipped_blocks']) or 'none'}.",
    ]
    return "\n".join(lines) + "\n"


def _quality(quality: Mapping[str, Any]) -> list[str]:
    rows = [
        (name, "procedural", f"{scores['psnr']:.2f}", f"{scores['ssim']:.3f}")
        for name, scores in quality["procedural"].items()
    ]
    if "photos" in quality:
        photos = quality["photos"]
        kind = f"{photos['pairs']} pairs of photos, {photos['long_side']} px"
        rows += [
            (name, kind, f"{scores['psnr']:.2f}", f"{scores['ssim']:.3f}")
            for name, scores in photos["means"].items()
        ]
    return _table(("network", "on", "PSNR", "SSIM"), rows)


def _seconds(seconds: Mapping[str, Any], size: Sequence[int]) -> list[str]:
    rows = []
    for threads, networks in seconds.items():
        for name, values in networks.items():
            figures = [f"{values[kind]:.3f}" for kind in ("features", "layers", "network")]
            ratios = [networks["whole"][k] / values[k] for k in ("layers", "cpu layers")]
            rows.append((name, threads, *figures, *(f"{ratio:.2f}" for ratio in ratios)))
    heads = ("features", "layers", "network", "layers faster by", "in processor time")
    return _table((f"network, {size[1]}x{size[0]}", "CPU", *heads), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [*(f"| {' | '.join(row)} |" for row in lines), ""]
