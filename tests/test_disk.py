"""A full disk costs nothing that was whole: the part is removed, a sentence says what is needed where, exit code 3."""

import errno
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from splats import synthetic_gaussians
from toy import ball_capture

from neural3d.checkpoint import load_state, save_state
from neural3d.cli import main
from neural3d.disk import MIB, replacing, require_writable, write_whole, writing
from neural3d.errors import DiskFull, UserError
from neural3d.files.meshes import write_mesh
from neural3d.files.splats import write_splats
from neural3d.geometry.mesh import Mesh
from neural3d.render.images import save_film, save_png
from neural3d.run import configure
from neural3d.synthetic.furniture import write_furniture
from neural3d.train import Trainer

SHOW = ["--show", "rgb", "depth", "normal", "--device", "cpu"]
LIMIT = 2**16  # bytes that a file may have
SMALL = ["log2_table=11", "levels=4", "max_resolution=32", "samples_per_batch=4096", "grid_budget=1024"]


@pytest.fixture
def full():
    """Writing more than LIMIT bytes to a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def mesh() -> Mesh:
    rng = np.random.default_rng(0)
    return Mesh(rng.random((5000, 3)), rng.integers(0, 5000, (5000, 3)).astype(np.int32), rng.random((5000, 3)))


def noise(*shape) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


WRITERS = {
    "a.safetensors": lambda path: save_state(path, {"x": torch.rand(LIMIT)}),
    "config.json": lambda path: write_whole(path, bytes(2 * LIMIT)),
    "a.glb": lambda path: write_mesh(mesh(), path),
    "a.ply": lambda path: write_mesh(mesh(), path),
    "a.obj": lambda path: write_mesh(mesh(), path),
    "a.stl": lambda path: write_mesh(mesh(), path),
    "b.ply": lambda path: write_splats(synthetic_gaussians(3000), path),
    "a.spz": lambda path: write_splats(synthetic_gaussians(3000), path),
    "a.splat": lambda path: write_splats(synthetic_gaussians(3000), path),
    "a.png": lambda path: save_png(path, noise(200, 200, 3)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_removes_its_part_and_keeps_what_was_there(tmp_path, full, name):
    (tmp_path / name).write_bytes(b"earlier")
    with pytest.raises(DiskFull, match=rf"{name} cannot be written, no file may be so large there: .* MiB are free in"):
        WRITERS[name](tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == b"earlier"


def test_usdz_which_works_in_a_folder_beside(tmp_path, full):
    pytest.importorskip("pxr", reason="usd-core, which writes USDZ, is not installed")
    (tmp_path / "a.usdz").write_bytes(b"earlier")
    with pytest.raises(DiskFull, match=r"a\.usdz cannot be written"):
        write_mesh(mesh(), tmp_path / "a.usdz")
    assert [p.name for p in tmp_path.iterdir()] == ["a.usdz"] and (tmp_path / "a.usdz").read_bytes() == b"earlier"


def test_known_sizes_are_refused_before_a_byte_is_written(tmp_path):
    with pytest.raises(DiskFull, match=r"a.glb .* and it needs 1,048,576\.0"), replacing(tmp_path / "a.glb", 2**40):
        raise AssertionError("must not begin")
    with pytest.raises(DiskFull, match="and it needs"):
        require_writable(tmp_path / "deep" / "a.glb", 2**40)
    assert not list(tmp_path.iterdir())


def test_other_refusals_are_no_full_disk(tmp_path):
    with pytest.raises(UserError, match="choose another place") as told, replacing(tmp_path / "a"):
        raise OSError(errno.EIO, "Input/output error")
    assert told.value.exit_code == 2 and not isinstance(told.value, DiskFull)


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("there", False, "there is a folder already"),
        ("file.txt", True, r"file\.txt is a file already"),
        ("file.txt/a.glb", False, "cannot be written"),
        ("x" * 300 + ".glb", False, "cannot be written"),
        ("/proc/a/b.glb", False, "cannot be written"),
        ("/proc/run", True, "cannot be written"),
    ],
)
def test_places_that_cannot_be_written_are_known_before(tmp_path, name, folder, message):
    (tmp_path / "there").mkdir()
    (tmp_path / "file.txt").write_text("mine")
    with pytest.raises(UserError, match=message):
        require_writable(tmp_path / name, folder=folder)
    with pytest.raises(UserError) as told:
        require_writable(tmp_path / name, MIB, folder)
    assert told.value.exit_code == 2, "in /proc nothing is free, but that is not what is wrong"
    require_writable(tmp_path / "there" / "new.glb")
    require_writable(tmp_path / "there", folder=True)
    require_writable(tmp_path / "v1.2" / "run", folder=True)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file.txt", "there"]


def test_training_keeps_its_last_whole_checkpoint(tmp_path, capsys, full):
    capture = ball_capture(tmp_path / "capture", train=4, test=1, size=16)
    run = tmp_path / "run"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    Trainer.create(run, *configure(capture, "ngp", SMALL), torch.device("cpu")).fit(3)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
    with pytest.raises(SystemExit) as stop:
        main(["train", "--resume", str(run), "--steps", "6", "--device", "cpu"])
    assert stop.value.code == 3
    assert "checkpoint.safetensors cannot be written, no file may be so large" in " ".join(
        capsys.readouterr().err.split()
    )
    assert load_state(run / "checkpoint.safetensors")["step"] == 3 and not list(run.glob(".*part*"))


def test_a_disk_that_is_really_full(small_disk, capsys):
    """1 MiB: the run's folder, a film, pictures and a category; each says so, leaves nothing, and ends with 3."""
    capture = ball_capture(small_disk.parent / "capture", train=4, test=1, size=16)
    run = small_disk.parent / "run"
    words = ["train", str(capture), "--method", "ngp", "--device", "cpu", "--steps", "2", "--set", *SMALL]
    main([*words, "--out", str(run)])
    for command in (
        [*words, "log2_table=17", "--out", str(small_disk / "run")],
        ["render", str(run), "--out", str(small_disk / "pictures"), "--frames", "8000", *SHOW],
    ):
        with pytest.raises(SystemExit) as stop:
            main(command)
        said = " ".join(capsys.readouterr().err.split())
        assert stop.value.code == 3 and "MiB are free in" in said and "and it needs" in said, said
    (small_disk / "film.mp4").write_bytes(bytes(950_000))
    frames = (np.roll(noise(240, 320, 3), 99 * k) for k in range(8))
    with pytest.raises(DiskFull, match=r"film\.mp4 cannot be written, the disk"):
        save_film(small_disk / "film.mp4", frames)
    assert (small_disk / "film.mp4").read_bytes() == bytes(950_000)
    with pytest.raises(DiskFull, match=r"train/\w+\.ply cannot be written"):
        write_furniture(small_disk / "category", train=60, test=0)
    assert not [p for p in small_disk.rglob("*") if ".part" in p.name]


def test_the_command_line_says_what_ends_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "neural3d.cli", "demo", "--out", "/proc/x"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "/proc/x cannot be written" in done.stderr.replace("\n", " ")
    assert os.listdir(tmp_path) == []


def test_the_end_of_memory_is_no_fault_of_the_place(tmp_path):
    """As when a process that is to write, such as ffmpeg, cannot be started."""
    with pytest.raises(MemoryError), writing(tmp_path / "film.mp4"):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
