"""`neural3d.cli.leashed`, of which the first to train under a/ is killed as soon as ten steps are saved."""

import os
import runpy
import signal

from neural3d import saving
from neural3d.train import Trainer

saving.OFTEN = 0.0
save = Trainer.save


def save_and_die(trainer, saver):
    save(trainer, saver)
    died = trainer.directory / "died"
    if trainer.step >= 10 and trainer.directory.parent.name == "a" and not died.exists():
        saver.wait()
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)


Trainer.save = save_and_die
runpy.run_module("neural3d.cli.leashed", run_name="__main__")
