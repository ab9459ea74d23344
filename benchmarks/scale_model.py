"""How long a training takes on many processes: a model of one step, checked against two processes on this machine.

A step of n processes takes as long as its slowest share of the batch takes to compute, and then the sum of the
gradients over a ring (Patarasuk & Yuan 2009): 2 (n - 1) / n times their bytes at the bandwidth of the slowest link, and
2 (n - 1) times its latency.

    python benchmarks/scale_model.py check [--conf conf/an4.yaml] [--rounds 3] [--json FILE]
    python benchmarks/scale_model.py predict --parameters-m 20 --hours 100000 --epochs 10 --hours-per-hour 10000 \\
        --batch-s 2000 --gbit-per-s 400 [--price 3] [--gpus 8 64 512]

`check` measures the two terms separately (two processes with their shares and no exchange; the exchange alone), adds
them up and compares with whole steps of the same batches. `predict` takes the figures of other machines.
"""

import argparse
import os
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr import process

process.set_up()  # as `asr` does, before torch is imported

import torch
from timing import report
from train_step import make_manifest

from asr import config
from asr.cli import parse
from asr.process.distributed import World, leave
from asr.train import Trainer


@dataclass(frozen=True)
class Link:
    """The slowest connection between two processes."""

    bytes_per_s: float
    latency_s: float


def exchange_s(parameters: float, processes: int, link: Link) -> float:
    """Seconds to sum float32 gradients over a ring."""
    steps = 2 * (processes - 1)
    return steps / processes * 4 * parameters / link.bytes_per_s + steps * link.latency_s


def predict(arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Time, efficiency and cost for each number of processes, at a fixed batch for each of them."""
    link = Link(arguments.gbit_per_s / 8 * 1e9, arguments.latency_us * 1e-6)
    compute_s = arguments.batch_s / arguments.hours_per_hour  # seconds of audio per second is the same number
    read_mb_per_s = arguments.hours_per_hour * arguments.audio_kb_per_s / 1e3  # for a process that never waits
    rows = []
    for processes in arguments.gpus:
        step_s = compute_s + exchange_s(arguments.parameters_m * 1e6, processes, link)
        steps = arguments.epochs * arguments.hours * 3600 / (arguments.batch_s * processes)
        hours = steps * step_s / 3600
        rows.append(
            {
                "processes": processes,
                "batch_hours": arguments.batch_s * processes / 3600,
                "step_ms": 1000 * step_s,
                "exchange_percent": 100 * (1 - compute_s / step_s),
                "steps": steps,
                "days": hours / 24,
                "cost": hours * processes * arguments.price,
                "read_mb_per_s": processes * read_mb_per_s * compute_s / step_s,
            }
        )
    return rows


def check(arguments: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of a step of two processes: measured, and added up from its parts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        data = make_manifest(Path(name), utterances=120)
        torch.multiprocessing.spawn(_rank, (port, name, data, arguments.conf, arguments.rounds), nprocs=2)
        ranks = [torch.load(Path(name) / f"times-{rank}.pt") for rank in range(2)]
    rounds = []
    for alone_0, alone_1, exchange, together in zip(
        ranks[0]["alone"], ranks[1]["alone"], ranks[0]["exchange"], ranks[0]["together"], strict=True
    ):
        slower = sum(map(max, zip(alone_0, alone_1, strict=True)))
        rounds.append({"predicted_s": slower + exchange, "measured_s": together, "exchange_s": exchange})
    ratio = statistics.median(row["predicted_s"] / row["measured_s"] for row in rounds)
    return {"rounds": rounds, "predicted_to_measured": ratio, "parameters": ranks[0]["parameters"]}


def _rank(rank: int, port: int, folder: str, data: Path, conf: Path, rounds: int) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    overrides = [f"data.train={data}", f"data.dev={data}", "train.threads=1", "train.workers=0", "train.device=cpu"]
    trainer = Trainer(config.load(conf, overrides), Path(folder) / "run")
    world, learner = trainer.world, trainer.learner
    learner.recognizer.train()
    times: dict[str, Any] = {"alone": [], "exchange": [], "together": []}
    for number in range(rounds + 1):  # the first one warms up
        trainer.order.epoch = number + 1
        batches = list(trainer.batches)
        world.barrier()
        learner.world = World()  # as if there were no other process
        alone = []
        for batch in batches:
            started = time.perf_counter()
            if batch.ids:
                learner.step(batch, 1e-4, 0)
            alone.append(time.perf_counter() - started)
        learner.world = world
        world.barrier()
        started = time.perf_counter()
        for _ in batches:
            world.sum(1, 1, 1, 1)
            world.all_reduce([torch.zeros(()), *learner.gradients()])
        exchange = time.perf_counter() - started
        world.barrier()
        started = time.perf_counter()
        for batch in batches:
            learner.step(batch, 1e-4, 0)
        world.barrier()
        together = time.perf_counter() - started
        if number:
            times["alone"].append(alone)
            times["exchange"].append(exchange)
            times["together"].append(together)
    times["parameters"] = sum(parameter.numel() for parameter in learner.parameters)
    torch.save(times, Path(folder) / f"times-{rank}.pt")
    leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check")
    checking.add_argument("--conf", type=Path, default=Path(__file__).parent.parent / "conf" / "an4.yaml")
    checking.add_argument("--rounds", type=int, default=3)
    checking.add_argument("--json", type=Path)
    predicting = commands.add_parser("predict")
    predicting.add_argument("--parameters-m", type=float, required=True, help="millions of parameters")
    predicting.add_argument("--hours", type=float, required=True, help="hours of training audio")
    predicting.add_argument("--epochs", type=float, required=True)
    predicting.add_argument(
        "--hours-per-hour", type=float, required=True, help="hours of audio per hour on one GPU alone"
    )
    predicting.add_argument("--batch-s", type=float, required=True, help="seconds of audio in a step, for each GPU")
    predicting.add_argument("--gbit-per-s", type=float, required=True, help="bandwidth between machines, for each GPU")
    predicting.add_argument("--latency-us", type=float, default=10.0, help="latency of one message")
    predicting.add_argument("--price", type=float, default=3.0, help="price of one GPU for an hour")
    predicting.add_argument(
        "--audio-kb-per-s", type=float, default=17.0, help="kilobytes of FLAC for a second of audio"
    )
    predicting.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64, 512])
    predicting.add_argument("--json", type=Path)
    arguments = parse(parser)
    if arguments.command == "check":
        result = check(arguments)
        for row in result["rounds"]:
            print("  ".join(f"{key} {value:.3f}" for key, value in row.items()))
        print(f"predicted / measured: {result['predicted_to_measured']:.3f}")
        report(result, arguments.json)
    else:
        rows = predict(arguments)
        print("  ".join(f"{key:>16}" for key in rows[0]))
        for row in rows:
            print("  ".join(f"{value:16,.4g}" for value in row.values()))
        report({"rows": rows}, arguments.json)


if __name__ == "__main__":
    main()
