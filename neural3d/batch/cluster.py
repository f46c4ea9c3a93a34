"""Jobs on a Ray cluster (https://docs.ray.io), which finds the machine for each by its stated needs."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from typing import Any

from neural3d.batch.needs import Room
from neural3d.batch.share import LIVE, LOOK_EVERY, Share, bring, entrust, work_away
from neural3d.batch.work import GRACE, Task, work
from neural3d.child import HOME
from neural3d.errors import UserError


class Cluster:
    """A Ray task for each job. Ray tries none again by itself, so that attempts are counted in one place.

    address: ray://HOST:PORT, HOST:PORT, or auto. share: by which files travel; None: all machines see the same folders.
    Raises UserError where Ray is missing or does not answer.
    """

    def __init__(self, address: str, share: Share | None = None):
        try:
            import ray
        except ImportError:
            raise UserError("--address needs Ray, which is not installed: pip install 'neural3d[cluster]'.") from None
        self._ray: Any = ray
        hears = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with contextlib.chdir(HOME):  # Ray lets its workers import from the folder that this is called in
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"--address {address}: no Ray cluster answers there ({said}); check it.") from None
        for number, handler in hears.items():
            signal.signal(number, handler)  # Ray hears `kill` in its own way
        self.machines = [room_of(node["Resources"]) for node in ray.nodes() if node["Alive"]]
        self.machines = [room for room in self.machines if room.cores]
        if not self.machines:
            raise UserError(f"--address {address}: no node of this cluster offers cores; add one.")
        self._share, self._looked = share, 0.0
        self._work = ray.remote(work if share is None else work_away)
        self._refs: dict[Any, Task] = {}

    def start(self, task: Task, takes: Room) -> bool:
        """Always takes it: Ray keeps those for which there is no room yet."""
        stated = {"num_cpus": takes.cores, "num_gpus": takes.gpus, "memory": takes.memory}
        given = (task,) if self._share is None else (task, self._share.address, entrust(self._share, task))
        self._refs[self._work.options(**stated, max_retries=0, name=task.name).remote(*given)] = task
        return True

    def ended(self) -> list[tuple[str, str]]:
        if not self._refs:
            return []
        done, left = self._ray.wait(list(self._refs), num_returns=len(self._refs), timeout=0)
        if self._share is not None and time.monotonic() - self._looked > LOOK_EVERY:
            self._looked = time.monotonic()
            for task in (self._refs[ref] for ref in left):
                with contextlib.suppress(UserError):  # the next time, then
                    self._share.fetch(task.name, task.place, LIVE)
        return [self._settled(self._refs.pop(ref), self._said(ref)) for ref in done]

    def _settled(self, task: Task, said: str) -> tuple[str, str]:
        """With the job's files here, as far as they came."""
        if self._share is not None:
            try:
                bring(self._share, task.name, task.place, task.source)
            except UserError as error:
                said = said or str(error)
        return task.name, said

    def _said(self, ref: Any) -> str:
        try:
            return str(self._ray.get(ref))
        except self._ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            return lines[-1 if isinstance(error, self._ray.exceptions.RayTaskError) else 0]  # a traceback's last

    def stop(self) -> None:
        for ref in self._refs:
            self._ray.cancel(ref, recursive=False)
        if self._refs:
            self._ray.wait(list(self._refs), num_returns=len(self._refs), timeout=GRACE)
        self._ray.shutdown()


def room_of(resources: dict[str, float]) -> Room:
    return Room(int(resources.get("CPU", 0)), int(resources.get("memory", 0)), int(resources.get("GPU", 0)))
