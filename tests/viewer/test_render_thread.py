"""Coarse first, finer at rest, and never what nobody waits for any more."""

import threading
import time

import numpy as np
import torch
from balls import ball_field, ball_mesh, overlap, silhouette
from neural3d.viewer.memory import Memory, warped_size
from neural3d.viewer.painter import painter
from neural3d.viewer.picture import Shot
from neural3d.viewer.render_thread import RenderThread, resized
from neural3d.viewer.solids import Solid
from neural3d.viewer.state import State

from neural3d.metrics import psnr


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


def test_a_moving_picture_knows_what_the_last_sharp_one_showed(tmp_path):
    """Seen from elsewhere, a ball with a fine pattern is far nearer to the truth than its blur of 20 × 15 pixels."""
    state, ball = State.of(ball_field(tmp_path), 4 / 3), ball_mesh()
    ball.visual.vertex_colors = np.random.default_rng(0).integers(0, 256, (len(ball.vertices), 3), np.uint8)
    white = torch.ones(3)
    solid = Solid.of_meshes([ball])
    first = state.eye.camera(400, 300)
    memory, size = Memory.of(solid.render(first, white), first), warped_size(first)

    def coarse(camera):
        return resized(solid.render(camera.resized(20, 15), white), *size)

    camera = state.eye.turned(0.15, 0.1).camera(*size)
    truth, out = solid.render(camera, white), coarse(camera)
    blurred = psnr(out.rgb, truth.rgb)
    assert memory.fill(out, camera) > 0.8
    assert psnr(out.rgb, truth.rgb) > blurred + 3
    behind = state.eye.turned(3.1, 0.1).camera(*size)  # the remembered side is hidden by the other
    assert memory.fill(coarse(behind), behind) < 0.3


def test_moving_pictures_recall_the_finished_one(tmp_path):
    """After a sharp picture, the next moving one has more pixels than were rendered for it, until colours change."""
    state = State.of(ball_field(tmp_path), 4 / 3)
    frames = []
    thread = RenderThread(painter(state.subject), frames.append, remember=True)
    thread.start()
    for change in (lambda: None, lambda: None, lambda: setattr(state, "background", (0.0, 0.0, 0.0))):
        change()
        state.eye = state.eye.turned(0.05, 0)
        thread.request(shot_of(state, (400, 300)))
        count, until = len(frames), time.time() + 20
        while not (len(frames) > count and frames[-1].done) and time.time() < until:
            time.sleep(0.01)
    thread.stop()
    first = {f.shot.turn: f.depth.shape[1] / (f.scale * 400) for f in reversed(frames)}  # of each shot's first frame
    assert first[1] < 1.1 and first[2] > 2 and first[3] < 1.1


def test_slow_pictures_get_smaller_whatever_was_learnt_before(tmp_path):
    state = State.of(ball_field(tmp_path), 4 / 3)
    paint = painter(state.subject)

    def slow(camera, background, clip):
        time.sleep(2e-5 * camera.width * camera.height)
        return paint(camera, background, clip)

    frames = []
    thread = RenderThread(slow, frames.append)
    thread._enough, thread._moving_scale = 1e9, 0.3  # as if overhead were all
    thread.start()
    until = time.time() + 20
    while not (frames and frames[-1].scale < 0.15) and time.time() < until:
        thread.request(shot_of(state, (400, 300)))
        time.sleep(0.01)
    thread.stop()
    assert frames[-1].scale < 0.15


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
