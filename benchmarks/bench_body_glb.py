"""A body's .glb in three.js beside our own drawing of the same moment: does the file mean what we mean?

    npm install --prefix /tmp/npm three gltf-validator
    NEURAL3D_DATA=../shared/data python benchmarks/bench_body_glb.py --npm /tmp/npm/node_modules

Headless Chromium (apt-get install chromium) plays the clip to the frame; both pictures show normals as the camera sees
them, from one pinhole camera, without lights or textures. Prints the PSNR of each clip and what Khronos' validator says
of the file, saves pictures side by side.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import io
import math
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch
from common import machine, table
from PIL import Image

from neural3d.body import load_model
from neural3d.body.clips import read_motion
from neural3d.body.film import FIELD, in_pixels
from neural3d.body.retarget import retarget
from neural3d.body.rigged import normals_of, rigged, shaped
from neural3d.files.rigged_gltf import write_rigged
from neural3d.geometry.cameras import Camera
from neural3d.ops.mesh_raster import interpolate, mesh_raster
from neural3d.render.paths import look_at

DATA = Path(os.environ.get("NEURAL3D_DATA", "../shared/data")) / "motion"
CLIPS = ("bvh/131_01.bvh", "deepmimic/humanoid3d_backflip.txt", "deepmimic/humanoid3d_walk.txt")
SIZE, FINE = 512, 4  # pixels; samples of a pixel along each axis, in both
PAGE = """<!doctype html><body style="margin:0"><script type="importmap">{"imports":
{"three":"./three/build/three.module.js","three/addons/":"./three/examples/jsm/"}}</script><script type="module">
import * as THREE from "three";
import {GLTFLoader} from "three/addons/loaders/GLTFLoader.js";
const renderer = new THREE.WebGLRenderer({preserveDrawingBuffer: true});
renderer.setSize(SIDE, SIDE); renderer.outputColorSpace = THREE.LinearSRGBColorSpace;
document.body.appendChild(renderer.domElement);
const scene = new THREE.Scene(); scene.background = new THREE.Color(1, 1, 1);
const camera = new THREE.PerspectiveCamera(FOV, 1, 0.05, 100);
camera.position.set(...EYE); camera.lookAt(...TARGET);
new GLTFLoader().load("body.glb", (gltf) => {
  scene.add(gltf.scene);
  const normals = new THREE.MeshNormalMaterial();
  gltf.scene.traverse((o) => { if (o.isMesh) { o.material = normals; o.frustumCulled = false; } });
  const mixer = new THREE.AnimationMixer(gltf.scene);
  mixer.clipAction(gltf.animations[0]).play(); mixer.setTime(TIME);
  renderer.render(scene, camera); document.title = "done";
});
</script>"""


def in_three(folder: Path, seconds: float, eye: list[float], target: list[float]) -> np.ndarray:
    """What three.js draws of folder/body.glb at that time."""
    words = {"SIDE": SIZE * FINE, "FOV": math.degrees(FIELD), "EYE": eye, "TARGET": target, "TIME": seconds}
    page = functools.reduce(lambda text, word: text.replace(word, str(words[word])), words, PAGE)
    (folder / "index.html").write_text(page)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    side = str(SIZE * FINE)
    subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={side},{side}",
         "--virtual-time-budget=60000", f"--screenshot={folder / 'three.png'}",
         f"http://127.0.0.1:{server.server_port}/index.html"],
        check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    server.shutdown()
    return shrunk(np.asarray(Image.open(folder / "three.png").convert("RGB")))


def ours(vertices: torch.Tensor, faces: torch.Tensor, eye: torch.Tensor, target: torch.Tensor) -> np.ndarray:
    """The same picture by `mesh_raster`."""
    side = SIZE * FINE
    focal = side / 2 / math.tan(FIELD / 2)
    params = torch.tensor([focal, focal, side / 2, side / 2]).double()
    camera = Camera(
        "PINHOLE", side, side, params, look_at(eye.double(), target.double(), torch.tensor([0.0, 1, 0]).double())
    )
    faces = faces.int()
    face, barycentrics, _ = mesh_raster(in_pixels(camera, vertices)[None], faces, side, side)
    normal = interpolate(normals_of(vertices, faces.long()), faces, face, barycentrics)[0]
    seen = torch.nn.functional.normalize(normal, dim=-1) @ camera.world_from_camera[:3, :3].float()
    colour = 0.5 + 0.5 * seen * torch.tensor([1.0, -1.0, -1.0])  # three.js's camera looks along −z, +y up
    return shrunk((255 * torch.where((face[0] >= 0)[..., None], colour, 1.0)).round().byte().numpy())


def validated(file: Path, npm: Path) -> tuple[int, int]:
    """Errors and warnings."""
    script = """const v = require(process.argv[1] + "/gltf-validator"), fs = require("fs");
    v.validateBytes(new Uint8Array(fs.readFileSync(process.argv[2])), {maxIssues: 0}).then(
      (r) => console.log(r.issues.numErrors, r.issues.numWarnings));"""
    done = subprocess.run(
        ["node", "-e", script, str(npm.resolve()), str(file)], check=True, capture_output=True, text=True
    )
    errors, warnings = done.stdout.split()
    return int(errors), int(warnings)


def shrunk(picture: np.ndarray) -> np.ndarray:
    picture = picture[: SIZE * FINE, : SIZE * FINE].astype(np.float64)
    return picture.reshape(SIZE, FINE, SIZE, FINE, 3).mean((1, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npm", type=Path, required=True, help="node_modules with three and gltf-validator")
    parser.add_argument("--frame", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("body_glb.png"))
    options = parser.parse_args()
    body = shaped(load_model("anny", near={}), {})
    rows, pictures = [], []
    for clip in CLIPS:
        motion = retarget(read_motion(DATA / clip), body.skeleton(), float(body.template[:, 1].min()))
        frame = min(options.frame, len(motion) - 2)  # at its end three.js begins anew
        moment = motion.part(frame, frame + 1)
        vertices = body(None, moment.rotations, moment.places - body.rest[0]).vertices[0]
        target = (vertices.amin(0) + vertices.amax(0)) / 2
        eye = target + torch.tensor([1.2, 0.6, 3.2])
        with tempfile.TemporaryDirectory() as folder:
            file = io.BytesIO()
            write_rigged(rigged(body, motion), file)
            (Path(folder) / "body.glb").write_bytes(file.getvalue())
            errors, warnings = validated(Path(folder) / "body.glb", options.npm)
            shutil.copytree(
                options.npm / "three", Path(folder) / "three", ignore=shutil.ignore_patterns("fonts", "textures")
            )
            theirs = in_three(Path(folder), frame / motion.rate, eye.tolist(), target.tolist())
        own = ours(vertices, body.faces, eye, target)
        psnr = 10 * math.log10(255**2 / ((theirs - own) ** 2).mean())
        rows.append([clip, str(frame), f"{psnr:.1f}", str(errors), str(warnings)])
        pictures.append(np.concatenate([theirs, own, 255 - 4 * np.abs(theirs - own).clip(0, 63)], 1))
    print(machine())
    print(table(["clip", "frame", "PSNR, dB", "validator: errors", "warnings"], rows))
    Image.fromarray(np.concatenate(pictures).round().astype(np.uint8)).save(options.out)


if __name__ == "__main__":
    main()
