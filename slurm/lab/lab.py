#!/usr/bin/env python3
"""A real SLURM cluster on one machine, to develop and to test on: N nodes, fake GPUs, two partitions.

    sudo slurm/lab/lab.py install              Debian packages: slurm, munge, with --accounting also MariaDB
    sudo slurm/lab/lab.py start --nodes 2      prints `export SLURM_CONF=…`, which every SLURM command needs
    sudo slurm/lab/lab.py stop

Every node is a slurmd of its own on this host. Jobs of the partition `high` preempt those of `low` (the default), which
are requeued. GPUs are device files that lead nowhere; CUDA_VISIBLE_DEVICES is set for jobs as on a real node. With
--accounting, slurmdbd and a MariaDB server run as well, and sacct answers. Everything lives in one folder (--folder),
which `start` makes anew.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = ["slurm-wlm", "munge"]
ACCOUNTING_PACKAGES = ["slurmdbd", "slurm-wlm-mysql-plugin", "mariadb-server"]
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
FOR_ACCOUNTING = ("slurmdbd", "mariadbd")
FOLDER = Path("/tmp/neurogen-lab")
GPUS_PER_NODE = 2
CPUS_PER_NODE = 4
MEMORY_MB_PER_NODE = 16000
MAX_ARRAY_SIZE = 101
PATIENCE_S = 60
SECONDS_BEFORE_A_JOB_RUNS_AGAIN = 15  # that was put back into the queue; SLURM's own is 120
MARK = ".neurogen-lab"  # of a folder that may be removed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["install", "start", "stop", "status"])
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--accounting", action="store_true")
    parser.add_argument("--if-possible", action="store_true", help="install nothing where it needs a password")
    arguments = parser.parse_args()
    lab = Lab(arguments.folder.absolute(), arguments.nodes, arguments.accounting)
    try:
        if os.geteuid() != 0:
            raise LabError("installing SLURM and running its daemons need root")
        {"install": lab.install, "start": lab.start, "stop": lab.stop, "status": lab.status}[arguments.command]()
    except LabError as error:
        if not (arguments.command == "install" and arguments.if_possible):
            sys.exit(f"error: {error}")
        print(f"{error}; tests that need a SLURM will be skipped")
    if arguments.command == "start":
        for name, value in lab.environment.items():
            print(f"export {name}={value}")


class LabError(Exception):
    """What the machine lacks, in one line."""


class Lab:
    """The cluster that lives in `folder`."""

    def __init__(self, folder: Path, nodes: int = 2, accounting: bool = False) -> None:
        self.folder, self.nodes, self.accounting = folder, nodes, accounting

    @property
    def environment(self) -> dict[str, str]:
        """What SLURM's commands and the jobs' submitters need."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    @property
    def missing(self) -> list[str]:
        """Programs that are not installed."""
        return [name for name in NEEDED + FOR_ACCOUNTING * self.accounting if shutil.which(name) is None]

    def install(self) -> None:
        """Nothing where everything is there. Raises LabError."""
        if not self.missing:
            return
        if shutil.which("apt-get") is None:
            raise LabError(f"{', '.join(self.missing)} are not installed, and there is no apt-get")
        packages = PACKAGES + (ACCOUNTING_PACKAGES if self.accounting else [])
        apt = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages],
        ):
            done = subprocess.run(command, env=apt, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise LabError(f"{' '.join(command[:2])} failed: {' '.join(done.stderr.split())[-300:]}")

    def start(self) -> None:
        """Write the configuration, start the daemons, wait until every node is idle. Raises LabError."""
        if self.missing:
            raise LabError(f"{', '.join(self.missing)} not installed; run `slurm/lab/lab.py install` first")
        self.stop()
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / MARK).exists():
            raise LabError(f"{self.folder} is not empty, and no lab was there; give another --folder")
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("run", "state", "log", "gpu"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / MARK).touch()
        try:
            self._start_daemons()
        except BaseException:
            self.stop()
            raise

    def _start_daemons(self) -> None:
        for number in range(GPUS_PER_NODE):
            os.mknod(self.folder / "gpu" / f"gpu{number}", 0o666 | 0o020000, os.makedev(1, 3))
        self._start_munge()
        ports = free_ports(self.nodes + 3)
        if self.accounting:
            self._start_accounting(database_port=ports[-1], dbd_port=ports[-2])
        (self.folder / "slurm.conf").write_text(self._slurm_conf(ports))
        (self.folder / "gres.conf").write_text(
            f"NodeName=n[1-{self.nodes}] Name=gpu Type=a100 File={self.folder}/gpu/gpu[0-{GPUS_PER_NODE - 1}]\n"
        )
        if self.accounting:
            self._run("sacctmgr", "-i", "add", "cluster", "lab")
        self._spawn("slurmctld", "slurmctld", "-D")
        for number in range(1, self.nodes + 1):
            (self.folder / "spool" / f"n{number}").mkdir(parents=True)
            self._spawn(f"n{number}", "slurmd", "-D", "-N", f"n{number}")
        self._wait_for("every node to be idle", self._all_idle)

    def stop(self) -> None:
        """End what `start` started, the newest first; jobs end with it."""
        pids = sorted((self.folder / "run").glob("*.pid"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in pids:
            pid, started = path.read_text().split()
            if started == start_of(int(pid)):  # else the number has been given to another process since
                end(int(pid))
            path.unlink()

    def status(self) -> None:
        print(self._run("sinfo", "-N", "-o", "%N %P %T %C %G"), end="")

    def _slurm_conf(self, ports: list[int]) -> str:
        host = socket.gethostname()
        accounting = ""
        if self.accounting:
            accounting = (
                f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=localhost\n"
                f"AccountingStoragePort={ports[-2]}\nAccountingStorageTRES=gres/gpu\n"
            )
        return f"""\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire={SECONDS_BEFORE_A_JOB_RUNS_AGAIN}
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool/%n
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd-%n.pid
SlurmctldLogFile={self.folder}/log/slurmctld.log
SlurmdLogFile={self.folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=bf_interval=2,sched_min_interval=100000
MaxArraySize={MAX_ARRAY_SIZE}
MinJobAge=120
KillWait=10
ReturnToService=2
EnforcePartLimits=ALL
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
SlurmdTimeout=30
MpiDefault=none
{accounting}\
NodeName=n[1-{self.nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[self.nodes]}] \
CPUs={CPUS_PER_NODE} RealMemory={MEMORY_MB_PER_NODE} Gres=gpu:a100:{GPUS_PER_NODE}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 DefMemPerCPU=1000 MaxTime=1-0
PartitionName=high Nodes=ALL PriorityTier=10 DefMemPerCPU=1000 MaxTime=1-0
"""

    def _start_munge(self) -> None:
        """munged serves the whole machine, so one that runs already is used, and left alone by `stop`."""
        if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
            return
        for place in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
            Path(place).mkdir(exist_ok=True)
            shutil.chown(place, "munge", "munge")
        self._spawn("munged", "runuser", "-u", "munge", "--", "munged", "--foreground")
        self._wait_for(
            "munge", lambda: subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0
        )

    def _start_accounting(self, database_port: int, dbd_port: int) -> None:
        data = self.folder / "database"
        run = data / "mariadb.sock"
        data.mkdir()
        self._run("mariadb-install-db", "--user=root", f"--datadir={data}", "--skip-test-db")
        self._spawn(
            "mariadb", "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={run}",
            f"--port={database_port}", "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=64M",
        )  # fmt: skip
        self._wait_for("MariaDB", run.exists)
        grant = "CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'lab'; GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';"
        self._wait_for(
            "MariaDB's answer",
            lambda: (
                subprocess.run(["mariadb", f"--socket={run}", "-e", grant], capture_output=True, check=False).returncode
                == 0
            ),
        )
        conf = self.folder / "slurmdbd.conf"
        conf.write_text(
            f"AuthType=auth/munge\nDbdHost=localhost\nDbdPort={dbd_port}\nSlurmUser=root\n"
            f"StorageType=accounting_storage/mysql\nStorageHost=127.0.0.1\nStoragePort={database_port}\n"
            f"StorageUser=slurm\nStoragePass=lab\nLogFile={self.folder}/log/slurmdbd.log\nPidFile={self.folder}/slurmdbd.pid\n"
        )
        conf.chmod(0o600)
        self._spawn("slurmdbd", "slurmdbd", "-D")
        self._wait_for("slurmdbd", lambda: answers(dbd_port))

    def _all_idle(self) -> bool:
        done = subprocess.run(
            ["sinfo", "-h", "-N", "-p", "low", "-o", "%T"], env=self._env, capture_output=True, text=True, check=False
        )
        return done.returncode == 0 and done.stdout.split() == ["idle"] * self.nodes

    @property
    def _env(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"{command[0]} failed: {' '.join((done.stderr or done.stdout).split())[-300:]}")
        return done.stdout

    def _spawn(self, name: str, *command: str) -> None:
        with (self.folder / "log" / f"{name}.out").open("wb") as log:
            process = subprocess.Popen(
                command, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        (self.folder / "run" / f"{name}.pid").write_text(f"{process.pid} {start_of(process.pid)}")

    def _wait_for(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if time.monotonic() > deadline:
                raise LabError(f"waited {PATIENCE_S} s for {what}; the logs are in {self.folder}/log")
            time.sleep(0.2)


def start_of(pid: int) -> str:
    """When the process started, in ticks since the machine did; "" where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return ""


def end(pid: int) -> None:
    """SIGTERM to the process, and SIGKILL to its session where that is not enough."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for _ in range(50):
            try:
                os.kill(pid, number) if number == signal.SIGTERM else os.killpg(pid, number)
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
            except ProcessLookupError:
                return
            if not Path(f"/proc/{pid}").exists():
                return
            time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Consecutive ports that nobody listens on: SLURM wants those of its nodes in one range."""
    for first in range(17000, 30000, count):
        if not any(answers(port) for port in range(first, first + count)):
            return list(range(first, first + count))
    raise LabError("no free ports between 17000 and 30000")


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
