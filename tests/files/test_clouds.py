"""Clouds as other programs write them: positions in double, normals, colours, and what had to be left out."""

import builtins
import struct

import numpy as np
import pytest
import trimesh
from neural3d.viewer.open import open_subject

from neural3d.cli import main
from neural3d.errors import UserError
from neural3d.files.clouds import is_cloud_file, read_cloud
from neural3d.loading import load_data

RNG = np.random.default_rng(0)
POINTS = np.round(RNG.uniform(-1, 1, (60, 3)) + np.array([448_262, 5_411_932, 431]), 3)
NORMALS = RNG.standard_normal((60, 3))
NORMALS /= np.linalg.norm(NORMALS, axis=1, keepdims=True)
BYTES = RNG.integers(0, 256, (60, 3))
BYTES[0] = 255
INTENSITY = RNG.uniform(0, 2000, (60, 1))


def write(path, *columns, header="", delimiter=" "):
    rows = "\n".join(delimiter.join(f"{v:.12g}" if v % 1 else f"{v:.0f}" for v in row) for row in np.hstack(columns))
    path.write_text(header + rows + "\n")
    return path


def check(path, normals=False, colors=False):
    cloud = read_cloud(path)
    assert is_cloud_file(path)
    assert cloud.points.dtype == np.float64 and abs(cloud.points - POINTS).max() < 6e-4
    assert (cloud.normals is not None) == normals and (cloud.colors is not None) == colors
    if normals:
        assert abs(cloud.normals - NORMALS).max() < 1e-5
    if colors:
        assert abs(cloud.colors - BYTES / 255).max() < 1e-5
    return cloud


@pytest.mark.parametrize("ending", ["xyz", "txt", "asc", "csv"])
@pytest.mark.parametrize("delimiter", [" ", ",", ";", "\t"])
def test_columns_without_names(tmp_path, ending, delimiter):
    """Six columns: normals where they are of unit length, else colours. Four, seven, nine, ten: the same."""
    path = tmp_path / f"a.{ending}"

    def given(*columns):
        return write(path, *columns, delimiter=delimiter)

    assert not check(given(POINTS)).notes
    assert not check(given(POINTS, NORMALS), normals=True).notes
    assert not check(given(POINTS, BYTES), colors=True).notes
    assert not check(given(POINTS, INTENSITY)).notes
    assert not check(given(POINTS, INTENSITY, BYTES), colors=True).notes
    check(given(POINTS, NORMALS, BYTES), normals=True, colors=True)
    check(given(POINTS, BYTES, NORMALS), normals=True, colors=True)
    check(given(POINTS, BYTES / 255, NORMALS), normals=True, colors=True)
    curved = check(given(POINTS, NORMALS, INTENSITY), normals=True)
    assert "6 of 7 columns were read" in curved.notes[0]
    odd = check(given(POINTS, NORMALS, INTENSITY * 1e5, INTENSITY), normals=True)
    assert "6 of 8 columns were read" in odd.notes[0]


@pytest.mark.parametrize(
    "header",
    [
        "x,y,z,nx,ny,nz,r,g,b\n",
        '"X","Y","Z","Nx","Ny","Nz","Red","Green","Blue"\n',
        "//X,Y,Z,Nx,Ny,Nz,R,G,B\n60\n",  # CloudCompare's, with the count it may add
        "# made by hand\n# x, y, z, nx, ny, nz, red, green, blue\n",
        "\ufeffx [m],y [m],z [m],normal_x,normal_y,normal_z,r,g,b\n",
    ],
)
def test_columns_by_their_names(tmp_path, header):
    check(write(tmp_path / "a.csv", POINTS, NORMALS, BYTES, header=header, delimiter=","), normals=True, colors=True)


def test_names_say_the_order(tmp_path):
    header = "r g b intensity z y x nx ny nz\n"
    path = write(tmp_path / "a.xyz", BYTES, INTENSITY, POINTS[:, ::-1], NORMALS, header=header)
    check(path, normals=True, colors=True)


def test_colours_of_16_bits_and_of_unit_range(tmp_path):
    for scale in (257, 1 / 255):
        path = write(tmp_path / "a.txt", POINTS, BYTES * scale, header="x y z red green blue\n")
        assert abs(read_cloud(path).colors - BYTES / 255).max() < 1e-5


@pytest.mark.parametrize("ending", ["xyz", "csv", "ply"])
def test_points_that_are_not_finite_are_left_out_and_told(tmp_path, capsys, ending):
    points = POINTS.copy()
    points[[3, 7]] = [[np.nan, 0, 0], [0, np.nan if ending == "ply" else np.inf, 0]]
    path = tmp_path / f"a.{ending}"
    if ending == "ply":
        head = "ply\nformat ascii 1.0\nelement vertex 60\n" + "".join(f"property double {a}\n" for a in "xyz")
        path.write_text(head + "end_header\n" + "\n".join(" ".join(map(str, p)) for p in points) + "\n")
    else:
        delimiter = "," if ending == "csv" else " "
        path.write_text("\n".join(delimiter.join(map(str, p)) for p in points))
    shape = load_data(path)
    assert len(shape.vertices) == 58 and "2 of 60 points are not finite (NaN or Inf) and were left out." in shape.notes
    assert len(open_subject(path).points[0]) == 58
    main(["info", str(path)])
    assert "2 of 60 points are not finite" in capsys.readouterr().out


def test_info_tells_what_a_cloud_has(tmp_path, capsys):
    main(["info", str(write(tmp_path / "a.csv", POINTS, NORMALS, header="x,y,z,nx,ny,nz\n", delimiter=","))])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "vertices 60" in said and "normals yes" in said and "colours none" in said and "5411931" in said


def write_las(path, colors=BYTES * 257):
    """LAS 1.2, point format 2: positions as whole millimetres from an offset, colours of 16 bits."""
    low, high = POINTS.min(0), POINTS.max(0)
    offset = np.round(low)
    numbers = np.round((POINTS - offset) * 1000).astype(int)
    bounds = np.stack([high, low], 1).ravel()
    head = struct.pack(
        "<4sHH16sBB32s32sHHHLLBHL5L3d3d6d", b"LASF", 0, 0, b"", 1, 2, b"", b"tests", 1, 2024, 227, 227, 0, 2, 26,
        len(POINTS), len(POINTS), 0, 0, 0, 0, *[0.001] * 3, *offset, *bounds,
    )  # fmt: skip
    rows = b"".join(
        struct.pack("<3lHBBbBH3H", *n, 7, 9, 2, 0, 0, 1, *c) for n, c in zip(numbers.tolist(), colors.tolist())
    )
    path.write_bytes(head + rows)
    return path


def test_las(tmp_path):
    pytest.importorskip("laspy", reason="laspy, which reads .las, is not installed")
    check(write_las(tmp_path / "a.las"), colors=True)
    check(write_las(tmp_path / "b.las", BYTES), colors=True)  # bytes, as some programs write them
    check(write_las(tmp_path / "c.las", 0 * BYTES), colors=False)
    (tmp_path / "d.las").write_bytes((tmp_path / "a.las").read_bytes()[:300])
    with pytest.raises(UserError, match=r"d\.las"):
        read_cloud(tmp_path / "d.las")


@pytest.mark.parametrize("place", [100, 107, 243])
def test_las_with_more_records_than_bytes(tmp_path, place):
    """laspy would read billions of empty ones."""
    pytest.importorskip("laspy", reason="laspy, which reads .las, is not installed")
    data = bytearray(write_las(tmp_path / "a.las").read_bytes())
    data[25] = 4 if place == 243 else data[25]
    struct.pack_into("<I", data, place, 2**32 - 1)
    (tmp_path / "a.las").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.las.* bytes of records, but all of it has 1,787"):
        read_cloud(tmp_path / "a.las")


@pytest.mark.parametrize(("factor", "message"), [(1e-320, "lie at one place"), (1e305, "reach so far")])
def test_sizes_of_which_nothing_can_be_computed(tmp_path, factor, message):
    with pytest.raises(UserError, match=f"a.xyz.*{message}"):
        load_data(write(tmp_path / "a.xyz", NORMALS * factor))
    assert load_data(write(tmp_path / "b.xyz", NORMALS * 1e-100)).vertices.std() > 0.1


def test_laz(tmp_path):
    laspy = pytest.importorskip("laspy", reason="laspy, which reads .laz, is not installed")
    laspy.read(write_las(tmp_path / "a.las")).write(tmp_path / "a.laz")
    check(tmp_path / "a.laz", colors=True)
    data = bytearray((tmp_path / "a.laz").read_bytes())
    points = struct.unpack_from("<I", data, 96)[0]
    table = struct.unpack_from("<q", data, points)[0]
    assert struct.unpack_from("<II", data, table) == (0, 1)  # one chunk
    struct.pack_into("<I", data, table + 4, 2**32 - 1)
    (tmp_path / "b.laz").write_bytes(data)
    with pytest.raises(UserError, match=r"b\.laz.*4,294,967,295 bytes of records"):  # of which lazrs dies
        read_cloud(tmp_path / "b.laz")
    (tmp_path / "c.laz").write_bytes(
        data[:points] + struct.pack("<q", -1) + data[points + 8 :] + struct.pack("<q", table)
    )
    with pytest.raises(UserError, match=r"c\.laz.*4,294,967,295 bytes of records"):
        read_cloud(tmp_path / "c.laz")


def test_laz_of_huge_chunks(tmp_path):
    """lazrs would make room for a billion points, 20 GB."""
    laspy = pytest.importorskip("laspy", reason="laspy, which reads .laz, is not installed")
    laspy.read(write_las(tmp_path / "a.las")).write(tmp_path / "a.laz")
    data = (tmp_path / "a.laz").read_bytes()
    usual = struct.pack("<I", 50_000)
    assert data[:400].count(usual) == 1
    (tmp_path / "a.laz").write_bytes(data.replace(usual, struct.pack("<I", 2**30), 1))
    check(tmp_path / "a.laz", colors=True)


def test_e57_moves_each_scan_to_its_place(tmp_path):
    pye57 = pytest.importorskip("pye57", reason="pye57, which reads .e57, is not installed")
    file = pye57.E57(str(tmp_path / "a.e57"), mode="w")
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    for half in (slice(0, 30), slice(30, 60)):
        place = POINTS[half].mean(0)
        own = (POINTS[half] - place) @ turn  # turned back
        data = {f"cartesian{a}": own[:, k] for k, a in enumerate("XYZ")}
        data |= {f"color{c}": BYTES[half, k].astype(np.uint16) for k, c in enumerate(("Red", "Green", "Blue"))}
        file.write_scan_raw(data, rotation=np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)]), translation=place)
    file.close()
    check(tmp_path / "a.e57", colors=True)


@pytest.mark.parametrize("ending, module, extra", [("las", "laspy", "las"), ("e57", "pye57", "e57")])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, ending, module, extra):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"as it may be")
    real = builtins.__import__

    def without(name, *rest):
        if name == module:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.delitem(__import__("sys").modules, module, raising=False)
    monkeypatch.setattr("importlib.import_module", lambda name: without(name))
    with pytest.raises(UserError, match=rf"a\.{ending}: .* pip install 'neural3d\[{extra}\]'"):
        load_data(path)


PCD = (
    "VERSION 0.7\nFIELDS {}\nSIZE {}\nTYPE F F F F F F\nCOUNT 1 1 1 1 1 1\nWIDTH 60\nHEIGHT 1\nPOINTS 60\nDATA binary\n"
)


@pytest.mark.parametrize(
    ("fields", "sizes", "rows", "message"),
    [
        ("x y z normal_x normal_y normal_z", "4 4 4 4 4 4", 60, None),
        ("x y z normal_x normal_y norma,_z", "4 4 4 4 4 4", 60, "it has the fields x y z normal_x normal_y norma,_z"),
        ("x y zz normal_x normal_y normal_z", "4 4 4 4 4 4", 60, "it has the fields x y zz"),
        ("x y z normal_x normal_y normal_z", "4 4 4 4 4", 60, "not as many sizes"),
        ("x y z normal_x normal_y normal_z", "4 4 4 4 4 4", 59, "ends after 1,416 of 1,440 bytes"),
    ],
)
def test_a_pcd_header_that_open3d_would_die_of(tmp_path, fields, sizes, rows, message):
    path = tmp_path / "a.pcd"
    table = np.hstack([POINTS - POINTS.mean(0), NORMALS]).astype("<f4")[:rows]
    path.write_bytes(PCD.format(fields, sizes).encode() + table.tobytes())
    if message is None:
        cloud = read_cloud(path)
        assert abs(cloud.points - table[:, :3]).max() < 1e-6 and abs(cloud.normals - NORMALS).max() < 1e-6
    else:
        with pytest.raises(UserError, match=message):
            read_cloud(path)


def test_pts_with_their_count(tmp_path):
    """As scanners write them: the number of points, then x y z, an intensity and a colour."""
    path = write(tmp_path / "a.pts", POINTS, np.round(INTENSITY), BYTES, header="60\n")
    check(path, colors=True)


def test_other_tables_are_no_clouds(tmp_path):
    for name, text in {
        "a.csv": "#name,x,y,alt,heading\nIMG_1.jpg,1,2,3,4\n", "b.txt": "notes of a day\n1 2 3\n", "c.txt": "1 0 2\n",
        "d.csv": "time,speed,height\n1,2,3\n", "e.txt": "",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
        assert is_cloud_file(tmp_path / name) == (name == "c.txt")
    with pytest.raises(UserError, match=r"a\.csv"):
        load_data(tmp_path / "a.csv")
    (tmp_path / "f.xyz").write_text("no numbers\n")
    (tmp_path / "g.xyz").write_text("1 2 3\n4 5\n6 7 8\n")
    for name in ("f.xyz", "g.xyz"):
        with pytest.raises(UserError, match=rf"{name}"):
            read_cloud(tmp_path / name)


def test_a_mesh_in_ply_is_no_cloud(tmp_path):
    trimesh.creation.box().export(tmp_path / "a.ply")
    assert not is_cloud_file(tmp_path / "a.ply") and load_data(tmp_path / "a.ply").faces is not None
