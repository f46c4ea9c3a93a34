"""Meshes with a skeleton in glTF files, as their animation moves them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neural3d.body.clips.gltf import Clip
from neural3d.errors import UserError
from neural3d.ops.lbs import blend_skin


@dataclass(frozen=True)
class Moving:
    """Vertices in all frames, in the file's units and frame: +Y up, by glTF's rules in metres."""

    name: str
    vertices: Float[Tensor, "T V 3"]
    faces: Int[Tensor, "F 3"]
    rate: float

    def summary(self) -> str:
        count = len(self.vertices)
        return f"{self.name}: {count} frames, {self.rate:g} a second, {(count - 1) / self.rate:.2f} s"


def is_moving(path: Path) -> bool:
    """Whether a .glb or .gltf holds a mesh with a skeleton, and an animation."""
    if path.suffix.lower() not in (".glb", ".gltf") or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(20)
        text = file.read(int.from_bytes(head[12:16], "little")) if head[:4] == b"glTF" else head + file.read()
    return all(word in text for word in (b'"animations"', b'"skins"', b'"meshes"'))


def read_moving(path: Path) -> Moving:
    """All meshes that a skeleton moves, morph targets included. Raises UserError where the file is damaged, or holds
    compressed numbers.
    """
    try:
        clip = Clip(path)
        skinned = [n for n, node in enumerate(clip.nodes) if "mesh" in node and "skin" in node]
        parts = [part for node in skinned for part in _parts(clip, node)]
        faces, first = [], 0
        for vertices, own in parts:
            faces.append(own + first)
            first += vertices.shape[1]
        found = Moving(clip.name, torch.cat([v for v, _ in parts], 1), torch.cat(faces), clip.rate)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path} is damaged, or no glTF ({error}); export or copy it again.") from error
    low, high = found.faces.aminmax()
    if not found.vertices.isfinite().all() or low < 0 or high >= found.vertices.shape[1]:
        raise UserError(
            f"{path} holds numbers that are not finite, or names vertices that it has not; export it again."
        )
    return found


def _parts(clip: Clip, node: int) -> list[tuple[Float[Tensor, "T V 3"], Int[Tensor, "F 3"]]]:
    """Of each primitive of a node's mesh. Where the node itself is has no say: its skin's joints do."""
    file, document = clip.file, clip.file.json
    skin = document["skins"][clip.nodes[node]["skin"]]
    world = clip.world(skin["joints"])
    transforms = np.stack([world[joint] for joint in skin["joints"]], 1)
    if "inverseBindMatrices" in skin:
        by_columns = file.numbers(skin["inverseBindMatrices"])[: len(skin["joints"])].reshape(-1, 4, 4)
        transforms = transforms @ by_columns.swapaxes(1, 2)
    found = []
    for primitive in document["meshes"][clip.nodes[node]["mesh"]]["primitives"]:
        attributes: dict[str, Any] = primitive["attributes"]
        if primitive.get("mode", 4) != 4 or "JOINTS_0" not in attributes:
            continue
        template = file.numbers(attributes["POSITION"])
        targets = [file.numbers(target["POSITION"]) for target in primitive.get("targets", [])]
        order = range(sum(name.startswith("JOINTS_") for name in attributes))
        bones = np.concatenate([file.numbers(attributes[f"JOINTS_{k}"], whole=True) for k in order], 1)
        shares = np.concatenate([file.numbers(attributes[f"WEIGHTS_{k}"]) for k in order], 1)
        vertices = blend_skin(
            _floats(template),
            _floats(np.stack(targets) if targets else np.zeros((0, *template.shape))),
            _floats(clip.weights(node, len(targets))),
            torch.from_numpy(bones).int(),
            _floats(shares),
            _floats(transforms[:, :, :3]),
        )
        corners = file.numbers(primitive["indices"], whole=True) if "indices" in primitive else np.arange(len(template))
        found.append((vertices, torch.from_numpy(corners.reshape(-1, 3))))
    return found


def _floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
