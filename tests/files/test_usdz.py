"""USDZ: what usd-core reads back, and that its own validators find nothing to say."""

import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neural3d.errors import UserError
from neural3d.files.meshes import check_format, srgb_to_linear, write_mesh
from neural3d.geometry.mesh import Mesh

pxr = pytest.importorskip("pxr", reason="usd-core is not installed")
UP = np.array([0.0, 0.6, -0.8])  # in the mesh's own frame


@pytest.fixture
def house() -> Mesh:
    """A tetrahedron whose apex is its highest vertex; a picture, colours, normals."""
    low = np.cross(UP, [[1, 0, 0], [-0.5, 0.6, 0.7], [-0.5, -0.7, 0.4]])
    points = np.concatenate([low, 2 * UP[None]]).astype(np.float32)
    faces = np.array([[0, 1, 3], [1, 2, 3], [2, 0, 3], [0, 2, 1]], np.int32)
    rng = np.random.default_rng(0)
    uv = rng.uniform(0, 1, (4, 2)).astype(np.float32)
    normals = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    return Mesh(
        points, faces, rng.uniform(0, 1, (4, 3)), normals, uv, rng.integers(0, 255, (8, 16, 3)).astype(np.uint8)
    )


def opened(path: Path):
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    assert str(stage.GetDefaultPrim().GetPath()) == "/model"
    return stage, UsdGeom.Mesh(stage.GetPrimAtPath("/model/mesh"))


def emitted(stage):
    """The shader that the emission of the mesh's material comes from, after seeing that nothing else shines."""
    from pxr import UsdShade

    material, _ = UsdShade.MaterialBindingAPI(stage.GetPrimAtPath("/model/mesh")).ComputeBoundMaterial()
    surface = UsdShade.Shader(material.ComputeSurfaceSource()[0])
    assert surface.GetIdAttr().Get() == "UsdPreviewSurface"
    assert tuple(surface.GetInput("diffuseColor").Get()) == tuple(surface.GetInput("specularColor").Get()) == (0, 0, 0)
    return UsdShade.Shader(surface.GetInput("emissiveColor").GetConnectedSource()[0])


def complaints(path: Path) -> list[str]:
    """What usd-core's validators find: on the package, its stage, geometry, shaders."""
    from pxr import Usd

    validation = pytest.importorskip("pxr.UsdValidation", reason="usd-core before 26 validates nothing")
    validators = validation.ValidationRegistry().GetOrLoadAllValidators()
    errors = validation.ValidationContext(validators).Validate(Usd.Stage.Open(str(path)))
    return [error.GetMessage() for error in errors]


def test_a_textured_mesh_stands_with_its_picture(house, tmp_path):
    written = write_mesh(house, tmp_path / "house.usdz", native_up=UP)
    stage, shape = opened(tmp_path / "house.usdz")
    points = np.array(shape.GetPointsAttr().Get())
    np.testing.assert_array_equal(points, written.vertices)
    np.testing.assert_allclose(points @ [0, 1, 0], house.vertices @ UP, atol=1e-6)
    np.testing.assert_allclose(points[3], [0, 2, 0], atol=1e-6)
    np.testing.assert_array_equal(np.array(shape.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3), house.faces)
    normals = np.array(shape.GetNormalsAttr().Get())
    np.testing.assert_allclose(np.einsum("nk,mk->nm", normals, points), house.normals @ house.vertices.T, atol=1e-6)
    np.testing.assert_allclose(shape.GetExtentAttr().Get(), [points.min(0), points.max(0)])
    assert shape.GetSubdivisionSchemeAttr().Get() == "none"

    from pxr import UsdGeom

    st = UsdGeom.PrimvarsAPI(shape).GetPrimvar("st")
    assert st.GetInterpolation() == "vertex"
    np.testing.assert_allclose(st.Get(), house.uv * [1, -1] + [0, 1], atol=1e-6)
    look = emitted(stage)
    assert look.GetIdAttr().Get() == "UsdUVTexture" and look.GetInput("sourceColorSpace").Get() == "sRGB"
    with zipfile.ZipFile(tmp_path / "house.usdz") as package:
        assert {item.compress_type for item in package.infolist()} == {zipfile.ZIP_STORED}
        picture = Image.open(BytesIO(package.read(look.GetInput("file").Get().path.removeprefix("./"))))
    np.testing.assert_array_equal(np.asarray(picture), house.texture)
    assert not complaints(tmp_path / "house.usdz") and [p.name for p in tmp_path.iterdir()] == ["house.usdz"]


def test_without_a_picture_the_vertices_have_colours(house, tmp_path):
    from pxr import UsdGeom

    write_mesh(replace(house, texture=None, uv=None), tmp_path / "house.usdz", native_up=UP)
    stage, shape = opened(tmp_path / "house.usdz")
    colors = UsdGeom.PrimvarsAPI(shape).GetPrimvar("displayColor")
    assert colors.GetInterpolation() == "vertex"
    np.testing.assert_allclose(colors.Get(), srgb_to_linear(house.colors), atol=1e-6)
    assert emitted(stage).GetInput("varname").Get() == "displayColor"
    assert not complaints(tmp_path / "house.usdz")
    write_mesh(Mesh(house.vertices, house.faces), tmp_path / "plain.usdz")
    assert not complaints(tmp_path / "plain.usdz")


def test_what_is_missing_is_named_before_any_work(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'neural3d\[usd\]'"):
        check_format(Path("a.usdz"))
