"""RUN/scene.json and RUN/config.json: what they say is read, what cannot be is named."""

import json

import pytest
import torch
from captures import ring, write_transforms

from neural3d.errors import UserError
from neural3d.loading import load_scene
from neural3d.run import read_config
from neural3d.scene.stored import read_scene, write_scene


@pytest.fixture
def file(tmp_path):
    write_scene(tmp_path / "scene.json", load_scene(write_transforms(tmp_path / "capture", ring())))
    return tmp_path / "scene.json"


def change(file, *keys, value):
    content = json.loads(file.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    file.write_text(json.dumps(content))


def test_a_scene_comes_back_as_it_was(file):
    scene, back = load_scene(file.parent / "capture"), read_scene(file)
    assert back.views[3].image_path == scene.views[3].image_path and back.split == scene.split
    assert torch.equal(back.aabb, scene.aabb) and back.aabb.dtype == torch.float32
    assert torch.equal(back.scene_from_capture, scene.scene_from_capture)
    for ours, theirs in zip(back.views, scene.views):
        assert torch.equal(ours.camera.world_from_camera, theirs.camera.world_from_camera)
        assert torch.equal(ours.camera.params, theirs.camera.params) and ours.camera.model == theirs.camera.model
    assert back.points is None and torch.equal(back.outline, scene.outline)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("views",), {}, r"views must be a list, not \{\}"),
        (("views", 2, "camera", "params"), [1, 2], r"views\[2\]: camera: PINHOLE has 4 parameters"),
        (("views", 2, "camera", "params"), [1, 2, None, 4], r"views\[2\]: camera: params must be P finite numbers"),
        (("views", 2, "camera", "world_from_camera"), [[0] * 4] * 4, "pose of view '002.png' cannot be inverted"),
        (("views", 2, "camera", "model"), "KEYHOLE", "KEYHOLE"),
        (("views", 2, "camera", "width"), 2.5, r"width must be a whole number, not 2\.5"),
        (("views", 2, "image_path"), 7, "image_path must be text, not 7"),
        (("views", 2, "colour"), 7, r"views\[2\]: unknown key 'colour'"),
        (("aabb",), [[0, 0, 0], [1, float("nan"), 1]], "aabb must be 2 × 3 finite numbers"),
        (("aabb",), [[1, 1, 1], [0, 0, 0]], "the lower one first"),
        (("scene_from_capture",), "x", "scene_from_capture must be 4 × 4 finite numbers"),
        (("split", "train"), [99], "split 'train' names views that are not there"),
        (("split", "train"), [True], "whole number, not true"),
        (("unbounded",), 1, "unbounded must be true or false, not 1"),
        (("near",), 1e9, "near and far"),
        (("notes",), [1], r"notes\[0\] must be text"),
    ],
)
def test_what_cannot_be_is_named(file, keys, value, message):
    change(file, *keys, value=value)
    with pytest.raises(UserError, match=message):
        read_scene(file)


@pytest.mark.parametrize("text", ["[]", "7", "null", "{", '"x"', "[" * 100_000, '{"views": []}'])
def test_what_is_no_scene_is_a_sentence(file, text):
    file.write_text(text)
    with pytest.raises(UserError, match=r"scene\.json"):
        read_scene(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "x"}, r"config\.json: seed must be a whole number"),
        ({"seed": 2**70}, "a seed must be from 0"),
        ({"settings": []}, r"settings must be an object"),
        ({"scene": None}, "scene must be text, not null"),
        ({"colour": 1}, "unknown key 'colour'"),
    ],
)
def test_a_config_of_wrong_types_is_a_sentence(tmp_path, change, message):
    good = {"scene": "x", "scene_options": {}, "method": "ngp", "settings": {}}
    (tmp_path / "config.json").write_text(json.dumps(good))
    assert read_config(tmp_path).seed == 0
    (tmp_path / "config.json").write_text(json.dumps(good | change))
    with pytest.raises(UserError, match=message):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"scene": "x"}')
    with pytest.raises(UserError, match="lacks 'scene_options'"):
        read_config(tmp_path)
