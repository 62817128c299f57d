"""The page of a batch, for people: one file that asks for no other, and holds no script."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from urllib.parse import quote

from napari_pristine.batch.file_result import Figures, counted, figures
from napari_pristine.batch.thumbnails import RANGE, thumbnail, thumbnails
from napari_pristine.events import ItemDone
from napari_pristine.image.image import Image
from napari_pristine.io.registry import read
from napari_pristine.text import duration, one_line

PICTURED = 200
"""Files with pictures, at most: some 50 kB each."""
_SAMPLE = 100
"""Files without failure that have pictures, where there are more than that."""
_LARGEST = 2**28
"""Values in a plane of a failed file that is still drawn: it may claim any size, and that may be why it failed."""
_HEAD = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
_CONTROLS = {n: 0x2400 + n for n in range(32)} | dict.fromkeys(range(127, 160), 65533)
"""Characters that no page may hold, and what is shown for them."""


def page(folder: Path, rows: Sequence[ItemDone], *, title: str) -> Iterator[str]:
    """The page, piece by piece; failures first.

    Args:
        folder: Where it will be: links are relative to it.
        rows: What happened to each file.
        title: What the batch is called.
    """
    drawn = _pictured(rows)
    failed = [(number, row) for number, row in enumerate(rows) if row.status == "failed"]
    done = [(number, row) for number, row in enumerate(rows) if row.status != "failed" or row.facts]
    yield _HEAD.substitute(title=_safe(title), summary=_summary(rows), recipe=_recipe(rows))
    if failed:
        yield f'<h2 id="failed">Failed ({len(failed)})</h2>\n<ul class="failures">\n'
        yield from (_failure(row, pictures=number in drawn and not row.facts) for number, row in failed)
        yield "</ul>\n"
    if done:
        yield f'<h2 id="files">Files ({len(done)})</h2>\n{_sampled(rows, drawn)}{_LEGEND}'
        yield f'<div class="wide"><table>\n{_TITLES}<tbody>\n'
        yield from (_line(folder, row, pictures=number in drawn) for number, row in done)
        yield "</tbody></table></div>\n"
    yield "</main></body></html>\n"


def _safe(value: object) -> str:
    """Any text as a part of the page. All that comes from outside goes through here."""
    return html.escape(str(value).translate(_CONTROLS))


def _pictured(rows: Sequence[ItemDone]) -> set[int]:
    """Numbers of the rows that are drawn: all, or of too many the failures and an even sample of the others."""
    if len(rows) <= PICTURED:
        return set(range(len(rows)))
    failed = [number for number, row in enumerate(rows) if row.status == "failed"]
    others = [number for number, row in enumerate(rows) if row.status != "failed" and row.facts]
    count = min(_SAMPLE, len(others))
    return {*failed[: PICTURED - _SAMPLE], *(others[k * len(others) // count] for k in range(count))}


def _sampled(rows: Sequence[ItemDone], drawn: set[int]) -> str:
    if len(drawn) == len(rows):
        return ""
    return f"<p>Pictures are shown for {len(drawn)} of {len(rows)} files: failures, and an even sample of the rest.</p>"


def _summary(rows: Sequence[ItemDone]) -> str:
    """How many were restored, failed or left, how long it took, and by what."""
    counts = counted(rows)
    numbers = [
        f'<b class="{word.split()[0].replace("done", "restored")}">{count}</b> {word}'
        for word, count in counts.items()
        if count or word != "done before"
    ]
    found = [figures(row) for row in rows]
    seconds = sum(each.seconds or 0.0 for row, each in zip(rows, found, strict=True) if row.status == "restored")
    kept = [each for each in found if each.method]
    methods = dict.fromkeys(f"{each.method} ({each.preset})" if each.preset else each.method for each in kept)
    versions = dict.fromkeys(each.version for each in kept if each.version)
    said = [f"computing time {duration(seconds)}", *(["method " + ", ".join(methods)] if methods else [])]
    said += ["napari-pristine " + ", ".join(versions)] if versions else []
    return " · ".join(numbers + [_safe(text) for text in said])


def _recipe(rows: Sequence[ItemDone]) -> str:
    """All that decided the results, folded."""
    recipes = {repr(recipe): recipe for row in rows if (recipe := figures(row).recipe)}
    if not recipes:
        return ""
    first = next(iter(recipes.values()))
    settings = first.get("settings")
    flat = {key: value for key, value in first.items() if key != "settings"}
    flat |= dict(settings) if isinstance(settings, Mapping) else {}
    lines = "".join(f"<dt>{_safe(key)}</dt><dd>{_safe(value)}</dd>" for key, value in flat.items())
    more = f"<p>The first of {len(recipes)} recipes; the others are beside their results.</p>"
    return f"<details><summary>Recipe</summary>{more if len(recipes) > 1 else ''}<dl>{lines}</dl></details>"


def _failure(row: ItemDone, *, pictures: bool) -> str:
    drawn = "".join(_pictures(row, _before) if pictures else ())
    return (
        f'<li>{drawn}<div><span class="name">{_safe(row.source.name)}</span>{_where(row)}'
        f'<p class="failed">{_safe(one_line(row.text))}</p></div></li>\n'
    )


def _line(folder: Path, row: ItemDone, *, pictures: bool) -> str:
    """One line of the table."""
    found = figures(row)
    name = _safe(row.source.name)
    href = _link(folder, row.target) if os.path.exists(row.target) else ""  # no error, whatever the name
    named = f'<a class="name" href="{href}">{name}</a>' if href else f'<span class="name">{name}</span>'
    left = "" if row.status == "restored" else f'<p class="skipped">{_safe(_left(row))}</p>'
    drawn = _pictures(row, _before_after) if pictures and href else []
    cells = "".join(f"<td>{picture}</td>" for picture in [*drawn, "", "", ""][:3])
    numbers = "".join(f'<td class="number">{_safe(text)}</td>' for text in _numbers(found))
    notes = "".join(f"<p>{_safe(one_line(note))}</p>" for note in [found.stopped, *found.notes] if note)
    return (
        f"<tr><td>{named}{_where(row)}<small>{_safe(_kind(found))}</small>{left}</td>{cells}{numbers}"
        f"<td>{_safe(found.device or '–')}</td><td>{notes}</td></tr>\n"
    )


def _left(row: ItemDone) -> str:
    return "left: " + one_line(row.text) if row.status == "skipped" else "failed, see above; of the result from before"


def _where(row: ItemDone) -> str:
    return f"<small>{_safe(row.source.parent)}</small>"


def _kind(found: Figures) -> str:
    """Shape and type of the image, such as `T 5 × Y 64 × X 64, uint16`."""
    named = len(found.axes) == len(found.shape)
    sizes = [f"{axis} {n}" for axis, n in zip(found.axes, found.shape, strict=True)] if named else found.shape
    return ", ".join(part for part in (" × ".join(map(str, sizes)), found.dtype) if part)


def _numbers(found: Figures) -> Iterator[str]:
    forms = (
        (found.sigma, ".4g"), (found.residual, ".2f"), (found.whiteness, "z.2f"), (found.structure, "z.2f"),
        (found.invalid, ",.0f"),
    )  # fmt: skip
    yield from ("–" if value is None else format(value, form).replace("-", "−") for value, form in forms)
    yield "–" if found.seconds is None else duration(found.seconds)


def _link(folder: Path, target: Path) -> str:
    """Where the result is, seen from the page."""
    try:
        return quote(os.fsencode(Path(os.path.relpath(target, folder)).as_posix()))
    except ValueError:  # on another drive
        return target.absolute().as_uri()


def _pictures(row: ItemDone, draw: Callable[[ItemDone, Image], Sequence[bytes]]) -> list[str]:
    """Pictures of a row as parts of the page; none if its files cannot be read any more."""
    try:
        recipe = figures(row).recipe
        image = read(row.source, axes=str(recipe.get("axes", "")), lazy=True)
        select = recipe.get("select")
        drawn = draw(row, image.select(select if isinstance(select, Mapping) else {}))
    except Exception:  # noqa: BLE001 - a thousand results must not lose their report to one picture
        return []
    kinds = zip(("before", "after", "removed"), drawn, strict=False)
    return [f'<img alt="{kind}" src="data:image/png;base64,{base64.b64encode(png).decode()}">' for kind, png in kinds]


def _before(row: ItemDone, image: Image) -> Sequence[bytes]:
    size = image.size("Y") * image.size("X") * image.size("S")
    return [thumbnail(image)] if size <= _LARGEST else []


def _before_after(row: ItemDone, image: Image) -> Sequence[bytes]:
    sigma = figures(row).sigma or 0.0
    drawn = thumbnails(image, read(row.target, lazy=True), sigma)
    return drawn if sigma > 0 else drawn[:2]  # what was removed has no scale without it


_MEANINGS: dict[str, str] = {
    "Before, after": "middle plane, both with the same contrast.",
    "Removed": f"before minus after: white is {RANGE} noise levels removed, black {RANGE} added, mid grey no change. "
    "It should look like noise; shapes of the sample in it are detail that was lost. Of planes with more than 160 "
    "pixels means are drawn, with fainter noise.",
    "Noise": "root mean square of the noise of the input, in grey values (the units of the image).",
    "Residual": "root mean square of what was removed, in noise levels: about 1 is expected; well below 1 noise was "
    "left, above 1 detail may have been removed.",
    "Whiteness": "correlation of what was removed with its neighbours one pixel away, −1 to 1: 0 for white noise.",
    "Structure": "correlation of what was removed with the result, −1 to 1: 0 when no structure was lost; up to 0.4 "
    "is usual, since what is faint is lost in part.",
    "Filled": "number of values that were missing (NaN or infinite) and were filled.",
    "Time": "computing time of this file.",
}
"""What the columns mean."""
_LEGEND = "<dl>" + "".join(f"<dt>{_safe(k)}</dt><dd>{_safe(v)}</dd>" for k, v in _MEANINGS.items()) + "</dl>\n"
_UNITS = {
    "File": "", "Before": "", "After": "", "Removed": f"±{RANGE} noise levels", "Noise": "grey values",
    "Residual": "noise levels", "Whiteness": "−1 … 1", "Structure": "−1 … 1", "Filled": "values", "Time": "",
    "Device": "", "Notes": "",
}  # fmt: skip
"""Of each column."""
_NUMBERS = list(_UNITS)[4:10]
_TITLES = (
    "<thead><tr>"
    + "".join(
        f'<th scope="col"{" class=number" if name in _NUMBERS else ""}>{_safe(name)}<small>{_safe(unit)}</small></th>'
        for name, unit in _UNITS.items()
    )
    + "</tr></thead>\n"
)
