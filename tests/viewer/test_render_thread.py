"""Coarse first, finer at rest, and never what nobody waits for any more."""

import threading
import time

import numpy as np
import torch
from balls import ball_field, overlap, silhouette
from neural3d.viewer.painter import painter
from neural3d.viewer.picture import Shot
from neural3d.viewer.render_thread import RenderThread
from neural3d.viewer.state import State


def shot_of(state: State, size=(160, 120)) -> Shot:
    return state.shot(*size)


def run(paint, shots, wait_done=True, **options):
    """Requests the shots one after the other; the frames that came, until the last one's is done."""
    frames, done = [], threading.Event()

    def show(frame):
        frames.append(frame)
        if frame.done and frame.shot.turn == len(shots):
            done.set()

    thread = RenderThread(paint, show, **options)
    thread.start()
    for shot in shots:
        thread.request(shot)
        time.sleep(0.02)
    assert done.wait(20)
    thread.stop()
    assert not thread.is_alive()
    return frames


def test_goes_from_coarse_to_the_exact_picture(tmp_path):
    state = State.of(ball_field(tmp_path, seconds=0.01), 4 / 3)
    frames = run(painter(state.subject), [shot_of(state)])
    scales = [frame.scale for frame in frames]
    assert scales[0] < 0.5 and scales[-1] == 1 and scales == sorted(scales)
    last = frames[-1]
    assert last.picture.shape == (120, 160, 3) and all(f.picture.shape == last.picture.shape for f in frames)
    assert overlap((last.picture != 255).any(-1), silhouette(last.shot.camera)) > 0.97


def test_tiles_join_to_what_one_picture_would_be(tmp_path):
    state = State.of(ball_field(tmp_path, seconds=0.03), 4 / 3)
    paint = painter(state.subject)
    sizes = []

    def counting(camera, background, clip):
        sizes.append(camera.height)
        time.sleep(1e-6 * camera.width * camera.height * 20)
        return paint(camera, background, clip)

    last = run(counting, [shot_of(state)])[-1]
    whole = paint(last.shot.camera, last.shot.background, None)
    assert len(sizes) > 3
    assert np.abs(last.picture.astype(int) - np.round(whole.rgb.numpy().clip(0, 1) * 255)).max() <= 1


def test_a_moved_camera_abandons_the_frame(tmp_path):
    state = State.of(ball_field(tmp_path, seconds=0.02), 4 / 3)
    first = shot_of(state)
    state.eye = state.eye.turned(0.5, 0)
    frames = run(painter(state.subject), [first] * 5 + [shot_of(state)])
    assert not any(frame.done for frame in frames if frame.shot.turn < 6)


def test_a_failing_renderer_is_told_and_does_not_end_the_thread(tmp_path):
    state = State.of(ball_field(tmp_path), 4 / 3)
    fails = iter([True])

    def paint(camera, background, clip):
        if next(fails, False):
            raise RuntimeError("out of memory")
        return painter(state.subject)(camera, background, clip)

    frames = []
    thread = RenderThread(paint, frames.append)
    thread.start()
    thread.request(shot_of(state))
    until = time.time() + 10
    while not frames and time.time() < until:
        time.sleep(0.01)
    assert frames[0].note == "out of memory" and frames[0].done
    thread.request(shot_of(state))
    while frames[-1].scale != 1 and time.time() < until:
        time.sleep(0.01)
    thread.stop()
    assert frames[-1].scale == 1


def test_a_picture_of_one_pixel(tmp_path):
    state = State.of(ball_field(tmp_path), 1.0)
    assert run(painter(state.subject), [shot_of(state, (1, 1))])[-1].picture.shape == (1, 1, 3)


def test_stops_in_the_middle_of_a_long_picture(tmp_path):
    state = State.of(ball_field(tmp_path, seconds=0.1), 4 / 3)
    thread = RenderThread(painter(state.subject), lambda frame: None)
    thread.start()
    thread.request(shot_of(state, (1000, 800)))
    time.sleep(0.5)
    start = time.time()
    thread.stop()
    assert time.time() - start < 2 and torch.get_num_threads() >= 1
