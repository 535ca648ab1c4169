#!/usr/bin/env python3
"""A real SLURM cluster on one machine, for development and tests: several nodes, fake GPUs, two partitions.

    sudo slurm/lab/lab.py install              Debian packages: slurm, munge, with --accounting also MariaDB
    sudo slurm/lab/lab.py start --nodes 2      prints `export SLURM_CONF=…`, which every SLURM command needs
    sudo slurm/lab/lab.py stop

Every node is a slurmd of its own on this host. Jobs in the partition `high` preempt jobs in `low` (the default), which
are then requeued. GPUs are device files that lead nowhere; CUDA_VISIBLE_DEVICES is set for jobs as on a real node. With
--accounting, slurmdbd and a MariaDB server run as well, and sacct answers. Everything lives in one folder (--folder),
which `start` makes anew from the templates beside this file.

A site may be broken on purpose, to see what is said of it:

    --hide n2:/shared          the node sees an empty folder there
    --block n2:20000-31999     the node cannot open connections to these ports of another node
    --set TaskProlog=/x.sh     any line of slurm.conf
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template

PACKAGES = ["slurm-wlm", "munge", "faketime"]
ACCOUNTING_PACKAGES = ["slurmdbd", "slurm-wlm-mysql-plugin", "mariadb-server"]
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
FOR_ACCOUNTING = ("slurmdbd", "mariadbd")
FOLDER = Path("/tmp/neurogen-lab")
GPUS_PER_NODE = 2
PATIENCE_S = 60
POLL_S = 0.2
MARK = ".neurogen-lab"  # in a folder that may be removed


def main() -> None:
    """The command. What the machine lacks is one line, and exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["install", "start", "stop", "status"])
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--accounting", action="store_true")
    parser.add_argument("--if-possible", action="store_true", help="install nothing where it needs a password")
    for option, metavar in (("hide", "NODE:FOLDER"), ("block", "NODE:PORT-PORT"), ("set", "KEY=VALUE")):
        parser.add_argument(f"--{option}", metavar=metavar, action="append", default=[])
    arguments = parser.parse_args()
    lab = Lab(
        arguments.folder.absolute(),
        arguments.nodes,
        arguments.accounting,
        hidden=dict(word.split(":", 1) for word in arguments.hide),
        blocked=dict(word.split(":", 1) for word in arguments.block),
        settings=arguments.set,
    )
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


ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={port}
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=limits"""


class LabError(Exception):
    """What the machine lacks, in one line."""


class Lab:
    """The cluster that lives in `folder`."""

    def __init__(
        self,
        folder: Path,
        nodes: int = 2,
        accounting: bool = False,
        hidden: Mapping[str, str] | None = None,
        blocked: Mapping[str, str] | None = None,
        settings: Sequence[str] = (),
    ) -> None:
        self.folder, self.nodes, self.accounting = folder, nodes, accounting
        self.hidden, self.blocked, self.settings = dict(hidden or {}), dict(blocked or {}), settings

    @property
    def environment(self) -> dict[str, str]:
        """What SLURM's commands and the jobs' submitters need."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    @property
    def missing(self) -> list[str]:
        """Programs that are needed and not installed."""
        return [name for name in NEEDED + FOR_ACCOUNTING * self.accounting if shutil.which(name) is None]

    def install(self) -> None:
        """Install the missing packages. Raises LabError."""
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
            done = subprocess.run(
                command, env=apt, capture_output=True, encoding="utf-8", errors="replace", check=False
            )
            if done.returncode != 0:
                raise LabError(f"{' '.join(command[:2])} failed: {' '.join(done.stderr.split())[-300:]}")

    def start(self) -> None:
        """Write the configuration, start the daemons, and wait until every node is idle. Raises LabError."""
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
            with one_start_at_a_time():
                self._start_daemons()
        except BaseException:
            self.stop()
            raise

    def _start_daemons(self) -> None:
        for gpu in range(GPUS_PER_NODE):
            os.mknod(self.folder / "gpu" / f"gpu{gpu}", 0o666 | 0o020000, os.makedev(1, 3))
        self._start_munge()
        controller_port, *node_ports, accounting_port, database_port = free_ports(self.nodes + 3)
        if self.accounting:
            self._start_accounting(accounting_port, database_port)
        network = Network(controller_port) if self.blocked else None
        names = [f"n{node}" for node in range(1, self.nodes + 1)]
        addresses = {name: network.address_of(name, self.blocked) if network else "127.0.0.1" for name in names}
        self._write(
            "slurm.conf",
            host=socket.gethostname(),
            address=network.here if network else "127.0.0.1",
            controller_port=controller_port,
            nodes="\n".join(
                f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr={addresses[name]} Port={port}"
                for name, port in zip(names, node_ports, strict=True)
            ),
            gpus=GPUS_PER_NODE,
            accounting=ACCOUNTING.format(port=accounting_port) if self.accounting else "",
            settings="\n".join(self.settings),
        )
        (self.folder / "gres.conf").write_text(
            f"NodeName=n[1-{self.nodes}] Name=gpu Type=a100 File={self.folder}/gpu/gpu[0-{GPUS_PER_NODE - 1}]\n",
            encoding="utf-8",
        )
        if self.accounting:
            self._run("sacctmgr", "-i", "add", "cluster", "lab")
        self._spawn("slurmctld", "slurmctld", "-D")
        for name in names:
            (self.folder / "spool" / name).mkdir(parents=True)
            self._spawn(name, *self._before_slurmd(name), "slurmd", "-D", "-N", name)
            if network and name in self.blocked:
                network.connect(name, self._pid(name), self.blocked)
        self._wait_for("every node to be idle", self._all_idle)

    def _before_slurmd(self, name: str) -> list[str]:
        """What puts a node's daemon where it does not see a folder, or has a network of its own."""
        before = []
        if name in self.blocked:  # it starts once there is a way to the controller
            before += ["unshare", "--net", "sh", "-c", 'until ip route | grep -q .; do sleep 0.1; done; exec "$@"', "-"]
        if name in self.hidden:
            mount = 'mount -t tmpfs none "$0" && exec "$@"'
            before += ["unshare", "--mount", "sh", "-c", mount, self.hidden[name]]
        return before

    def _pid(self, name: str) -> int:
        return int((self.folder / "run" / f"{name}.pid").read_text(encoding="utf-8").split()[0])

    def stop(self) -> None:
        """End what `start` started, the newest first, and with it all jobs."""
        pids = sorted((self.folder / "run").glob("*.pid"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in pids:
            pid, started = path.read_text(encoding="utf-8").split()
            if started == start_of(int(pid)):  # else the system has given the pid to another process since
                end(int(pid))
            path.unlink()

    def status(self) -> None:
        """Print the nodes and their states."""
        print(self._run("sinfo", "-N", "-o", "%N %P %T %C %G"), end="")

    def _write(self, name: str, **values: object) -> Path:
        """Fill in the template with this name; returns the path of the result."""
        template = Template((Path(__file__).parent / name).read_text(encoding="utf-8"))
        path = self.folder / name
        path.write_text(template.substitute(values, folder=self.folder), encoding="utf-8")
        return path

    def _start_munge(self) -> None:
        """A munged serves the whole machine, so one that runs already is used, and `stop` leaves it alone."""
        if succeeds(["munge", "-n"]):
            return
        for folder in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
            Path(folder).mkdir(exist_ok=True)
            shutil.chown(folder, "munge", "munge")
        self._spawn("munged", "runuser", "-u", "munge", "--", "munged", "--foreground")
        self._wait_for("munge", lambda: succeeds(["munge", "-n"]))

    def _start_accounting(self, accounting_port: int, database_port: int) -> None:
        data = self.folder / "database"
        database = data / "mariadb.sock"
        data.mkdir()
        self._run("mariadb-install-db", "--user=root", f"--datadir={data}", "--skip-test-db")
        self._spawn(
            "mariadb", "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={database}",
            f"--port={database_port}", "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=64M",
        )  # fmt: skip
        self._wait_for("MariaDB", database.exists)
        grant = "CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'lab'; GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';"
        command = ["mariadb", f"--socket={database}", "-e", grant]
        self._wait_for("MariaDB's answer", lambda: succeeds(command))
        self._write("slurmdbd.conf", accounting_port=accounting_port, database_port=database_port).chmod(0o600)
        self._spawn("slurmdbd", "slurmdbd", "-D")
        self._wait_for("slurmdbd", lambda: answers(accounting_port))

    def _all_idle(self) -> bool:
        done = subprocess.run(
            ["sinfo", "-h", "-N", "-p", "low", "-o", "%T"],
            env=self._env,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        return done.returncode == 0 and done.stdout.split() == ["idle"] * self.nodes

    @property
    def _env(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self._env, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
        if done.returncode != 0:
            raise LabError(f"{command[0]} failed: {' '.join((done.stderr or done.stdout).split())[-300:]}")
        return done.stdout

    def _spawn(self, name: str, *command: str) -> None:
        with (self.folder / "log" / f"{name}.out").open("wb") as log:
            process = subprocess.Popen(
                command, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        (self.folder / "run" / f"{name}.pid").write_text(f"{process.pid} {start_of(process.pid)}", encoding="utf-8")

    def _wait_for(self, condition: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if time.monotonic() > deadline:
                raise LabError(f"waited {PATIENCE_S} s for {condition}; the logs are in {self.folder}/log")
            time.sleep(POLL_S)


class Network:
    """Pairs of virtual cables from this machine to nodes with a network of their own; they vanish with its daemon."""

    def __init__(self, port: int) -> None:
        self.prefix = f"10.{port // 256}.{port % 256}"  # a lab's ports are its own, and so is this
        self.cable = f"ng{port}"
        self.here = f"{self.prefix}.1"

    def address_of(self, name: str, blocked: Mapping[str, str]) -> str:
        """Of a node, blocked or not."""
        return f"{self.prefix}.{4 * list(blocked).index(name) + 2}" if name in blocked else self.here

    def connect(self, name: str, pid: int, blocked: Mapping[str, str]) -> None:
        """Give the process `pid` and its children the node's address, and block its ports."""
        there, index = self.address_of(name, blocked), list(blocked).index(name)
        cable = f"{self.cable}-{index}"
        inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip"]
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{pid}/ns/net") == own:
            time.sleep(POLL_S)
        for command in (
            ["ip", "link", "add", cable, "type", "veth", "peer", "name", "up0", "netns", str(pid)],
            ["ip", "address", "add", f"{self.here}/32", "peer", f"{there}/32", "dev", cable],
            ["ip", "link", "set", cable, "up"],
            [*inside, "rule", "add", "ipproto", "tcp", "dport", blocked[name], "unreachable"],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "address", "add", f"{there}/32", "peer", f"{self.here}/32", "dev", "up0"],
            [*inside, "link", "set", "up0", "up"],
        ):
            subprocess.run(command, check=True, capture_output=True)


def start_of(pid: int) -> str:
    """When a process started, in ticks since the machine did; "" if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return ""


def end(pid: int) -> None:
    """Send SIGTERM to a process; after 5 s, SIGKILL to all its session."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        for _ in range(50):
            try:
                os.kill(pid, signal_number) if signal_number == signal.SIGTERM else os.killpg(pid, signal_number)
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
            except ProcessLookupError:
                return
            if not Path(f"/proc/{pid}").exists():
                return
            time.sleep(0.1)


@contextmanager
def one_start_at_a_time() -> Iterator[None]:
    """Ports are free until a daemon listens on them, so another lab chooses its own only then."""
    with (Path(tempfile.gettempdir()) / "neurogen-lab.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_ports(count: int) -> list[int]:
    """Consecutive ports that nobody listens on: SLURM wants those of its nodes in one range."""
    for first in range(17000, 30000, count):
        if not any(answers(port) for port in range(first, first + count)):
            return list(range(first, first + count))
    raise LabError("no free ports between 17000 and 30000")


def succeeds(command: list[str]) -> bool:
    """Whether a command ends with status 0."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def answers(port: int) -> bool:
    """Whether a process on this machine listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
