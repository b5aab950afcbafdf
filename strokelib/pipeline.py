"""The list of notebooks, and one run over them: Snakemake decides what is out of date, this module watches."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from strokelib import processes
from strokelib.errors import PipelineError
from strokelib.execution import Result, checked_parameters, notebook_path, run_notebook
from strokelib.repro import code_hash, write_text
from strokelib.settings import Profile, Settings, project_root, resolve
from strokelib.steps import BY_NAME, STEPS, Step

VERSION_LINE = re.compile(r"^VERSION = (\d+)", re.MULTILINE)


def numbers_version() -> str:
    """The hand-raised ``VERSION`` of every module that changes numbers, read as text (nothing is imported)."""
    root = project_root() / "strokelib"
    found = (
        (p.relative_to(root).as_posix(), VERSION_LINE.search(p.read_text("utf-8"))) for p in sorted(root.rglob("*.py"))
    )
    return " ".join(f"{name}={match.group(1)}" for name, match in found if match)


@dataclass(frozen=True)
class Run:
    """What Snakemake needs to know of one run; paths are relative to the run's folder in ``runs/``."""

    settings: Settings
    targets: tuple[str, ...]
    engine: str = "papermill"
    mark: str = ""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Run:
        """Read the values that :func:`reproduce` hands to Snakemake with ``--config``."""
        settings = resolve(config.get("profile", ""), config.get("cohort", ""), int(config.get("seed", 0)))
        only = tuple(name for name in str(config.get("only", "")).split(",") if name)
        return cls(settings, only or tuple(BY_NAME), config.get("engine", "papermill"))

    def stamp(self, name: str) -> str:
        """The file that says that a notebook is done."""
        return f"stamps/{self.engine}/{name}.json"

    def fingerprint(self, step: Step) -> str:
        """Changes exactly when the notebook has to run again for a reason of its own."""
        s = self.settings
        parts = [code_hash(notebook_path(step.name)), numbers_version(), str(s.seed), str(s.data), self.engine]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def command(self, step: Step) -> str:
        """The shell command that runs the notebook and writes its stamp."""
        s = self.settings
        words = [sys.executable, "-m", "strokelib.cli", "run-notebook", step.name, "--profile", s.profile.value]
        words += ["--cohort", s.cohort, "--seed", str(s.seed), "--engine", self.engine]
        return shlex.join(words + (["--data", str(s.data)] if s.data else []))


def run_step(name: str, settings: Settings, *, engine: str, run: str) -> Result:
    """Run one notebook, append its end to the run's progress file and write its stamp if all went well."""
    plan = Run(settings, (name,), engine, run)
    _say(settings, {"event": "start", "name": name})
    threads = BY_NAME[name].threads if name in BY_NAME else 1
    result = run_notebook(name, settings, engine=engine, run=run, threads=threads)
    record = asdict(result) | {"log": result.log if not result.ok else "", "ended": time.time()}
    if result.ok:
        write_text(settings.work / plan.stamp(name), json.dumps(record, indent=1) + "\n")
    _say(settings, {"event": "end", **record})
    return result


def _say(settings: Settings, event: dict[str, Any]) -> None:
    settings.work.mkdir(parents=True, exist_ok=True)
    with open(settings.work / "progress.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


def mark_of(settings: Settings) -> str:
    """The mark of this folder; each run in it adds a part of its own, so that no watchdog reaches the next run."""
    return hashlib.sha256(str(settings.work).encode()).hexdigest()[:12]


def _snakemake(plan: Run, *flags: str) -> list[str]:
    s = plan.settings
    config = [
        f"profile={s.profile.value}",
        f"cohort={s.cohort}",
        f"seed={s.seed}",
        f"engine={plan.engine}",
    ]
    if plan.targets != tuple(BY_NAME):
        config.append("only=" + ",".join(plan.targets))
    base = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(project_root() / "Snakefile"),
        "--directory",
        str(s.work),
    ]
    return [*base, "--rerun-incomplete", "--rerun-triggers", "params", "input", "mtime", *flags, "--config", *config]


def _run_of(settings: Settings, only: str, engine: str) -> Run:
    """The run asked for, after everything that can be refused without starting a process was refused."""
    if settings.data is not None:  # another data set, or none, is refused before anything is written
        from strokelib.data.preparing import sorted_cases

        sorted_cases(settings.data, settings.cohort)
    targets = tuple(name.removesuffix(".ipynb") for name in only.split(",") if name) or tuple(BY_NAME)
    for name in targets:
        if name not in BY_NAME:
            raise PipelineError(
                f"ONLY={name}", found="no such notebook", wanted=", ".join(BY_NAME), next_step="check the spelling"
            )
    for step in STEPS:
        given = {"profile": settings.profile.value, "cohort": settings.cohort, "seed": settings.seed}
        checked_parameters(notebook_path(step.name), given)
    settings.work.mkdir(parents=True, exist_ok=True)
    return Run(settings, targets, engine, f"{mark_of(settings)}/{os.getpid()}-{time.time_ns()}")


def _needed(targets: tuple[str, ...]) -> list[Step]:
    names = set(targets)
    for step in reversed(STEPS):
        if step.name in names:
            names.update(step.needs)
    return [step for step in STEPS if step.name in names]


def outstanding(plan: Run) -> list[Step]:
    """Notebooks that this run would execute, by Snakemake's own summary."""
    environment = os.environ | _snakemake_environment(plan.settings)
    done = subprocess.run(_snakemake(plan, "--summary", "--nolock"), capture_output=True, text=True, env=environment)
    if done.returncode:
        raise PipelineError(
            "snakemake --summary", found=done.stderr[-2000:], wanted="a summary", next_step="see the message"
        )
    start = done.stdout.find("output_file\t")
    rows = csv.DictReader(io.StringIO(done.stdout[start:]), delimiter="\t")
    waiting = {Path(row["output_file"]).stem for row in rows if row["plan"] != "no update"}
    steps = _needed(plan.targets)
    for step in steps:  # what reads the result of a notebook that runs again runs again as well
        if waiting.intersection(step.needs):
            waiting.add(step.name)
    return [step for step in steps if step.name in waiting]


def _snakemake_environment(settings: Settings) -> dict[str, str]:
    environment = {"STROKELIB_RUNS": str(settings.runs), "PYTHONDONTWRITEBYTECODE": "1"}
    return environment | ({"STROKELIB_DATA": str(settings.data)} if settings.data else {})


def plan_text(settings: Settings, only: str = "", engine: str = "papermill") -> str:
    """What ``make plan`` prints: the notebooks that would run, with estimated minutes."""
    plan = _run_of(settings, only, engine)
    steps = outstanding(plan)
    lines = [f"  {s.name:<34}{s.minutes[settings.profile.value]:>6.1f} min   {s.title}" for s in steps]
    total = sum(s.minutes[settings.profile.value] for s in steps)
    have = len(_needed(plan.targets)) - len(steps)
    return "\n".join(
        [
            *lines,
            f"to run: {len(steps)} notebooks, about {total:.1f} minutes; up to date: {have} ({settings.describe()})",
        ]
    )


def reproduce(settings: Settings, *, only: str = "", engine: str = "papermill", cores: int = 0) -> list[dict[str, Any]]:
    """Run what is out of date and print a progress line a notebook; returns one record per notebook of the run.

    A second run in the same folder waits for nothing: it is refused. A lock that a killed run left behind is cleared,
    and so are its processes.

    Raises:
        PipelineError: Another run works in this folder, or a notebook failed.
    """
    plan = _run_of(settings, only, engine)
    lock = FileLock(settings.work / "run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise PipelineError(
            "run folder",
            found="another run at work in it",
            wanted="one run a folder",
            next_step="wait for it, or set STROKELIB_RUNS",
        ) from error
    with lock:
        processes.kill_marked(mark_of(settings))
        steps = outstanding(plan)
        order = {step.name: number for number, step in enumerate(steps, 1)}
        print(
            f"strokelib: {settings.describe()}: {len(steps)} of {len(_needed(plan.targets))} notebooks to run",
            flush=True,
        )
        if steps:
            _drive(plan, order, cores or os.cpu_count() or 1)
    records = [json.loads((settings.work / plan.stamp(s.name)).read_text("utf-8")) for s in _needed(plan.targets)]
    return [record | {"ran": record["name"] in order} for record in records]


def _drive(plan: Run, order: dict[str, int], cores: int) -> None:
    settings, logs = plan.settings, plan.settings.work / "log"
    logs.mkdir(exist_ok=True)
    progress = settings.work / "progress.jsonl"
    progress.unlink(missing_ok=True)
    environment = _snakemake_environment(settings)
    with open(logs / "snakemake.log", "w", encoding="utf-8") as log, processes.guarded(plan.mark) as marked:
        subprocess.run(_snakemake(plan, "--unlock"), env=marked | environment, stdout=log, stderr=log)
        command = _snakemake(plan, "--cores", str(cores), "--keep-going", "--quiet", "rules", "host", "progress")
        child = subprocess.Popen(command, env=marked | environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        seen = 0
        while True:
            ended = child.poll() is not None
            seen = _report(progress, seen, order, settings)
            if ended:
                break
            time.sleep(0.3)
    if child.returncode:
        failed = [e["name"] for e in _events(progress) if e["event"] == "end" and not e["ok"]]
        shown = (
            f"failed notebooks: {', '.join(failed)}" if failed else (logs / "snakemake.log").read_text("utf-8")[-3000:]
        )
        step = "the executed copy and the traceback are in runs/failed/; run the same command again to go on"
        raise PipelineError("run", found=shown, wanted="every notebook done", next_step=step)


def _events(progress: Path) -> list[dict[str, Any]]:
    if not progress.exists():
        return []
    return [json.loads(line) for line in progress.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]


def _report(progress: Path, seen: int, order: dict[str, int], settings: Settings) -> int:
    """Print what happened since ``seen`` events; returns how many there are now."""
    events = _events(progress)
    for event in events[seen:]:
        head = f"[{order.get(event['name'], 0)}/{len(order)}] {event['name']}"
        if event["event"] == "start":
            minutes = BY_NAME[event["name"]].minutes[settings.profile.value]
            print(f"{head}: started (about {minutes:.1f} min)", flush=True)
            continue
        state = "done" if event["ok"] else "FAILED"
        made = f", {len(event['artefacts'])} artefacts" if event["artefacts"] else ""
        print(f"{head}: {state} in {event['seconds']:.0f} s, peak {event['peak_mb']:.0f} MB{made}", flush=True)
        look = BY_NAME[event["name"]].first_look
        if event["ok"] and look in event["artefacts"]:
            print(f"    first picture: {_shown(settings.work / 'figures' / look)}", flush=True)
        if not event["ok"]:
            print("    " + "\n    ".join(event["log"].strip().splitlines()[-15:]), flush=True)
    return len(events)


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def default_settings(settings: Settings) -> bool:
    """Whether a run's figures are the committed ones: demo profile, default cohort, embedded data, seed 0."""
    return settings == resolve(Profile.DEMO.value, "aisd", 0) and settings.data is None
