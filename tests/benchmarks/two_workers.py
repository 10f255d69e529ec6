"""Two ranks of data-parallel training, one core each: frames/s of both against two processes that share nothing.

`python tests/benchmarks/two_workers.py [--rounds N] [--steps N] [--small]`. The ranks run under gloo with one thread
each and wrap the detector as `evforge train` does. In each round both take a number of steps together, then as many
each on its own. Afterwards the ranks hold the same weights, which is checked.
"""

import copy
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import warnings

import torch
import torch.distributed as dist
from rounds import Row, arguments, parse, print_rows
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detector.single_stage_detector import SingleStageDetector

RANKS, STEPS, STREAMS, HEIGHT, WIDTH = 2, 10, 2, 240, 304
BOX = torch.tensor([[40.0, 60.0, 120.0, 130.0, 1.0]])


class Loss(nn.Module):
    """The detector with its loss as `forward`, which is what DDP looks at."""

    def __init__(self, detector: SingleStageDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: Tensor, targets: list) -> Tensor:
        return sum(self.detector.compute_loss(x, targets, torch.ones(x.shape[1])).values())


def _seconds(model: nn.Module, batch: tuple, optimizer: torch.optim.Optimizer, steps: int, bf16: bool) -> float:
    """Seconds until every rank has taken its steps."""
    dist.barrier()
    start = time.perf_counter()
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(*batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = torch.tensor(time.perf_counter() - start)
    dist.all_reduce(seconds, dist.ReduceOp.MAX)
    return float(seconds)


def run_rank(rank: int, rounds: int, steps: int, small: bool, bf16: bool) -> list[tuple[float, float]]:
    """Seconds together and alone, of each round but the first."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    torch.manual_seed(0)
    time_steps, height, width, channels = (2, 64, 96, 8) if small else (STEPS, HEIGHT, WIDTH, 256)
    detector = SingleStageDetector("Vanilla", 2, 2, max(2, channels // 16), channels, "PSEE_ANCHORS")
    alone = Loss(detector.to(memory_format=torch.channels_last))
    warnings.filterwarnings("ignore", message=".*`broadcast_buffers` is deprecated.*")
    together = DistributedDataParallel(copy.deepcopy(alone), broadcast_buffers=False, gradient_as_bucket_view=True)
    x = (
        torch.rand(time_steps, STREAMS, 2, height, width, generator=torch.Generator().manual_seed(rank)) < 0.05
    ).float()
    batch = x, [[BOX] * STREAMS for _ in range(time_steps)]
    models = together, alone
    optimizers = [torch.optim.Adam(model.parameters(), 1e-4, fused=True) for model in models]
    found = [
        tuple(
            _seconds(model, batch, optimizer, steps, bf16) for model, optimizer in zip(models, optimizers, strict=True)
        )
        for _ in range(rounds + 1)
    ]
    weights = torch.cat([parameter.detach().flatten() for parameter in together.parameters()])
    other = weights.clone()
    dist.broadcast(other, src=0)
    assert torch.equal(weights, other), "the ranks hold different weights"
    dist.destroy_process_group()
    return found[1:]


def _bf16_is_faster() -> bool:
    from detector.utils.precision import resolve_precision

    return resolve_precision("auto") == "bf16-mixed"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--steps", type=int, default=3, help="steps of a round (3)")
    parser.add_argument("--rank", type=int, help="run this rank; the benchmark itself starts them")
    parser.add_argument("--bf16", action="store_true", help="bf16 in the ranks; the benchmark itself decides")
    args = parse(parser)
    if args.rank is not None:
        print(json.dumps(run_rank(args.rank, args.rounds, args.steps, args.small, args.bf16)))
        return
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1])}
    environment = {**os.environ, **address, "OMP_NUM_THREADS": "1"}
    options = ["--rounds", str(args.rounds), "--steps", str(args.steps), *["--small"] * args.small]
    options += ["--bf16"] * (not args.small and _bf16_is_faster())
    command = [sys.executable, __file__, *options, "--rank"]
    ranks = [
        subprocess.Popen([*command, str(rank)], env=environment, stdout=subprocess.PIPE, text=True)
        for rank in range(RANKS)
    ]
    outputs = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        raise SystemExit("a rank failed, see above")
    rounds = json.loads(outputs[0].splitlines()[-1])
    together, alone = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    ratio = statistics.median(alone / together for together, alone in rounds)
    figures = f"{together / args.steps:.2f} s a step", f"{alone / args.steps:.2f} s a step"
    row = Row("two workers, one thread each, gloo", "two independent processes", *figures, ratio, 0.7)
    print_rows("two_workers", [row], threads=1)


if __name__ == "__main__":
    main()
