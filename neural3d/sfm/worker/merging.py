"""Several models of one capture that share photos become one."""

from __future__ import annotations

from pathlib import Path

import pycolmap

from neural3d.sfm.worker.mapping import take_out_unseen

NEAR = 0.02  # of the picture's long side: points of one model must fall so near to where the other's photos saw them
COMMON = 2  # photos that two models must share: one says nothing of their scale that can be checked
ALIKE = 0.15  # share by which a camera's focal length may differ between them


def merged(
    target: pycolmap.Reconstruction, other: pycolmap.Reconstruction, database: str, images: str, scratch: Path
) -> pycolmap.Reconstruction | None:
    """`target` with the photos that only `other` has placed, triangulated anew; None where the two do not fit.

    Both must come from the same database, which gives photos their ids.
    """
    common = set(target.reg_image_ids()) & set(other.reg_image_ids())
    more = set(other.reg_image_ids()) - common
    if len(common) < COMMON or not more or not _same_cameras(target, other):
        return None
    longest = max(max(camera.width, camera.height) for camera in target.cameras.values())
    similarity = pycolmap.align_reconstructions_via_reprojections(other, target, max_reproj_error=NEAR * longest)
    if similarity is None:
        return None
    whole, moved = pycolmap.Reconstruction(target), pycolmap.Reconstruction(other)
    moved.transform(similarity)
    for i in sorted(more):
        _add_photo(whole, moved, moved.image(i))
    scratch.mkdir(exist_ok=True)
    whole = pycolmap.triangulate_points(whole, database, images, str(scratch))
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    pycolmap.bundle_adjustment(whole, options)
    pycolmap.ObservationManager(whole).filter_all_points3D(4.0, 1.5)  # the mapper's own limits: pixels, degrees
    take_out_unseen(whole, more)
    return whole if whole.num_reg_images() > target.num_reg_images() else None


def _same_cameras(a: pycolmap.Reconstruction, b: pycolmap.Reconstruction) -> bool:
    both = set(a.cameras) & set(b.cameras)
    return all(abs(a.camera(i).mean_focal_length() / b.camera(i).mean_focal_length() - 1) < ALIKE for i in both)


def _add_photo(whole: pycolmap.Reconstruction, source: pycolmap.Reconstruction, photo: pycolmap.Image) -> None:
    if whole.exists_image(photo.image_id):  # its pose was taken out
        frame = whole.frame(whole.image(photo.image_id).frame_id)
        frame.rig_from_world = photo.cam_from_world()
        whole.register_frame(frame.frame_id)
        return
    if not whole.exists_camera(photo.camera_id):
        whole.add_camera_with_trivial_rig(source.camera(photo.camera_id))
    seen = pycolmap.Point2DList([pycolmap.Point2D(point.xy) for point in photo.points2D])
    copy = pycolmap.Image(name=photo.name, points2D=seen, camera_id=photo.camera_id, image_id=photo.image_id)
    whole.add_image_with_trivial_frame(copy, photo.cam_from_world())
