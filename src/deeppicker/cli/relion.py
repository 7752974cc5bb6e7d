"""Pick as an External job of RELION 3.1 to 5; docs/relion.md describes the setup."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

from deeppicker.cli import pick
from deeppicker.cli._shared.show import ShowConfig
from deeppicker.cli._shared.types import SettingsFile
from deeppicker.config import ClusterConfig, DeviceConfig, LearnFirstConfig, SelectConfig, Subject, WorkConfig
from deeppicker.config.limits import within
from deeppicker.errors import DeepPickerError, InputError
from deeppicker.formats import make_folder
from deeppicker.formats.relion.pipeline import (
    ABORT_NOW,
    ABORTED,
    FAILURE,
    SUCCESS,
    lay_out,
    mark_exit,
    relion_of,
    write_output_nodes,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Pick as an External job of RELION 3.1 to 5, which gives the first three options; run in its project folder."""

    in_mics: Path
    """STAR file of the micrographs."""

    o: str
    """Folder of the job, which continues unfinished work in it."""

    j: int = 1
    """Number of processes, unless --workers is given."""

    pipeline_control: str = ""
    """Folder of the job again; RELION adds it to some commands."""

    overwrite: bool = False
    """Start again even if the folder holds picks made with other settings."""

    settings: SettingsFile = None
    subject: Subject = Subject()
    learning: LearnFirstConfig = LearnFirstConfig()
    select: SelectConfig = SelectConfig()
    work: WorkConfig = WorkConfig()
    device: DeviceConfig = DeviceConfig()
    cluster: ClusterConfig = ClusterConfig()
    show: ShowConfig = ShowConfig()


def run(options: Options) -> int:
    """Pick, and leave in the folder what RELION looks for; the status is that of `deeppicker pick`."""
    folder = make_folder(options.o)
    mark_exit(folder, None)
    try:
        status = pick.pick(_as_pick(options), (folder / ABORT_NOW).exists)
        if status < 2:
            _lay_out(options, folder)
    except KeyboardInterrupt:  # also from a batch system; the same job continues
        mark_exit(folder, ABORTED)
        raise
    except BaseException:
        mark_exit(folder, FAILURE)
        raise
    if (folder / ABORT_NOW).exists():
        (folder / ABORT_NOW).unlink(missing_ok=True)  # else the job could not be continued
        mark_exit(folder, ABORTED)
    else:
        mark_exit(folder, FAILURE if status == 2 else SUCCESS)
    return status


def _as_pick(options: Options) -> pick.Options:
    if options.in_mics.suffix.lower() != ".star":
        raise InputError(f"--in_mics {options.in_mics} is not a STAR file; choose the micrographs of a RELION job")
    within(options, j=(1, math.inf))
    workers = options.j if options.work.workers is None else options.work.workers
    return pick.Options(
        input=(str(options.in_mics),),
        output=Path(options.o),
        overwrite=options.overwrite,
        subject=options.subject,
        learning=options.learning,
        select=options.select,
        work=replace(options.work, workers=workers),
        device=options.device,
        cluster=options.cluster,
        show=options.show,
    )


def _lay_out(options: Options, folder: Path) -> None:
    left_out = lay_out(folder, str(options.in_mics))
    if left_out:
        raise DeepPickerError(
            f"{left_out[0]} lies outside the project folder, where RELION finds no coordinates; "
            "import the micrographs by a link in the project folder"
        )
    write_output_nodes(os.path.join(options.o, ""), relion_of(Path()))  # noqa: PTH118 - keeps RELION's text
