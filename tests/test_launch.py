"""The launch files of docs/launch, run on one machine: schedulers are played by stubs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import lives
from asr import config
from asr.training.state import is_finished, state_files
from conftest import ROOT
from test_resume import AT_EACH_STEP
from tones import tiny, write_corpus

pytestmark = pytest.mark.processes
LAUNCH = ROOT / "docs" / "launch"
EPOCHS = 400

SCONTROL = """#!/bin/sh
case "$1 $2" in
"show hostnames") echo 127.0.0.1; echo another-host ;;
*) echo "$@" >> "$REQUESTS" ;;
esac
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    corpus = write_corpus(tmp_path, ["ab", "cab", "bad", "dab"])
    path = tmp_path / "conf.yaml"
    path.write_text(config.to_yaml(tiny(corpus, corpus, "train.batch_s=2", f"train.epochs={EPOCHS}", AT_EACH_STEP)))
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The commands of a scheduler, and torchrun of this environment."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("scontrol", SCONTROL), ("srun", '#!/bin/sh\nexec "$@"\n')):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
    slurm = {"SLURM_NNODES": "1", "SLURM_GPUS_ON_NODE": "2", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "hosts[1-2]"}
    quiet = {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **slurm, **quiet, "PATH": path, "REQUESTS": str(tmp_path / "requests")}


def test_slurm(tmp_path: Path, conf: Path, environment: dict[str, str]) -> None:
    """A preempted job queues up again; the next one goes on and comes to the end."""
    out, log = tmp_path / "run", tmp_path / "log"
    script = ["bash", str(LAUNCH / "slurm.sbatch"), str(conf), str(out)]
    with log.open("w") as output:
        job = subprocess.Popen(script, cwd=ROOT, env=environment, stdout=output, stderr=output)
        while not state_files(out):
            assert job.poll() is None, log.read_text()
            time.sleep(0.05)
        job.send_signal(signal.SIGTERM)
        assert job.wait(120) == 0, log.read_text()
    assert (tmp_path / "requests").read_text() == "requeue 7\n"
    assert not is_finished(out, EPOCHS)
    reached = int(state_files(out)[0].stem)
    saved = yaml.safe_load((out / "config.yaml").read_text())
    assert saved["train"]["epochs"] == EPOCHS
    # The end is far; that the next job goes on is seen sooner.
    with log.open("w") as output:
        job = subprocess.Popen(script, cwd=ROOT, env=environment, stdout=output, stderr=output)
        while int(state_files(out)[0].stem) < reached + 3:
            assert job.poll() is None, log.read_text()
            time.sleep(0.05)
        job.send_signal(signal.SIGTERM)
        assert job.wait(120) == 0, log.read_text()
    assert f"step {reached}" in log.read_text()


def test_kubernetes(tmp_path: Path, conf: Path, environment: dict[str, str]) -> None:
    """Both pods of the job, side by side, with one process each."""
    service, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert pod["subdomain"] == service["metadata"]["name"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    host = f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    here = {
        "--nproc-per-node=8": "--nproc-per-node=1",
        f"--rdzv-endpoint={host}:29400": f"--rdzv-endpoint=127.0.0.1:{lives.free_port()}",
        "/data/conf.yaml": str(conf),
        "--out=/data/run": f"--out={tmp_path / 'run'}",
    }
    assert here.keys() <= set(container["command"])
    command = [here.get(word, word) for word in container["command"]]
    pods = [
        subprocess.Popen([*command, "train.epochs=3"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [pod.communicate(timeout=180)[1] for pod in pods]
    assert [pod.returncode for pod in pods] == [0, 0], errors
    assert "2 x cpu" in "".join(errors)
    assert is_finished(tmp_path / "run", 3)
