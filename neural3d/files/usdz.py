"""A mesh as USDZ, which phones show on a table: a zip of one USD stage and its texture, uncompressed and aligned.

The look is that of our glTF files: it emits its colours and reflects nothing, because photos show the light of their
day already. USD's texture coordinates have v upwards; its colours at vertices are linear. +Y is up, a unit is a metre.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from neural3d.disk import require_room
from neural3d.geometry.mesh import Mesh
from neural3d.geometry.offset import offset_of
from neural3d.images.png import png
from neural3d.images.srgb import linear_to_srgb, srgb_to_linear


def write_usdz(mesh: Mesh, file: BinaryIO) -> None:
    """Writes a package that ARKit takes: geometry, normals, and the texture or else the colours of the vertices.

    USD wants folders to work in: one beside the file, where there must be room anyway. Raises OSError where USD cannot
    write there.
    """
    from pxr import Sdf, Usd, UsdGeom, UsdShade, UsdUtils, Vt

    vec3 = Vt.Vec3fArray.FromNumpy
    place = Path(file.name).parent
    require_room(Path(file.name), 2 * (mesh.vertices.nbytes + mesh.faces.nbytes))  # the stage, and the package of it
    with tempfile.TemporaryDirectory(prefix=".usdz-", dir=place) as name, _told():
        folder = Path(name)
        stage = Usd.Stage.CreateNew(str(folder / "mesh.usdc"))
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/model").GetPrim())
        shape = UsdGeom.Mesh.Define(stage, "/model/mesh")
        offset = offset_of(mesh.vertices)
        if offset.any():
            shape.AddTranslateOp().Set(tuple(offset.tolist()))
        points = (mesh.vertices - offset).astype(np.float32)
        shape.CreatePointsAttr(vec3(points))
        shape.CreateExtentAttr(vec3(np.stack([points.min(0), points.max(0)])))
        shape.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
        shape.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(mesh.faces.reshape(-1).astype(np.int32)))
        shape.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
        if mesh.normals is not None:
            shape.CreateNormalsAttr(vec3(mesh.normals.astype(np.float32)))
            shape.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
        color = None
        if mesh.texture is not None:
            assert mesh.uv is not None
            (folder / "texture.png").write_bytes(png(mesh.texture))
            upward = np.ascontiguousarray(mesh.uv * [1, -1] + [0, 1], np.float32)
            _primvar(shape, "st", Sdf.ValueTypeNames.TexCoord2fArray, Vt.Vec2fArray.FromNumpy(upward))
            color = _texture(stage, "./texture.png")
        elif mesh.colors is not None:
            linear = srgb_to_linear(np.clip(mesh.colors, 0, 1).astype(np.float64)).astype(np.float32)
            _primvar(shape, "displayColor", Sdf.ValueTypeNames.Color3fArray, vec3(linear))
            color = _reader(stage, "color", "float3", "displayColor")
        if color is not None:
            UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(_unlit(stage, color))
        stage.Save()
        UsdUtils.CreateNewUsdzPackage(str(folder / "mesh.usdc"), str(folder / "mesh.usdz"))  # with what it names
        file.write((folder / "mesh.usdz").read_bytes())


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """USD does not tell why it could not write; in a folder that we have just made, room is what is missing."""
    from pxr import Tf

    try:
        yield
    except Tf.ErrorException as error:
        raise OSError(errno.ENOSPC, str(error).strip()) from None


def read_usdz(path: Path) -> Mesh:
    """What `write_usdz` wrote: positions in double, faces, and the colours of vertices."""
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.Open(str(path))
    shape = UsdGeom.Mesh(stage.GetPrimAtPath("/model/mesh"))
    world = np.array(UsdGeom.XformCache().GetLocalToWorldTransform(shape.GetPrim()))  # of rows: x M
    points = np.array(shape.GetPointsAttr().Get(), np.float64) @ world[:3, :3] + world[3, :3]
    linear = UsdGeom.PrimvarsAPI(shape).GetPrimvar("displayColor").Get()
    colors = None if linear is None else linear_to_srgb(np.array(linear)).astype(np.float32)
    return Mesh(points, np.array(shape.GetFaceVertexIndicesAttr().Get(), np.int32).reshape(-1, 3), colors)


def _primvar(shape: Any, name: str, kind: Any, values: Any) -> None:
    from pxr import UsdGeom

    UsdGeom.PrimvarsAPI(shape).CreatePrimvar(name, kind, UsdGeom.Tokens.vertex).Set(values)


def _reader(stage: Any, name: str, kind: str, primvar: str) -> Any:
    """The output of a shader that gives a primvar at each point."""
    from pxr import Sdf, UsdShade

    shader = UsdShade.Shader.Define(stage, f"/model/look/{name}")
    shader.CreateIdAttr(f"UsdPrimvarReader_{kind}")
    shader.CreateInput("varname", Sdf.ValueTypeNames.String).Set(primvar)
    return shader.CreateOutput("result", getattr(Sdf.ValueTypeNames, kind.capitalize()))


def _texture(stage: Any, file: str) -> Any:
    """The output of a shader that looks a picture up, clamped: what lies across its border is another part."""
    from pxr import Sdf, UsdShade

    shader = UsdShade.Shader.Define(stage, "/model/look/texture")
    shader.CreateIdAttr("UsdUVTexture")
    shader.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(file)
    shader.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set("sRGB")
    for wrap in ("wrapS", "wrapT"):
        shader.CreateInput(wrap, Sdf.ValueTypeNames.Token).Set("clamp")
    shader.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(_reader(stage, "st", "float2", "st"))
    return shader.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)


def _unlit(stage: Any, color: Any) -> Any:
    """A material that emits `color`, a shader's output, and does nothing else."""
    from pxr import Sdf, UsdShade

    material = UsdShade.Material.Define(stage, "/model/look")
    shader = UsdShade.Shader.Define(stage, "/model/look/surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    black = {"diffuseColor": (0.0, 0.0, 0.0), "specularColor": (0.0, 0.0, 0.0)}
    for name, value in black.items():
        shader.CreateInput(name, Sdf.ValueTypeNames.Color3f).Set(value)
    shader.CreateInput("useSpecularWorkflow", Sdf.ValueTypeNames.Int).Set(1)
    shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(1.0)
    shader.CreateInput("emissiveColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(color)
    material.CreateSurfaceOutput().ConnectToSource(shader.CreateOutput("surface", Sdf.ValueTypeNames.Token))
    return material
