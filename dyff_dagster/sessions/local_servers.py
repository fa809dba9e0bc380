"""Servers of language models as processes of this machine: their programs, and the GPUs that each replica gets."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dyff_dagster.schema.platform import Accelerator, InferenceServiceRunnerKind, InferenceServiceSpec
from dyff_dagster.sessions.errors import SessionError
from dyff_dagster.sessions.local import Command
from dyff_dagster.sessions.servers import serve_environment, serve_line

BESIDE = Path(sys.executable).parent
"""Where programs are that were installed with us."""

_NEEDED = {
    InferenceServiceRunnerKind.HUGGINGFACE: ("torch", "fastapi", "uvicorn"),
    InferenceServiceRunnerKind.VLLM: (),
}
"""What the server's program needs besides itself, where it is installed beside us."""

_INSTALL = {
    InferenceServiceRunnerKind.HUGGINGFACE: "pip install 'dyff-dagster[huggingface]'",
    InferenceServiceRunnerKind.VLLM: "pip install vllm",
}


def server_command(
    service: InferenceServiceSpec,
    *,
    session_id: str,
    cwd: Path,
    model_path: Path | None,
    replicas: int,
    accelerator: Accelerator | None,
) -> Command:
    """The command of a service whose runner is ``huggingface`` or ``vllm``.

    Args:
        service: The service.
        session_id: For messages.
        cwd: The directory of its manifest.
        model_path: The files of its model.
        replicas: How many there will be.
        accelerator: What each of them shall have; None: whatever the machine has.

    Raises:
        SessionError: There is no model, the server is not installed, or the machine has too few GPUs.
    """
    runner = service.runner
    if runner is None or model_path is None:
        raise SessionError(
            f"{session_id}: service '{service.name}' has a runner of kind {runner.kind.value if runner else ''} and no "
            "files of a model: name a Model of the catalog in it",
            session_id=session_id,
        )
    gpus = 0 if accelerator is None or accelerator.gpu is None else accelerator.gpu.count
    shares = share_out(visible_gpus(), replicas, gpus) if gpus else ()
    if gpus and not shares:
        raise SessionError(
            f"{session_id}: service '{service.name}' asks for {gpus} GPUs for each of {replicas} replicas, and this "
            f"machine shows {len(visible_gpus())}: ask for fewer, or take the accelerator out to run it without",
            session_id=session_id,
        )
    line = serve_line(service, "{model}", runner.args or [], host="{host}", port="{port}", gpus=gpus)
    return Command(
        (_program(line[0], runner.kind, session_id), *line[1:]),
        cwd,
        model_path,
        environment=serve_environment(service, mounted=True),
        shares=[{"CUDA_VISIBLE_DEVICES": ",".join(share)} for share in shares],
    )


def visible_gpus() -> list[str]:
    """What GPUs there are, as ``CUDA_VISIBLE_DEVICES`` names them: those that it has, else those of the driver."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [name.strip() for name in said.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return (
        [line.strip() for line in done.stdout.splitlines() if line.strip().isdigit()]
        if done.returncode == 0
        else []
    )


def share_out(gpus: Sequence[str], replicas: int, each: int) -> list[list[str]]:
    """Which GPUs each replica gets, none of them twice; nothing where there are too few."""
    if len(gpus) < replicas * each:
        return []
    return [list(gpus[index * each : (index + 1) * each]) for index in range(replicas)]


def _program(name: str, kind: InferenceServiceRunnerKind, session_id: str) -> str:
    """Where a server's program is: beside the running interpreter, else on PATH."""
    beside = BESIDE / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    missing = [name] if found is None else []
    if found == str(beside):
        missing += [needed for needed in _NEEDED[kind] if importlib.util.find_spec(needed) is None]
    if found is None or missing:
        raise SessionError(
            f"{session_id}: a runner of kind {kind.value} needs the package {', '.join(missing)}, which is not "
            f"installed here: {_INSTALL[kind]}",
            session_id=session_id,
        )
    return found
