"""A fake detector whose scores show its recurrent state."""

import torch

__all__ = ["Counting"]


class Counting:
    """Returns one box per frame. Its score is the mean of all inputs of the stream since the last reset."""

    def __init__(self, forgets=True, looks_aside=False):
        self.forgets, self.looks_aside = forgets, looks_aside
        self.reset_all()

    def reset_all(self):
        self.total, self.count = torch.zeros(1), torch.zeros(1)

    def reset(self, mask):
        if self.total.shape != mask.shape:
            self.total, self.count = torch.zeros(len(mask)), torch.zeros(len(mask))
        if self.forgets:
            self.total, self.count = self.total * mask, self.count * mask

    def get_boxes(self, x, score_thresh, nms_thresh):
        found = []
        for frame in x:
            self.total = self.total + frame.mean((1, 2, 3))
            self.count = self.count + 1
            scores = 0.1 + self.total / self.count
            if self.looks_aside:
                scores = scores + 0.1 * len(scores)
            found.append([self._answer(score) for score in scores])
        return found

    @staticmethod
    def _answer(score):
        box = torch.tensor([[0.0, 0.0, 20.0, 20.0]])
        return {"boxes": box, "scores": score[None], "labels": torch.ones(1, dtype=torch.long)}
