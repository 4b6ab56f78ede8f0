"""How fast things start and end on a real Kubernetes, and how much they hold when idle.

    apply ... RUNNING ... delete ... nothing left      timed, several times; the first time is not counted
    an idle FlinkSession and the operator              resident memory, read in the host's /proc
    the runtime image                                  its layers, compressed

Times are a user's: from the call of kubectl to its return. Images are on the node before anything is timed.
"""

import argparse
import dataclasses
import gzip
import json
import os
import pathlib
import subprocess
import tarfile
import time
from collections.abc import Iterator

from . import cluster, processes, topics
from .figures import Figure, table
from .places import CLUSTER_NAME, ROOT
from .processes import wait_until

_NAMESPACE = "thalweg-bench"
_OPERATOR_NAMESPACE = "thalweg-system"
_TAG = "e2e"
_KINDS = (
    "flinkapplications,flinksessions,flinksessionjobs,pods,deployments,replicasets,services,configmaps,serviceaccounts,"
    "roles,rolebindings"
)
# Kubernetes puts these into every namespace.
_GIVEN = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
_PATIENCE = 120
_SLOTS = 2


@dataclasses.dataclass(frozen=True)
class Run:
    """Seconds from the call of apply to its return and to RUNNING, and from delete to nothing left."""

    applied: float
    running: float
    gone: float


def add_options(parser: argparse.ArgumentParser, images: pathlib.Path) -> None:
    parser.add_argument("--runs", type=int, default=5, help="counted runs (default %(default)s)")
    parser.add_argument("--idle-seconds", type=int, default=30, help="before memory is read (default %(default)s)")
    parser.add_argument("--images", type=pathlib.Path, default=images, help="OCI archives (default %(default)s)")


def prepare(options: argparse.Namespace) -> None:
    """Outside the cluster's network: cluster, Kafka, images."""
    archives = [options.images / f"{name}.oci.tar" for name in ("runtime", "operator", "word-count")]
    for archive in archives:
        if not archive.is_file():
            raise FileNotFoundError(f"{archive} is missing: run `make release-images`")
    cluster.verb("build", quiet=True)
    cluster.verb("up")
    cluster.verb("kafka", "up")
    for archive in archives:
        cluster.verb("load-image", str(archive))


def run(options: argparse.Namespace) -> None:
    """The verb, inside the cluster's network."""
    install_operator()
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}}))
    wait_until("the namespace's ServiceAccount", _PATIENCE, lambda: "serviceaccount/default" in names("serviceaccounts"))
    application = manifest_of_application(topics.filled("bench-start", topics.text_lines(), 1000))
    topics.delete("bench-counts")
    topics.create("bench-counts")
    runs = []
    for number in range(options.runs + 1):
        done = start_and_end(application)
        counted = "" if number else "  (not counted)"
        print(
            f"run {number}: applied after {done.applied:.2f} s, RUNNING after {done.running:.2f} s; "
            f"gone after {done.gone:.2f} s{counted}",
            flush=True,
        )
        runs += [done] if number else []
    memory = idle_memory(options.idle_seconds)
    image = compressed_size(options.images / "runtime.oci.tar")
    report(runs, memory, image, options)


def install_operator() -> None:
    images = {"image": "thalweg-operator", "runtimeImage": "thalweg-runtime"}
    values = [
        part
        for key, name in images.items()
        for part in ("--set", f"{key}.repository=localhost/{name}", "--set", f"{key}.tag={_TAG}")
    ]
    chart = str(ROOT / "charts/thalweg-operator")
    release = ["upgrade", "--install", "thalweg-operator", chart, "--namespace", _OPERATOR_NAMESPACE, "--create-namespace"]
    subprocess.run(["helm", *release, "--wait", "--timeout", f"{_PATIENCE}s", *values], check=True, stdout=subprocess.DEVNULL)


def start_and_end(application: str) -> Run:
    """Applies, waits for RUNNING, deletes, waits till nothing is left."""
    begin = time.monotonic()
    kubectl("apply", "-f", "-", stdin=application)
    applied = time.monotonic() - begin
    wanted = "jsonpath={.status.jobStatus.state}=RUNNING"
    kubectl("wait", "flinkapplication/word-count", f"--for={wanted}", f"--timeout={_PATIENCE}s")
    running = time.monotonic() - begin
    begin = time.monotonic()
    kubectl("delete", "flinkapplication", "word-count", f"--timeout={_PATIENCE}s")
    wait_until("everything to be gone", _PATIENCE, lambda: not names(_KINDS) - _GIVEN, pause=0.05)
    return Run(applied, running, time.monotonic() - begin)


def idle_memory(seconds: int) -> dict[str, list[int]]:
    """Resident bytes of each process of an idle session and of the operator, by role."""
    kubectl("apply", "-f", "-", stdin=manifest_of_session())
    available = f"jsonpath={{.status.slots.available}}={_SLOTS}"
    kubectl("wait", "flinksession/idle", f"--for={available}", f"--timeout={_PATIENCE}s")
    time.sleep(seconds)
    memory: dict[str, list[int]] = {}
    for pid, command in pod_processes():
        if role := role_of(command):
            memory.setdefault(role, []).append(processes.resident_bytes(pid))
    kubectl("delete", "flinksession", "idle", f"--timeout={_PATIENCE}s")
    return memory


def role_of(command: list[str]) -> str | None:
    """`thalweg ... taskmanager` is a TaskManager; what is not ours is nothing."""
    program = pathlib.PurePath(command[0]).name if command else ""
    if program == "thalweg-operator":
        return "operator"
    if program == "thalweg":
        return next((role for role in ("jobmanager", "taskmanager") if role in command), None)
    return None


def pod_processes() -> Iterator[tuple[int, list[str]]]:
    """Processes in the cgroup that the cluster's pods are in, with their command lines."""
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            groups = (entry / "cgroup").read_text()
            command = (entry / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"/{CLUSTER_NAME}/" in groups:
            yield int(entry.name), command


def compressed_size(archive: pathlib.Path) -> int:
    """Bytes that a registry would hold: the image's layers, compressed as registries' clients do, and its configuration."""
    with tarfile.open(archive) as image:
        index = json.load(_member(image, "index.json"))
        manifest = json.load(_blob(image, index["manifests"][0]["digest"]))
        layers = [_blob(image, layer["digest"]).read() for layer in manifest["layers"]]
    compressed = (len(layer if layer[:2] == b"\x1f\x8b" else gzip.compress(layer, 6)) for layer in layers)
    return manifest["config"]["size"] + sum(compressed)


def _blob(image: tarfile.TarFile, digest: str):
    return _member(image, "blobs/" + digest.replace(":", "/"))


def _member(image: tarfile.TarFile, name: str):
    found = image.extractfile(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not in {image.name}")
    return found


def manifest_of_application(topic: str) -> str:
    arguments = ["--bootstrap-servers", topics.address(), "--input-topic", topic, "--output-topic", "bench-counts"]
    job = {
        "package": {"uri": "local:///opt/thalweg/jobs/word-count"},
        "args": arguments,
        "parallelism": _SLOTS,
        "upgradeMode": "stateless",
    }
    return manifest("FlinkApplication", "word-count", {"image": f"localhost/thalweg-word-count:{_TAG}", "job": job})


def manifest_of_session() -> str:
    return manifest("FlinkSession", "idle", {"image": f"localhost/thalweg-runtime:{_TAG}"}, task_manager={"replicas": 1})


def manifest(kind: str, name: str, spec: dict, task_manager: dict | None = None) -> str:
    common = {
        "imagePullPolicy": "IfNotPresent",
        "flinkConfiguration": {"taskmanager.numberOfTaskSlots": str(_SLOTS)},
        "jobManager": {"resource": {"cpu": 0.25, "memory": "256m"}},
        "taskManager": {"resource": {"cpu": 0.25, "memory": "512m"}, **(task_manager or {})},
    }
    metadata = {"name": name, "namespace": _NAMESPACE}
    return json.dumps({"apiVersion": "thalweg.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": {**common, **spec}})


def names(kinds: str) -> set[str]:
    """`kind/name` of what is in the namespace, kinds without their group."""
    found = kubectl("get", kinds, "-o", "name").split()
    return {f"{name.partition('/')[0].partition('.')[0]}/{name.partition('/')[2]}" for name in found}


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    command = ["kubectl", "-n", _NAMESPACE, *arguments]
    done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def report(runs: list[Run], memory: dict[str, list[int]], image: int, options: argparse.Namespace) -> None:
    print(f"\nOne node, {os.cpu_count()} cores, {options.runs} runs, median (lowest-highest); memory after {options.idle_seconds} s.\n")
    rows = [
        ("kubectl apply -> RUNNING, s", Figure(tuple(run.running for run in runs)).text(2), "3"),
        ("of it kubectl apply itself, s", Figure(tuple(run.applied for run in runs)).text(2), "-"),
        ("kubectl delete -> nothing left, s", Figure(tuple(run.gone for run in runs)).text(2), "5"),
    ]
    for role in ("jobmanager", "taskmanager", "operator"):
        values = memory.get(role)
        text = Figure(tuple(value / 2**20 for value in values)).text(1) if values else "not found"
        rows.append((f"idle resident memory, {role}, MiB", text, "30"))
    rows.append(("runtime image, compressed, MB", f"{image / 1e6:.1f}", "60"))
    print(table(("what", "measured", "target, at most"), rows))
