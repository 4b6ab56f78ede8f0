"""Where things are."""

import os
import pathlib

BENCH = pathlib.Path(__file__).resolve().parents[1]
ROOT = BENCH.parents[1]
CLUSTER = ROOT / "e2e/cluster/cluster"
CACHE = pathlib.Path(os.environ.get("THALWEG_CACHE", pathlib.Path.home() / ".cache/thalweg"))
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target"))
RELEASE_BINARIES = TARGET / "x86_64-unknown-linux-gnu/release"
RELEASE_IMAGES = CACHE / "build/release"
# Logs, temporary folders and raw figures.
WORK = CACHE / "bench"
# A cluster of our own, so that one that somebody looks at is left alone.
CLUSTER_NAME = os.environ.setdefault("CLUSTER_NAME", "thalweg-bench")
CLUSTER_STATE = pathlib.Path(os.environ.get("THALWEG_STATE", f"/var/tmp/thalweg-cluster/{CLUSTER_NAME}"))
