"""Processes that work together on this machine: nothing of them can be reached from another, and they end together.

Each finds the others through a file in a private folder, and gloo and NCCL are bound to the loopback interface.
torchrun opens a port on every interface instead, and anyone who reaches that port can run code as you.
"""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from ..commands import ENDING, heard, ignore_signals, interrupt_on_signals

FOLDER = "ALEXNET_JOB"  # in the environment of a process of a job on one machine: the job's private folder
ENDS = "ALEXNET_ENDS"  # in that of a kernel whose jobs end with it, as those of a walkthrough
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
POLL_SECONDS = 0.1
GRACE_SECONDS = 6  # between the request to end and the end
STOP_SECONDS = 120  # for the checkpoints of a job that was warned of the end
WARNING = "SIGUSR1"  # what Slurm is asked to send minutes before the time is up
GO_ON = 75  # the code with which a run ends that was stopped and wants to go on; sysexits.h calls it EX_TEMPFAIL
LAST_LINES = 15
ERROR = ".error.json"  # what torch's error handler writes when a process of a job fails
PROGRAM = [sys.executable, "-m", f"{__package__}.processes"]


def end_with(parent: int) -> None:
    """Have this process end when the one that started it has ended, even by SIGKILL; first it is asked to, by SIGTERM.

    Args:
        parent: the process id of its starter, handed over by the starter, which may have ended by now.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# ----------------------------------------------------------------------------------- a job on one machine


def command(folder: Path, count: int, outlives: bool, module: str, *arguments: str) -> list[str]:
    """The command line of a process that starts `count` others with this module, and ends with the first that fails.

    folder: private, for the file by which they meet and for what each prints: RANK.out and RANK.err. It is removed at
        the end if the process that started the job has not lived to do so.
    outlives: whether the job goes on when the process that started it has ended.
    """
    job = {"folder": str(folder), "count": count, "outlives": outlives, "parent": os.getpid()}
    return [*PROGRAM, json.dumps(job), module, *arguments]


def _watch_over(job: dict, *program: str) -> str | None:
    """Start the processes of a job, and see to it that all of them end; what went wrong, or None."""
    folder, workers = Path(job["folder"]), []
    shared = {FOLDER: str(folder), "WORLD_SIZE": str(job["count"]), "LOCAL_WORLD_SIZE": str(job["count"])}
    shared |= {"GLOO_SOCKET_IFNAME": LOOPBACK, "NCCL_SOCKET_IFNAME": LOOPBACK}
    arguments = [*PROGRAM, str(os.getpid()), *program]
    try:
        for rank in range(job["count"]):
            own = os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            own["TORCHELASTIC_ERROR_FILE"] = str(folder / f"{rank}{ERROR}")
            with open(folder / f"{rank}.out", "wb") as out, open(folder / f"{rank}.err", "wb") as err:
                workers.append(subprocess.Popen(arguments, env=own, stdout=out, stderr=err))
        while job["outlives"] or os.getppid() == job["parent"]:
            codes = [worker.poll() for worker in workers]
            failed = [(code, rank) for rank, code in enumerate(codes) if code]
            if failed and {code for code, _ in failed} == {GO_ON}:  # a signal to all processes has come there first
                raise KeyboardInterrupt(WARNING)
            if failed:
                return _last_words(folder, *min(failed))  # one that was killed has a code below 0, and is the cause
            if None not in codes:
                return None
            time.sleep(POLL_SECONDS)
        return "the process that started the job has ended"
    except KeyboardInterrupt as stop:
        ignore_signals(("SIGINT", *ENDING, WARNING))
        warned = str(stop) == WARNING
        end(workers, STOP_SECONDS if warned else GRACE_SECONDS, WARNING if warned else "SIGTERM")  # at a checkpoint
        if {worker.returncode for worker in workers} == {GO_ON}:
            sys.exit(GO_ON)
        raise
    finally:
        end(workers)
        if os.getppid() != job["parent"]:
            shutil.rmtree(folder, ignore_errors=True)


def _last_words(folder: Path, code: int, rank: int) -> str:
    """What went wrong: the first error that a process has written down, or how one ended and what it said last."""
    files = [(path.stat().st_mtime, path) for path in folder.glob(f"*{ERROR}")]
    if code >= 0 and files:
        _, path = min(files)
        message = json.loads(path.read_text(encoding="utf-8"))["message"]["message"]
        return f"process {path.name.removesuffix(ERROR)}: {message}"
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    said = (folder / f"{rank}.err").read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [line for line in said if line.strip()][-LAST_LINES:]
    return f"process {rank} {how}" + ("; its last lines:\n" + "\n".join(lines) if lines else " without a word")


def end(processes: list, patience: float = GRACE_SECONDS, name: str = "SIGTERM") -> None:
    """Ask processes of `subprocess` or `multiprocessing` to end, and end those that have not done so in time."""
    for process in processes:
        if _runs(process):
            os.kill(process.pid, getattr(signal, name))
    deadline = time.monotonic() + patience
    for process in processes:
        while _runs(process) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 10)
        if _runs(process):
            process.kill()


def _runs(process) -> bool:
    return process.poll() is None if isinstance(process, subprocess.Popen) else process.is_alive()


def main() -> None:
    """Watch over a job, see `command`; or, given the process id of one that does, be one of its processes."""
    job, *program = sys.argv[1:]
    job = json.loads(job)
    if isinstance(job, int):
        end_with(job)
        module, *sys.argv[1:] = program
        runpy.run_module(f"alexnet_lib.{module}", run_name="__main__", alter_sys=True)
        return
    interrupt_on_signals((*ENDING, WARNING))
    try:
        with heard():
            sys.exit(_watch_over(job, *program))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
