"""The throw-away cluster beside this folder: its verbs."""

import os
import subprocess
from collections.abc import Mapping, Sequence

from .places import CLUSTER, CLUSTER_STATE


def verb(*arguments: str, quiet: bool = False) -> None:
    """Runs a verb; its output is for people."""
    subprocess.run([CLUSTER, *arguments], check=True, stdout=subprocess.DEVNULL if quiet else None)


def output(*arguments: str) -> str:
    """What a verb prints."""
    return subprocess.run([CLUSTER, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def output_or_nothing(*arguments: str) -> str:
    """The same of a verb that may fail, as for a thing that is not there."""
    return subprocess.run([CLUSTER, *arguments], check=False, capture_output=True, text=True).stdout


def inside(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Runs a command in the cluster's network, with KUBECONFIG, kubectl and helm."""
    child = subprocess.Popen([CLUSTER, "exec", *command], env={**os.environ, **environment})
    try:
        status = child.wait()
    except KeyboardInterrupt:
        # The child was told too.
        child.wait()
        raise
    except BaseException:
        # It ends what it started, which a SIGKILL would leave.
        child.terminate()
        child.wait()
        raise
    if status != 0:
        raise subprocess.CalledProcessError(status, child.args)


def component_pid(name: str) -> int:
    """The process of a component that runs, such as `kafka`."""
    return int((CLUSTER_STATE / "run" / f"{name}.pid").read_text().split()[0])
