"""Begun: what is wanted of a batch, and of which files, from what a user has named; the same for shell and panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_pristine.batch.inputs import inputs_of
from napari_pristine.batch.memory_estimate import memory_for
from napari_pristine.batch.options import BatchOptions, model_of
from napari_pristine.batch.tasks import Task, assign
from napari_pristine.errors import FileError
from napari_pristine.recipe_file import load_recipe


@dataclass(frozen=True)
class BatchSpec:
    """It is known which files there are, and what is wanted of them."""

    order: BatchOptions
    tasks: list[Task]


def begin(
    recipe: Path,
    inputs: Sequence[str],
    output: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    memory: int | None = None,
    workers: int | None = None,
    threads: int = 1,
) -> BatchSpec:
    """Read the recipe and find the files; nothing is written.

    Args:
        recipe: Its file.
        inputs: Files, folders and patterns.
        output: Folder for the results.
        resume: Leave what is done, and go on where an earlier batch was interrupted.
        overwrite: Replace results that exist.
        memory: Bytes that a process may use; what is free, or its part of it, if none are given.
        workers: Processes that share the memory of this machine; none if they are elsewhere.
        threads: Of each process.

    Raises:
        PristineError: The recipe or its network cannot be read, there are no files, or their results cannot go to
            the folder.
    """
    order = BatchOptions(load_recipe(recipe), resume, overwrite, memory_for(memory, workers), threads)
    model_of(order.recipe)  # whether it can be read at all
    tasks = assign(inputs_of(inputs, output), output, order.recipe)
    if not tasks:
        raise FileError(f"there are no files in {', '.join(inputs)}; give images, or folders or patterns of them")
    return BatchSpec(order, tasks)
