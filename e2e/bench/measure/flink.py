"""Real Flink: a standalone JobManager and TaskManagers, the job submitted by REST as a jar.

The word count twice: as a DataStream program, and with Flink SQL's mini-batch aggregate in it, which folds a word's updates.
"""

import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Mapping

from . import jvm, rest
from .engine import Engine, EngineError, Job
from .places import BENCH
from .processes import wait_until

_START_SECONDS = 120
_ZOOKEEPER_PORT = 6381
_RESULT_PREFIX = "BASH_JAVA_UTILS_EXEC_RESULT:"
_FOLDER = BENCH / "flink"
# State is on the heap: what is not managed memory is heap.
WITHOUT_MANAGED_MEMORY = {"taskmanager.memory.managed.size": "0b"}


class Flink(Engine):
    """Home and jar are as flink/setup printed them."""

    entry_class_suffix = ""
    rest_port = 8181
    metrics_port = 9350

    def __init__(
        self,
        work: pathlib.Path,
        home: pathlib.Path,
        jar: pathlib.Path,
        name: str = "flink",
        settings: Mapping[str, object] = WITHOUT_MANAGED_MEMORY,
    ) -> None:
        super().__init__(name, work, settings)
        self._home = home
        self._jar = jar

    def _launch(self, job: Job) -> None:
        self._write_configuration(job)
        if job.high_availability:
            self._start_zookeeper()
        self._start_job_manager(0)
        wait_until("Flink's REST", _START_SECONDS, lambda: rest.reachable(f"{self.rest_url}/overview"), self.processes)
        for number in range(job.task_managers):
            self._start_task_manager(number)
        self._wait_for_slots(job.slots * job.task_managers)
        self._submit(job)

    def _resume(self, job: Job) -> None:
        """As an operator would: the job is submitted again, from the newest checkpoint, as soon as there are slots for it."""
        self._wait_for_slots(job.parallelism)
        self._submit(job, newest_checkpoint(self.work / "checkpoints"))

    def _wait_for_slots(self, slots: int) -> None:
        wait_until("Flink's slots", _START_SECONDS, lambda: self._free_slots() >= slots, self.processes, 0.02)

    def _write_configuration(self, job: Job) -> None:
        conf = self.work / "conf"
        text = (_FOLDER / "conf/config.yaml").read_text()
        values = {
            "PARALLELISM": job.parallelism,
            "SLOTS": job.slots,
            "TASKMANAGER_MEMORY": job.memory,
            "REST_PORT": self.rest_port,
            # The JobManager takes the one below the TaskManager's.
            "METRICS_PORTS": self.metrics_port - 1,
            "WORK": self.work,
        }
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        text += "".join(f"{key}: {value}\n" for key, value in self.settings(job).items())
        (conf / "config.yaml").write_text(text)
        shutil.copy(_FOLDER / "conf/log4j-console.properties", conf)

    def _start_job_manager(self, number: int) -> None:
        options, dynamic = self._resources("GET_JM_RESOURCE_PARAMS")
        name, conf = "jobmanager", self.work / "conf"
        if number:
            # Flink takes what the file says before what -D says. Nobody asks for this one's metrics.
            name, conf = f"{name}-{number}", shutil.copytree(conf, self.work / f"conf-{number}", dirs_exist_ok=True)
            written = (conf / "config.yaml").read_text()
            (conf / "config.yaml").write_text(written.replace(f"port: {self.rest_port}", f"port: {self.rest_port + number}"))
        entrypoint = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        arguments = [entrypoint, "--configDir", str(conf), "--executionMode", "cluster", *dynamic]
        self._spawn(name, self._java(options) + arguments, self._environment())

    def start_standby(self, job: Job) -> None:
        self._start_job_manager(1)
        standby = f"http://127.0.0.1:{self.rest_port + 1}"
        wait_until("Flink's standby", _START_SECONDS, lambda: rest.reachable(f"{standby}/overview"), self.processes)

    def _start_zookeeper(self) -> None:
        """The one that comes with Flink, alone, on loopback."""
        configuration = self.work / "conf/zoo.cfg"
        configuration.write_text(
            f"tickTime=500\ndataDir={self.work}/tmp/zookeeper\nclientPort={_ZOOKEEPER_PORT}\nclientPortAddress=127.0.0.1\n"
            "admin.enableServer=false\nserver.1=127.0.0.1:2888:3888\n"
        )
        quorum_peer = "org.apache.flink.runtime.zookeeper.FlinkZooKeeperQuorumPeer"
        self._spawn("zookeeper", [*self._java(["-Xmx256m"]), quorum_peer, "--zkConfigFile", str(configuration), "--peerId", "1"], self._environment())

    def settings(self, job: Job) -> dict[str, str]:
        """A session of ZooKeeper's ends three seconds after its JobManager; its own default is a minute."""
        if not job.high_availability:
            return super().settings(job)
        kept = {
            "high-availability.type": "zookeeper",
            "high-availability.zookeeper.quorum": f"127.0.0.1:{_ZOOKEEPER_PORT}",
            "high-availability.zookeeper.client.session-timeout": "3 s",
            "high-availability.zookeeper.client.connection-timeout": "3 s",
            "high-availability.storageDir": f"file://{self.work}/high-availability",
        }
        return {**super().settings(job), **kept}

    def _start_task_manager(self, number: int) -> None:
        options, dynamic = self._resources("GET_TM_RESOURCE_PARAMS")
        own = ["-D", f"metrics.reporter.prom.port={self.metrics_port + number}"]
        runner = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        arguments = [runner, "--configDir", str(self.work / "conf"), *dynamic, *own]
        self._spawn_task_manager(number, self._java(options) + arguments, self._environment())

    def state_bytes(self) -> int:
        """The heap after a forced collection."""
        return sum(jvm.heap_after_collection(process.pid) for process in self.task_managers.values())

    def _submit(self, job: Job, checkpoint: pathlib.Path | None = None) -> None:
        jar = rest.upload(self.rest_url, self._jar)
        body = {"entryClass": self._entry_class(job), "programArgsList": job.arguments, "parallelism": job.parallelism}
        if checkpoint:
            body["savepointPath"] = f"file://{checkpoint}"
        rest.request("POST", f"{self.rest_url}/jars/{jar}/run", json.dumps(body).encode())

    def _entry_class(self, job: Job) -> str:
        return "".join(part.capitalize() for part in job.package.split("-")) + self.entry_class_suffix

    def _free_slots(self) -> int:
        return (rest.reachable(f"{self.rest_url}/overview") or {}).get("slots-available", 0)

    def _resources(self, command: str) -> tuple[list[str], list[str]]:
        """Flink's own arithmetic: JVM options, and the settings that tell the process what they were made of."""
        class_path = f"{self._home}/bin/bash-java-utils.jar:{self._home}/lib/*"
        utility = ["org.apache.flink.runtime.util.bash.BashJavaUtils", command, "--configDir", str(self.work / "conf")]
        run = subprocess.run(
            ["java", "-cp", class_path, *utility], env=self._environment(), capture_output=True, text=True, check=False
        )
        lines = [line.removeprefix(_RESULT_PREFIX) for line in run.stdout.splitlines() if line.startswith(_RESULT_PREFIX)]
        if run.returncode != 0 or len(lines) < 2:
            raise EngineError(f"Flink's arithmetic {command} failed: {_reason(run.stdout + run.stderr)}")
        return lines[0].split(), lines[1].split()

    def _java(self, options: list[str]) -> list[str]:
        opens = (_FOLDER / "java.options").read_text().split()
        logging = f"-Dlog4j.configurationFile=file:{self.work}/conf/log4j-console.properties"
        return ["java", *options, *opens, logging, "-cp", f"{self._home}/lib/*"]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.work / "tmp"),
            "FLINK_HOME": str(self._home),
            "FLINK_CONF_DIR": str(self.work / "conf"),
            "FLINK_LIB_DIR": str(self._home / "lib"),
            "FLINK_OPT_DIR": str(self._home / "opt"),
            "FLINK_PLUGINS_DIR": str(self._home / "plugins"),
        }


def newest_checkpoint(folder: pathlib.Path) -> pathlib.Path:
    """Of the only job that has complete ones here."""
    found = [path.parent for path in folder.glob("*/chk-*/_metadata")]
    if not found:
        raise EngineError(f"no checkpoint below {folder} is complete")
    return max(found, key=lambda path: int(path.name.removeprefix("chk-")))


def _reason(output: str) -> str:
    """The line that names the exception, without its stack."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "Exception: " in line), lines[-1] if lines else "no output")


class FlinkSql(Flink):
    """The same with the other program."""

    entry_class_suffix = "Sql"

    def __init__(self, work: pathlib.Path, home: pathlib.Path, jar: pathlib.Path) -> None:
        super().__init__(work, home, jar, "flink-sql")
