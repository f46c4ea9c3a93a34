"""Jobs on this machine, as many at once as it holds."""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue

from neural3d.batch.needs import Room
from neural3d.batch.work import Task, work
from neural3d.scene.photos import available_memory


def this_machine(device: str) -> Room:
    """device: auto, cpu or cuda: on the cpu GPUs are not looked for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = 0
    if device != "cpu":
        import torch

        from neural3d.ops.native import cuda_usable

        gpus = torch.cuda.device_count() if cuda_usable() else 0
    return Room(cores, available_memory(), gpus)


class Local:
    """A thread for each job, which waits for its processes. A job that takes more than there is runs alone."""

    def __init__(self, machine: Room):
        self.machines = [machine]
        self._free, self._gpus = machine, list(range(machine.gpus))
        self._running: dict[str, tuple[threading.Thread, Room, int | None]] = {}
        self._ended: SimpleQueue[tuple[str, str]] = SimpleQueue()
        self._stop = threading.Event()

    def start(self, task: Task, takes: Room) -> bool:
        if self._running and not self._free.holds(takes):
            return False
        gpu = self._gpus.pop() if takes.gpus else None
        thread = threading.Thread(target=self._work, args=[task, gpu], daemon=True)
        self._free -= takes
        self._running[task.name] = thread, takes, gpu
        thread.start()
        return True

    def _work(self, task: Task, gpu: int | None) -> None:
        try:
            said = work(task, self._stop.is_set, gpu)
        except BaseException as error:  # whatever it is, this job alone has failed
            said = f"{type(error).__name__}: {error}"
        self._ended.put((task.name, said))

    def ended(self) -> list[tuple[str, str]]:
        found = []
        while not self._ended.empty():
            name, said = self._ended.get()
            _, takes, gpu = self._running.pop(name)
            self._free += takes
            self._gpus += [] if gpu is None else [gpu]
            found.append((name, said))
        return found

    def stop(self) -> None:
        self._stop.set()
        for thread, *_ in self._running.values():
            thread.join()
