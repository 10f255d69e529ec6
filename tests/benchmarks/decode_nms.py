"""Boxes out of the predictions of 40 frames: against RetinaNet's `postprocess_detections` of torchvision, one thread.

`python tests/benchmarks/decode_nms.py [--rounds N] [--small]`. 29,010 anchors per frame, three classes; scores as a
trained model gives them (some 300 candidates a frame, around a handful of objects) and as an untrained one does. What
is kept is compared with suppression in float64, frame by frame and class by class, for several batch sizes. The limit
is reading the scores once.
"""

import argparse
from types import SimpleNamespace

import torch
from rounds import Row, arguments, medians, parse, print_rows
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.ops import nms

from detector.anchors import Anchors
from detector.box import bbox_to_deltas, box_clamp, deltas_to_bbox, xywh2xyxy

FRAMES, HEIGHT, WIDTH, CLASSES, OBJECTS = 40, 360, 640, 3, 5
SCORE_THRESH, NMS_THRESH, TOPK = 0.05, 0.5, 500


class Case:
    """Predictions of a batch in our form and in torchvision's."""

    def __init__(self, frames: int, trained: bool, device: str, small: bool) -> None:
        torch.manual_seed(0)
        height, width = (96, 160) if small else (HEIGHT, WIDTH)
        self.coder = Anchors(5, 32, "PSEE_ANCHORS", first_stride=16 if small else 8)
        self.features = [torch.zeros(frames, 1, -(-height // s), -(-width // s)) for s in self.coder.strides]
        self.x = torch.zeros(frames, 1, 1, height, width, device=device)
        self.anchors = self.coder(self.features, self.x)[0]
        self.loc = torch.randn(frames, len(self.anchors), 4) * 0.3
        self.logits = torch.randn(frames, len(self.anchors), CLASSES) * 0.4 - (7.0 if trained else 2.9)
        if trained:
            for frame in range(frames):
                self._add_objects(frame, height, width)
        self.loc, self.logits = self.loc.to(device), self.logits.to(device)
        self.scores = self.logits.sigmoid()
        # What `postprocess_detections` reads of its model; each of its five levels has its own top-k.
        self.model = SimpleNamespace(
            score_thresh=SCORE_THRESH,
            topk_candidates=TOPK,
            nms_thresh=NMS_THRESH,
            detections_per_img=TOPK,
            box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)),
        )
        self.sizes = [f.shape[-1] * f.shape[-2] * self.coder.num_anchors for f in self.features]
        self.shapes = [(height, width)] * frames

    def _add_objects(self, frame: int, height: int, width: int) -> None:
        """Anchors near an object are sure of its class and predict its box, almost."""
        centre = torch.rand(OBJECTS, 2) * torch.tensor([width, height])
        size = torch.exp(2.8 + torch.rand(OBJECTS, 2) * 1.6)
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=1)
        corners = xywh2xyxy(self.anchors.cpu())
        low = torch.maximum(corners[:, None, :2], boxes[:, :2])
        high = torch.minimum(corners[:, None, 2:], boxes[:, 2:])
        shared = (high - low).clamp(min=0).prod(dim=2)
        area = (corners[:, 2:] - corners[:, :2]).prod(dim=1)[:, None] + size.prod(dim=1) - shared
        iou, owner = (shared / area).max(dim=1)
        near = (iou > 0.3).nonzero()[:, 0]
        jittered = boxes[owner[near]] + torch.randn(len(near), 4) * 2
        self.loc[frame, near] = bbox_to_deltas(jittered, self.anchors.cpu()[near])
        self.logits[frame, near, owner[near] % CLASSES] = 12 * iou[near] - 7.5 + torch.randn(len(near)) * 0.5

    def ours(self) -> list:
        return self.coder.decode(
            self.features, self.x, self.loc, self.scores, 1, SCORE_THRESH, NMS_THRESH, TOPK
        )  # a batch of one stream: a frame a time step

    @torch.no_grad()
    def peer(self) -> list:
        outputs = {
            "cls_logits": list(self.logits.split(self.sizes, dim=1)),
            "bbox_regression": list(self.loc.split(self.sizes, dim=1)),
        }
        anchors = [list(xywh2xyxy(self.anchors).split(self.sizes))] * len(self.loc)
        return RetinaNet.postprocess_detections(self.model, outputs, anchors, self.shapes)

    def limit(self) -> Tensor:
        return self.scores.amax()

    def one_by_one(self, frame: int) -> list[tuple[float, int]]:
        """Scores and labels that float64 suppression of each class of a frame keeps."""
        score, pair = self.scores[frame].flatten().sort(descending=True, stable=True)
        score, pair = score[:TOPK], pair[:TOPK]
        pair, score = pair[score > SCORE_THRESH], score[score > SCORE_THRESH]
        anchor, label = pair // CLASSES, pair % CLASSES + 1
        boxes = deltas_to_bbox(self.loc[frame, anchor], self.anchors[anchor])
        height, width = self.shapes[0]
        boxes = box_clamp(boxes, 0, 0, width, height)
        found = []
        for wanted in range(1, CLASSES + 1):
            mine = (label == wanted) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
            kept = nms(boxes[mine].double(), score[mine].double(), NMS_THRESH)
            found += [(value, wanted) for value in score[mine][kept].tolist()]
        return sorted(found, reverse=True)

    def check(self) -> None:
        """The whole batch, single frames and parts of it keep the same boxes."""
        frames = len(self.loc)
        found = [streams[0] for streams in self.ours()]
        for size in (1, 7):
            parts = []
            for start in range(0, frames, size):
                part = slice(start, start + size)
                features = [feature[part] for feature in self.features]
                inputs = self.x[part], self.loc[part], self.scores[part]
                parts += self.coder.decode(features, *inputs, 1, SCORE_THRESH, NMS_THRESH, TOPK)
            for whole, (single,) in zip(found, parts, strict=True):
                assert all(torch.equal(whole[key], single[key]) for key in whole), f"other boxes at batch size {size}"
        for frame in range(min(frames, 8)):
            rows = sorted(zip(found[frame]["scores"].tolist(), found[frame]["labels"].tolist(), strict=True))
            assert rows[::-1] == self.one_by_one(frame), f"frame {frame}: other boxes than in float64"


def _row(trained: bool, args: argparse.Namespace, device: str) -> Row:
    case = Case(4 if args.small else FRAMES, trained, device, args.small)
    case.check()
    found = medians({"ours": case.ours, "peer": case.peer, "limit": case.limit}, args.rounds)
    found = {name: 1e3 * seconds for name, seconds in found.items()}
    sure = int((case.scores > SCORE_THRESH).sum())
    return Row(
        f"decode + NMS, {'trained' if trained else 'untrained'} scores, {sure} candidates, {device}",
        "RetinaNet.postprocess_detections",
        f"{found['ours']:.1f} ms",
        f"{found['peer']:.1f} ms",
        found["peer"] / found["ours"],
        2.5 if trained and device == "cpu" else None,
        found["limit"] / found["ours"],
    )


def main() -> None:
    args = parse(arguments(__doc__, rounds=9))
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    rows = [_row(trained, args, device) for device in devices for trained in (True, False)]
    print_rows("decode_nms", rows, threads=args.threads)


if __name__ == "__main__":
    main()
