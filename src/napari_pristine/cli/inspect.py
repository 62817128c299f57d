"""Commands that answer questions: `pristine compare`, `diagnose` and `methods`; and `pristine export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from napari_pristine.cli.options import Axes, Json, Overwrite, Series
from napari_pristine.cli.output import (
    describe_comparison,
    describe_diagnosis,
    describe_method,
    describe_settings,
    method_facts,
    report_error,
    say,
)
from napari_pristine.errors import SettingError
from napari_pristine.methods import METHODS, find_method
from napari_pristine.text import to_json

if TYPE_CHECKING:
    from napari_pristine.image.verdict import Verdict


def compare(
    result: Annotated[Path, Parameter(help="Image to compare, such as a result.")],
    /,
    *,
    reference: Annotated[Path | None, Parameter(help="The image as it should be.")] = None,
    noisy: Annotated[Path | None, Parameter(help="The noisy image: was only noise removed from it?")] = None,
    data_range: Annotated[
        float | None, Parameter(help="Range of values; by default 255 for 8 bits, else that of the reference.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare a result with a reference (PSNR, SSIM, NRMSE), or judge it by the noisy image alone."""
    from napari_pristine import comparison, verdict
    from napari_pristine.io.registry import read

    if reference is None and noisy is None:
        raise SettingError(
            "there is nothing to compare with; give the true image with --reference, or the noisy image with --noisy"
        )
    image, lines = read(result), list[str]()
    facts: dict[str, Any] = {"result": result}
    if reference is not None:
        truth = read(reference)
        found = comparison.compare(image, truth, data_range)
        origin = "given"
        if data_range is None:
            rule = "of 8 bits" if truth.dtype == "uint8" else "largest minus smallest value of the reference"
            origin = f"{rule}; --data-range sets another"
        facts |= {"reference": reference, **vars(found), "identical": found.identical}
        lines += describe_comparison(found, origin)
    if noisy is not None:
        verdicts = verdict.judge(read(noisy), image)
        facts |= {"noisy": noisy, "verdicts": [asdict(channel) for channel in verdicts]}
        lines += _describe_verdicts(verdicts)
    say(*([to_json(facts)] if json else lines))


def _describe_verdicts(verdicts: Sequence[Verdict]) -> list[str]:
    """Lines with the verdict on each channel and the figures that it rests on."""
    lines = []
    for verdict in verdicts:
        found, name = verdict.evidence, f"{verdict.name}: " if verdict.name else ""
        lines += [f"{name}{sentence}" for sentence in ([f.sentence for f in verdict.findings] or [verdict.sentence])]
        if found.judged:
            lines.append(
                f"  removed: {found.residual:.2f} noise levels, whiteness {found.whiteness:+.2f}, correlation with the "
                f"result {found.structure:+.2f}; kept: {found.kept:.0%} of the finest noise; brightness "
                f"{found.brightness:+.1%}"
            )
    return lines


def diagnose(
    image: Annotated[Path, Parameter(help="Image to measure: a file, an OME-Zarr, or an image inside one.")],
    /,
    *,
    axes: Axes = "",
    series: Series = None,
    json: Json = False,
) -> None:
    """Measure the noise of an image, and recommend a method."""
    from napari_pristine import diagnosis
    from napari_pristine.io.registry import read

    opened = read(image, axes=axes, series=series)
    for note in opened.notes:
        report_error(f"{image}: {note}")
    found = diagnosis.diagnose(opened)
    say(*([to_json({"input": image, **vars(found)})] if json else describe_diagnosis(found)))


def methods(name: str = "", /, *, json: Json = False) -> None:
    """List the methods, or all settings of one.

    Parameters
    ----------
    name
        Method whose settings are listed.
    """
    if name:
        method = find_method(name)
        say(*([to_json(method_facts(method, settings=True))] if json else describe_settings(method)))
        return
    for method in METHODS.values():
        say(*([to_json(method_facts(method, settings=False))] if json else describe_method(method)))
    if not json:
        say("", "'pristine methods NAME' lists the settings of a method.")


def export(
    model: Annotated[Path, Parameter(help="Model written by 'pristine learn', or 'pretrained'.")],
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o", help="File for the package, .zip.")],
    image: Annotated[Path, Parameter(help="An image like those to be restored; part of it becomes the test.")],
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Export a model for other programs, in the format of bioimage.io."""
    from napari_pristine.export import export_bioimageio
    from napari_pristine.model import load_model, pretrained_model
    from napari_pristine.recipe import PRETRAINED_MODEL

    trained = pretrained_model() if str(model) == PRETRAINED_MODEL else load_model(model)
    export_bioimageio(output, trained, image, overwrite=overwrite)
    facts = {"output": output, "input": model, "fingerprint": trained.fingerprint}
    say(to_json(facts) if json else f"{model} → {output}: {trained.recipe.method}, for programs that read bioimage.io")
