"""`neural3d train --set partition=true`: cells one by one, with a line on each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from neural3d.cli.batch import Report
from neural3d.cli.console import console, say_next
from neural3d.cli.stopping import patient
from neural3d.errors import UserError, command_line
from neural3d.lock import Lock

if TYPE_CHECKING:
    from neural3d.batch.book import Book
    from neural3d.batch.queue import Executor
    from neural3d.run import RunConfig
    from neural3d.scene import Fitted


def train_in_cells(folder: Path, config: RunConfig, scene: Fitted | None, device: str, address: str | None) -> None:
    """Begins a partition, or goes on with it. scene: None: of a run that is there, whose capture is read again.

    address: of a Ray cluster; None: processes here."""
    import torch

    from neural3d.batch.local import Local, this_machine
    from neural3d.partition import work
    from neural3d.run import read_config
    from neural3d.scene import Scene

    data = config.load_data() if scene is None else scene
    assert isinstance(data, Scene)
    with Lock(folder / ".lock", folder):
        if (folder / work.CHECKPOINT).exists():
            raise UserError(f"{folder}: its cells are done and joined; there is nothing to go on with.")
        if not (folder / "config.json").exists():
            work.create(folder, config, data)
        elif vars(read_config(folder)) != vars(config):
            raise UserError(f"{folder}: holds a partition with other settings; choose another --out.")
        for note in data.notes:
            console.print(f"note: {note}")

        def place() -> Executor:
            if address is not None:
                from neural3d.batch.cluster import Cluster

                return Cluster(address)
            return Local(replace(this_machine(device), cores=torch.get_num_threads()))

        def watch(book: Book, run: Callable[..., None]) -> None:
            with Report(book) as report, patient() as stopped:
                run(tell=report.tell, show=report.show, stop=stopped)

        try:
            count = work.go_on(folder, config, data, device, place, watch)
        except KeyboardInterrupt:
            again = command_line("train", "--resume", folder)
            raise KeyboardInterrupt(f"finished cells are kept, others go on where they were; next: {again}") from None
    console.print(f"done: {count:,} splats, joined; run folder {folder}", soft_wrap=True)
    say_next("eval", folder)
