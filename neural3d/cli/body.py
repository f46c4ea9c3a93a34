"""`neural3d body make` and `neural3d body learn`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from neural3d.cli.console import (
    NOWHERE,
    Number,
    OutOption,
    Output,
    StageProgress,
    at_least,
    console,
    option,
    progress_bar,
    say_next,
)
from neural3d.config import nearest
from neural3d.disk import replacing, require_writable
from neural3d.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from neural3d.body.model import BodyModel
    from neural3d.body.motion import Motion
    from neural3d.geometry.mesh import Mesh

RATE = 30.0  # pictures of a film a second, about; clips have up to 120
MESHES = (".ply", ".obj", ".stl", ".usdz")
MOVES = (".mp4", ".npz", ".bvh", "")
SIZES = {"shape": "NAME=VALUE", "pose": "JOINT=X,Y,Z"}


@dataclass
class BodyMake:
    """A body of any shape and pose, or one that moves: skinned .glb, film, meshes, AMASS .npz or .bvh."""

    out: Output = NOWHERE
    """FILE.glb: skeleton, morph targets and the motion; .mp4: a film; .npz: the motion in AMASS's layout; .bvh; .ply,
    .obj, .stl or .usdz: a mesh, posed. Without an ending: a folder with a mesh for each frame."""
    out_: OutOption = NOWHERE
    """The same as OUT."""
    model: Annotated[str, tyro.conf.arg(metavar="anny|FILE")] = "anny"
    """anny: the free body; or your file of SMPL, SMPL-H or SMPL-X, .npz or .pkl."""
    rig: Literal["default", "mixamo", "cmu_mb", "game_engine"] = "default"
    """Of the free body: default has face and toes, 163 joints; the others are named as other programs name theirs."""
    shape: Annotated[tuple[str, ...], option("NAME=VALUE ...")] = ()
    """Such as age=0.3 gender=1, or beta0=1.5; neural3d info MODEL names all of them."""
    pose: Annotated[tuple[str, ...], option("JOINT=X,Y,Z ...")] = ()
    """How joints turn relative to their parents: an axis times an angle in degrees, such as upperarm01.L=0,0,-40."""
    motion: Annotated[Path | None, option("FILE")] = None
    """A clip to put onto the body: .bvh, DeepMimic's .txt, AMASS's .npz, .glb or .gltf."""
    blend: Literal["linear", "dual_quaternion"] = "linear"
    """How joints blend in meshes and films: linear, as the SMPL family and glTF have it; dual_quaternion: what twists
    keeps its girth."""
    frames: Literal["ply", "obj"] = "ply"
    """What a folder's meshes are."""
    size: Number = 512
    """Pixels along a film's sides."""

    def run(self) -> None:
        ending = self.out.suffix.lower()
        self.check(ending)
        from neural3d.body import load_model
        from neural3d.body.rigged import shaped

        values = {name: numbers[0] for name, numbers in read_pairs("shape", self.shape, 1).items()}
        model = load_model(self.model, near=values, rig=self.rig)
        model.space.check(values)
        body = replace(shaped(model, values), blend=self.blend)
        motion = self.moves(body)
        if ending == ".glb":
            self.write_glb(body, motion)
        elif ending in MESHES:
            self.write_mesh(body, motion)
        elif ending == ".mp4":
            self.write_film(body, motion)
        elif ending:
            from neural3d.body.clips import write_motion

            write_motion(motion, self.out)
            console.print(f"{self.out}: {len(motion)} frames, {motion.seconds:.1f} s")
        else:
            self.write_meshes(body, motion)

    def write_glb(self, body: BodyModel, motion: Motion) -> None:
        from neural3d.body.rigged import rigged
        from neural3d.files.rigged_gltf import write_rigged

        made = rigged(body, motion)
        with replacing(self.out) as part, open(part, "wb") as file:
            write_rigged(made, file)
        clip = f", {motion.seconds:.1f} s of {motion.name}" if self.motion else ""
        console.print(
            f"{self.out}: {len(made.vertices):,} vertices, {len(made.names)} joints, {len(made.morphs)} morph targets"
            f"{clip}; +Y is up, in metres"
        )

    def write_mesh(self, body: BodyModel, motion: Motion) -> None:
        from neural3d.files.meshes import write_mesh

        write_mesh(self.mesh_of(body, self.posed(body, motion)[0]), self.out, up="y", native_up=(0, 1, 0))
        console.print(f"{self.out}: {len(body.template):,} vertices, {len(body.faces):,} faces; +Y is up, in metres")

    def write_meshes(self, body: BodyModel, motion: Motion) -> None:
        from neural3d.files.meshes import write_mesh

        with progress_bar() as bar:
            for i, vertices in enumerate(bar.track(self.posed(body, motion), description="writing")):
                write_mesh(
                    self.mesh_of(body, vertices), self.out / f"{i:05d}.{self.frames}", up="y", native_up=(0, 1, 0)
                )
        console.print(f"{len(motion)} meshes written to {self.out}, {motion.rate:g} a second; +Y is up, in metres")

    def write_film(self, body: BodyModel, motion: Motion) -> None:
        from neural3d.body.film import film
        from neural3d.render.images import save_film

        every = max(1, round(motion.rate / RATE))
        vertices = self.posed(body, motion.every(every))
        with progress_bar() as bar:
            frames = film(vertices, body.faces, motion.rate / every, self.size)
            save_film(
                self.out, bar.track(frames, total=len(vertices), description="rendering"), fps=motion.rate / every
            )
        console.print(f"{len(vertices)} frames written to {self.out}")

    def posed(self, body: BodyModel, motion: Motion) -> Tensor:
        from neural3d.body.rigged import posed_frames

        return posed_frames(body, motion)

    def mesh_of(self, body: BodyModel, vertices: Tensor) -> Mesh:
        from neural3d.geometry.mesh import Mesh

        return Mesh(vertices.numpy(), body.faces.numpy())

    def check(self, ending: str) -> None:
        """Raises UserError where what is asked for does not go together, before any work."""
        if ending not in (".glb", *MESHES, *MOVES):
            known = ", ".join([".glb", *MESHES, *MOVES[:-1]])
            raise UserError(f"{self.out}: unknown format '{ending}'; choose one of {known}, or a folder.")
        if ending in MOVES and self.motion is None:
            raise UserError(f"{self.out}: {ending or 'a folder of meshes'} takes a motion: --motion FILE.")
        if ending in MESHES and self.motion is not None:
            raise UserError(f"{self.out} holds one mesh; of a motion give a folder, .glb or .mp4.")
        if self.blend != "linear" and ending in (".glb", ".npz", ".bvh"):
            why = "glTF blends linearly" if ending == ".glb" else "a motion has no skin"
            raise UserError(f"{self.out}: {why}; leave --blend out, or give .mp4, a folder or a mesh.")
        if self.motion is not None and self.pose:
            raise UserError("--motion poses the body already; leave --pose out.")
        at_least(size=(self.size, 16))
        require_writable(self.out, folder=not ending)

    def moves(self, body: BodyModel) -> Motion:
        """The clip on this body, or a single frame of its pose."""
        import torch

        from neural3d.body.motion import Motion
        from neural3d.geometry.rotations import quaternion_from_axis_angle

        if self.motion is not None:
            from neural3d.body.clips import read_motion
            from neural3d.body.clips.amass import average
            from neural3d.body.retarget import retarget

            clip, ground = read_motion(self.motion), float(body.template[:, 1].min())
            if self.out.suffix.lower() == ".npz" and body.joint_names[0] != "pelvis":  # AMASS knows SMPL's joints only
                made = retarget(clip, average("smplh"))
            else:
                made = retarget(clip, body.skeleton(), ground)
            for note in made.notes:
                console.print(f"note: {note}")
            return made
        turns = torch.zeros(1, body.joints, 3)
        for joint, degrees in read_pairs("pose", self.pose, 3).items():
            if joint not in body.joint_names:
                raise nearest(joint, body.joint_names, "joint", "--pose")
            turns[0, body.joint_names.index(joint)] = torch.deg2rad(torch.tensor(degrees))
        return Motion("pose", body.skeleton(), quaternion_from_axis_angle(turns), body.rest[:1], rate=1.0)


@dataclass
class BodyLearn:
    """A body model from a folder of scans: their mean, principal components, and a template's joints and weights."""

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Meshes of bodies in one pose, in metres. Those of the template's topology are taken as they are; others are
    registered first."""
    out: Output = NOWHERE
    """FILE.npz, of SMPL's layout."""
    out_: OutOption = NOWHERE
    """The same as OUT."""
    template: Annotated[str, tyro.conf.arg(metavar="anny|FILE")] = "anny"
    """Whose topology, joints and skinning weights: anny, or your file of the SMPL family."""
    shape: Annotated[tuple[str, ...], option("NAME=VALUE ...")] = ()
    """Of the template, near that of the scans."""
    components: Number = 10
    """At most so many shapes; one fewer than scans at most."""

    def run(self) -> None:
        if self.out.suffix.lower() != ".npz":
            raise UserError(f"{self.out}: models are written as .npz.")
        at_least(components=(self.components, 1))
        require_writable(self.out)
        from neural3d.body import load_model
        from neural3d.body.learn import MESHES, learn, with_regressor, write_model
        from neural3d.body.rigged import shaped

        if not self.path.is_dir():
            raise UserError(f"{self.path} is no folder; give one with meshes of bodies.")
        files = sorted(f for f in self.path.iterdir() if f.suffix.lower() in MESHES)
        model = with_regressor(load_model(self.template))
        values = {name: numbers[0] for name, numbers in read_pairs("shape", self.shape, 1).items()}
        model.space.check(values)
        with StageProgress() as shown:
            learned = learn(files, shaped(model, values), self.components, self.out.stem, shown.update)
        write_model(learned, self.out)
        console.print(
            f"{self.out}: {len(learned.template):,} vertices, {learned.joints} joints, {len(learned.shapes)} shapes of "
            f"{len(files)} scans"
        )
        say_next("body", "make", "--model", self.out, self.out.with_suffix(".glb"))


def read_pairs(name: str, words: tuple[str, ...], count: int) -> dict[str, list[float]]:
    """--name A=1 B=2 as a dictionary. Raises UserError where one is not NAME= and `count` numbers."""
    found = {}
    for word in words:
        key, _, value = word.partition("=")
        try:
            numbers = [float(number) for number in value.split(",")]
        except ValueError:
            numbers = []
        if not key or len(numbers) != count:
            raise UserError(f"--{name}: '{word}' is not {SIZES[name]}.")
        found[key] = numbers
    return found
