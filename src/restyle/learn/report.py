"""What an evaluation says, as tables and as a page to look at."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

FIGURES = {
    "style_vgg": "relative distance of channel statistics from the style's, VGG-16, mean of relu1_1 to relu4_1",
    "style_alex": "the same seen by AlexNet, which nothing trains against, so no model can hide from it",
    "gram_vgg": "relative distance of Gram matrices from the style's, VGG-16",
    "content_vgg": "mean squared difference of instance-normalised relu4_1 from the photograph's; about 2 = unrelated",
    "lpips_alex": "LPIPS v0.1 between painted picture and photograph, at short side 256",
    "colour": "sliced Wasserstein-1 distance of the colours of painted picture and style, of 255",
    "noise": "excess of high-frequency energy over photograph and style",
    "identity": "LPIPS, as above, between the photograph painted in its own style and the photograph",
    "psnr_0": "PSNR in dB between the picture of strength 0, or as good as 0, and the photograph; higher is better, "
    "100 = the same",
    "stability": "flicker: warp error of two painted frames of a noisy camera that pans over the photograph, "
    "as a multiple of the frames' own; 1 = as calm as these",
}
"""The figures and their meanings; lower is better where nothing else is said."""

RATIO_FIGURES = [figure for figure in FIGURES if figure != "psnr_0"]  # decibels are a ratio already

INPUTS = "pairs"
"""Name of the output's folder of photographs and styles."""

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --paper: #fff; --ink: #1b1b1b; --faint: #666; --line: #ddd; --link: #0b57b0; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #161616; --ink: #e6e6e6; --faint: #9a9a9a; --line: #383838; --link: #8ab8f5; }
}
body { margin: 2rem auto; max-width: 90rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
a { color: var(--link); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
dt { font-weight: 600; }
dd { margin: 0 0 .5rem; color: var(--faint); }
.row { display: grid; grid-template-columns: repeat($columns, minmax(10rem, 1fr)); gap: .75rem; }
figure { margin: 0; }
img { width: 100%; aspect-ratio: 1; object-fit: cover; display: block; }
figcaption, .faint { color: var(--faint); font-size: .85rem; }
</style>
</head>
<body>
<h1>$title</h1>
<p class="faint">$about</p>
<h2>Figures</h2>
<p>Means over the pairs; lower is better but for psnr_0.$versus</p>
$figures
<details><summary>What the figures are</summary>
<dl>
$meanings
</dl></details>
$strengths
<h2>Pictures</h2>
<p class="faint">The middle of each; a click shows it whole.</p>
$pictures
</body>
</html>
""")


def folder_name(model: str) -> str:
    """The name of a model's folder, from its name or path."""
    return Path(os.path.abspath(model)).name


def figure_table(documents: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Mean figures, a column for each model and, after them, the peer's.

    Args:
        documents: From ``restyle.learn.evaluate.evaluate``.

    Returns:
        The head and a row for each figure; a ratio to the peer stands after a figure as ``x0.95``.
    """
    columns = list(documents.values())
    peer = columns[0].get("versus")
    rows = [["figure", *map(folder_name, documents), *([peer["name"]] if peer else [])]]
    for figure in columns[0]["mean"]:
        row = [figure]
        for document in columns:
            ratio = document.get("versus", {"ratio": {}})["ratio"].get(figure)
            row.append(f"{document['mean'][figure]:.4f}" + ("" if ratio is None else f"  x{ratio:.2f}"))
        if peer:
            row.append(f"{peer['mean'][figure]:.4f}" if figure in peer["mean"] else "")
        rows.append(row)
    return rows


def strength_table(documents: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Style and content at each strength, two columns for each model; empty if they were not measured."""
    curves = [document.get("strengths", []) for document in documents.values()]
    if not all(curves):
        return []
    figures = ("style_vgg", "content_vgg")
    rows = [["strength", *(f"{folder_name(name)} {figure}" for name in documents for figure in figures)]]
    for at in zip(*curves, strict=True):
        rows.append([f"{at[0]['strength']:g}", *(f"{row[figure]:.4f}" for row in at for figure in figures)])
    rows.append(["monotone"])
    for document in documents.values():
        pairs = len(document["pairs"])
        rows[-1] += [f"{pairs - len(document['not_monotone'])} of {pairs} pairs", ""]
    return rows


def write_report(path: Path, documents: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the page: tables, and all pictures of the folder that it lies in, linked relatively.

    Args:
        path: Where to; the pictures that ``evaluate`` paints lie beside.
        documents: From ``restyle.learn.evaluate.evaluate``.

    Raises:
        OSError: the page cannot be written.
    """
    first = next(iter(documents.values()))
    peer = first.get("versus")
    strengths = strength_table(documents)
    models = "; ".join(f"{folder_name(name)}: {document['model']}" for name, document in documents.items())
    pictures = [_pictures(pair, documents) for pair in first["pairs"]]
    page = _PAGE.substitute(
        title=escape("Evaluation of " + ", ".join(map(folder_name, documents))),
        about=escape(f"{len(pictures)} pairs, strength {first['strength']:g}. {models}"),
        versus=escape(f" After x: the ratio to {peer['name']} on the same pairs; below 1 is better." if peer else ""),
        figures=_table(figure_table(documents)),
        meanings="\n".join(f"<dt>{figure}</dt><dd>{escape(meaning)}</dd>" for figure, meaning in FIGURES.items()),
        strengths=f"<h2>Strength</h2>\n{_table(strengths)}" if strengths else "",
        columns=2 + len(documents),
        pictures="\n".join(pictures),
    )
    write_whole(path, page)


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside its place and rename it.

    Raises:
        OSError: the disk refuses.
    """
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, "utf-8", "replace")
    os.replace(beside, path)


def _table(rows: list[list[str]]) -> str:
    head, *body = [[escape(cell) for cell in row] for row in rows]
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    heads = "".join(f"<th>{cell}</th>" for cell in head)
    return "\n".join(['<div class="wide"><table>', f"<tr>{heads}</tr>", *lines, "</table></div>"])


def _pictures(pair: str, documents: Mapping[str, Mapping[str, Any]]) -> str:
    row = [
        _picture(f"{INPUTS}/{pair}.{what}.jpg", caption)
        for what, caption in (("content", "photograph"), ("style", "style"))
    ]
    for name, document in documents.items():
        judged = ", ".join(f"{figure} {document['pairs'][pair][figure]:.3f}" for figure in ("style_vgg", "content_vgg"))
        row.append(_picture(f"{folder_name(name)}/{pair}.png", f"{folder_name(name)}: {judged}"))
    return "\n".join([f"<h3>{escape(pair)}</h3>", '<div class="wide"><div class="row">', *row, "</div></div>"])


def _picture(place: str, caption: str) -> str:
    link, words = quote(place, errors="surrogateescape"), escape(caption)
    image = f'<a href="{link}"><img src="{link}" alt="{words}" loading="lazy"></a>'
    return f"<figure>{image}<figcaption>{words}</figcaption></figure>"
