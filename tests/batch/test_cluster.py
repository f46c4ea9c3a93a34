"""`neural3d batch --address` on a Ray cluster of two nodes on this machine, one of which is killed half-way."""

import json
import os
import threading
import time

import pytest
from ports import free_port
from toy import ball_capture

from neural3d.cli import main
from neural3d.run import load
from neural3d.synthetic.street import make_street

for wait in ("raylet_start_wait_time_s", "worker_register_timeout_seconds"):  # else too little on a busy machine
    os.environ.setdefault(f"RAY_{wait}", "300")
ray = pytest.importorskip("ray", reason="ray, of the extra 'cluster', is not installed")

NAMES = [f"capture{i}" for i in range(6)]
AGENTS = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", "dashboard_agent_listen_port")


def ports() -> dict[str, int]:
    """Of a node's agents: without them it waits for each of these to tell its own, and dies after 15 s."""
    return {name: free_port() for name in AGENTS}


@pytest.fixture
def cluster():
    """A head without cores, and two nodes of one core each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **ports()})
    nodes = [cluster.add_node(num_cpus=1, memory=2**31, **ports()) for _ in range(2)]
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Started in a folder that holds another neural3d, as a checkout does: Ray's workers must not import that."""
    (tmp_path / "checkout" / "neural3d").mkdir(parents=True)
    (tmp_path / "checkout" / "neural3d" / "__init__.py").write_text("raise ImportError('the wrong neural3d')")
    monkeypatch.chdir(tmp_path / "checkout")


@pytest.mark.parametrize("by", ["folder", "address"])
def test_a_node_that_dies_costs_no_capture(cluster, elsewhere, tmp_path, capsys, by):
    cluster, nodes = cluster
    for name in NAMES:
        ball_capture(tmp_path / name, train=4, test=2)
    folder = tmp_path / "out"

    def kill_a_node_half_way():
        while not any(folder.glob("*/run/eval.json")):
            time.sleep(0.1)
        cluster.remove_node(nodes[0], allow_graceful=False)

    killer = threading.Thread(target=kill_a_node_half_way, daemon=True)
    killer.start()
    words = ["batch", *(tmp_path / n for n in NAMES), "--out", folder, "--address", cluster.address, "--steps", "20"]
    words += ["--device", "cpu", "--method", "splat", "--export", "ply"]
    words += ["--share", f"file://{tmp_path}/share"] if by == "address" else []
    main([*map(str, words), "--set", "max_splats=300", "random_points=200", "sh_degree=0"])
    killer.join()
    said = " ".join(capsys.readouterr().out.split())
    jobs = json.loads((folder / "batch.json").read_text())["jobs"]
    assert [job["name"] for job in jobs] == NAMES and {job["state"] for job in jobs} == {"done"}
    again = [job for job in jobs if job["attempts"] > 1]
    assert len(again) == 1 and again[0]["attempts"] - 1 == again[0]["failures"] <= 2
    assert "done: 6 of 6" in said
    for job in jobs:
        assert (folder / job["name"] / f"{job['name']}.ply").stat().st_size and job["figures"]["step"] == 20
        log = (folder / job["name"] / "log.txt").read_text()
        assert log.count("$ neural3d") <= 3 + (job["attempts"] - 1)  # a command is repeated only where it was cut off
        assert f"{job['name']} │ done │ {job['attempts']} │ 6 of 6" in said


def test_cells_of_a_partition_are_jobs_there_too(cluster, elsewhere, tmp_path, capsys):
    cluster, _ = cluster
    street = make_street(tmp_path / "street", stations=8, width=48, height=36)
    words = ["train", street, "--out", tmp_path / "run", "--method", "splat", "--device", "cpu"]
    words += ["--address", cluster.address, "--set", "horizon=40", "sh_degree=1", "partition=true", "cells=2"]
    main([str(word) for word in words])
    said = " ".join(capsys.readouterr().out.split())
    assert "1: train on" in said and "2: train on" in said and "splats, joined" in said
    assert len(load(tmp_path / "run", "cpu").method.splats) > 0
