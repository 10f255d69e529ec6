"""Loss of 40 frames of 29,010 anchors, forward and backward, on one thread: against textbook forms and torchvision's.

`python tests/benchmarks/loss.py [--rounds N] [--small]`. Every frame has about 40 positive anchors. Predictions lie in
memory as `BoxHead` hands them out for ours, as each peer wants them for the peers. The limit is copying the predictions
once. All softmax forms give the same value and gradient, which is checked.
"""

import argparse
from collections.abc import Callable

import torch
from rounds import Row, arguments, medians, parse, print_rows
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot, smooth_l1_loss
from torchvision.ops import sigmoid_focal_loss

from detector.losses import DetectionLoss

FRAMES, ANCHORS, ALPHA, GAMMA, BETA = 40, 29_010, 0.25, 2.0, 0.11


class Case:
    """Predictions, targets, and the forms of the loss."""

    def __init__(self, frames: int, anchors: int, logits: int, device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        draw = torch.rand(frames, anchors, generator=generator)
        labels = torch.randint(1, logits, (frames, anchors), generator=generator)
        self.labels = torch.where(draw < 40 / ANCHORS, labels, torch.where(draw < 0.005, -1, 0)).to(device)
        self.loc_targets = torch.randn(frames, anchors, 4, generator=generator).to(device)
        self.logits = logits
        loc, cls = (torch.randn(frames, anchors, n, generator=generator).to(device) for n in (4, logits))
        self.plain = [tensor.clone().requires_grad_() for tensor in (loc, cls)]
        self.value_major = [
            tensor.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for tensor in (loc, cls)
        ]
        self.criterion = DetectionLoss()

    def _back(self, leaves: list[Tensor], loss: Tensor) -> tuple[Tensor, ...]:
        return loss.detach(), *torch.autograd.grad(loss, leaves)

    def ours(self) -> tuple[Tensor, ...]:
        loc, cls = self.value_major
        losses = self.criterion(loc, self.loc_targets, cls, self.labels)
        return self._back(self.value_major, losses["loc_loss"] + losses["cls_loss"])

    def gathered(self) -> tuple[Tensor, ...]:
        """log_softmax and gather over the last dimension; boxes of positive anchors only."""
        loc, cls = self.plain
        log_pt = log_softmax(cls, dim=2).gather(2, self.labels.clamp(min=0).unsqueeze(2)).squeeze(2)
        positive = self.labels > 0
        weight = torch.where(positive, ALPHA, 1 - ALPHA) * (self.labels >= 0)
        focal = (-weight * (1 - log_pt.exp()) ** GAMMA * log_pt).sum()
        boxes = smooth_l1_loss(loc[positive], self.loc_targets[positive], reduction="sum", beta=BETA)
        return self._back(self.plain, (focal + boxes) / positive.sum())

    def textbook(self) -> tuple[Tensor, ...]:
        """Softmax, one-hot targets, everything for every anchor."""
        loc, cls = self.plain
        target = one_hot(self.labels.clamp(min=0), self.logits).float()
        pt = (cls.softmax(dim=2) * target).sum(dim=2)
        positive = self.labels > 0
        weight = torch.where(positive, ALPHA, 1 - ALPHA) * (self.labels >= 0)
        focal = (-weight * (1 - pt) ** GAMMA * pt.log()).sum()
        boxes = smooth_l1_loss(loc, self.loc_targets, reduction="none", beta=BETA).sum(dim=2)
        return self._back(self.plain, (focal + (boxes * positive).sum()) / positive.sum())

    def torchvision(self) -> tuple[Tensor, ...]:
        """As its RetinaNet: sigmoid focal loss over the classes without background, L1 of positive anchors."""
        loc, cls = self.plain
        positive = self.labels > 0
        target = one_hot(self.labels.clamp(min=0), self.logits)[..., 1:].float()
        counted = self.labels >= 0
        focal = sigmoid_focal_loss(cls[..., 1:][counted], target[counted], ALPHA, GAMMA, reduction="sum")
        boxes = (loc[positive] - self.loc_targets[positive]).abs().sum()
        return self._back(self.plain, (focal + boxes) / positive.sum())

    def copy(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self.plain]

    def check(self) -> None:
        expected = self.textbook()
        for found in (self.ours(), self.gathered()):
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-3)


def _rows(logits: int, args: argparse.Namespace, device: str) -> list[Row]:
    case = Case(2 if args.small else FRAMES, 500 if args.small else ANCHORS, logits, device)
    case.check()
    peers: dict[str, tuple[Callable[[], object], float | None]] = {
        "textbook softmax + one-hot": (case.textbook, 4.0),
        "torchvision sigmoid focal + L1": (case.torchvision, None),
        "log_softmax + gather over the last dimension": (case.gathered, 1.5),
    }
    forms = {"ours": case.ours, "limit": case.copy} | {name: form for name, (form, _) in peers.items()}
    found = {name: 1e3 * seconds for name, seconds in medians(forms, args.rounds).items()}
    figures = {name: f"{milliseconds:.1f} ms" for name, milliseconds in found.items()}
    limit = found["limit"] / found["ours"]
    path = f"loss forward + backward, {logits} logits, {device}"
    return [
        Row(path, name, figures["ours"], figures[name], found[name] / found["ours"], asked, limit)
        for name, (_, asked) in peers.items()
    ]


def main() -> None:
    args = parse(arguments(__doc__, rounds=7))
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    rows = [row for device in devices for logits in (4, 8) for row in _rows(logits, args, device)]
    print_rows("loss", rows, threads=args.threads)


if __name__ == "__main__":
    main()
