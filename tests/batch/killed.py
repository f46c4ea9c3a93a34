"""`neural3d.cli.leashed` that saves at every step; the first to train under a/ or 1/ is killed at the tenth."""

import os
import runpy
import signal

from neural3d.saving import Saver
from neural3d.train import Trainer

save = Trainer.save


def save_and_die(trainer: Trainer, saver: Saver) -> None:
    save(trainer, saver)
    died = trainer.directory / "died"
    if trainer.step == 10 and trainer.directory.parent.name in ("a", "1") and not died.exists():
        saver.wait()
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)


Saver.due = lambda saver: True  # type: ignore[method-assign]
Trainer.save = save_and_die  # type: ignore[method-assign]
runpy.run_module("neural3d.cli.leashed", run_name="__main__")
