"""The command `pristine export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_pristine.cli.main import Json, say
from napari_pristine.cli.options import Overwrite
from napari_pristine.export import export_bioimageio
from napari_pristine.model import load_model
from napari_pristine.text import to_json


def export(
    model: Annotated[Path, Parameter(help="Model that 'pristine learn' has written.")],
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o", help="File for the package, .zip.")],
    image: Annotated[Path, Parameter(help="An image like those to be restored; a part of it becomes the test.")],
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Export a model for other programs, in the format of bioimage.io."""
    learned = load_model(model)
    export_bioimageio(output, learned, image, overwrite=overwrite)
    facts = {"output": output, "input": model, "fingerprint": learned.fingerprint}
    say(to_json(facts) if json else f"{model} → {output}: {learned.recipe.method}, for programs that read bioimage.io")
