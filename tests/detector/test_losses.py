import math

import pytest
import torch

from detector.losses import DetectionLoss, reduce, smooth_l1_loss, softmax_focal_loss


def test_smooth_l1_is_quadratic_then_linear():
    pred = torch.tensor([[0.0, 0.05, 0.11, 1.0]])
    loss = smooth_l1_loss(pred, torch.zeros(1, 4), beta=0.1, reduction="none")
    torch.testing.assert_close(loss, torch.tensor([[0.0, 0.0125, 0.06, 0.95]]))
    assert smooth_l1_loss(pred, torch.zeros(1, 4), beta=0.1) == loss.sum()


def test_focal_loss_of_two_equal_logits():
    # p = 1/2 everywhere: -w * (1/2)^2 * log(1/2), w = 3/4 for background and 1/4 for foreground
    loss = softmax_focal_loss(torch.zeros(1, 3, 2), torch.tensor([[0, 1, -1]]))
    half = 0.25 * math.log(2)
    torch.testing.assert_close(loss, torch.tensor([[0.75 * half, 0.25 * half, 0.0]]))


def test_focal_loss_equals_the_textbook_form():
    torch.manual_seed(0)
    pred = torch.randn(2, 7, 4, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 7))
    p = pred.softmax(-1)
    one_hot = torch.nn.functional.one_hot(target, 4)
    pt = (p * one_hot).sum(-1)
    weight = torch.where(target > 0, 0.25, 0.75)
    expected = -weight * (1 - pt) ** 2 * pt.log()
    torch.testing.assert_close(softmax_focal_loss(pred, target), expected.float(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("gamma", [2.0, 0.5, 0.0])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_gradient_is_that_of_the_value(gamma, reduction):
    generator = torch.Generator().manual_seed(2)
    pred, target = 3 * torch.randn(2, 9, 4, generator=generator), torch.randint(-1, 4, (2, 9), generator=generator)
    pred[0, 0], target[0, 0] = torch.tensor([200.0, 0, 0, 0]), 0  # a probability of exactly 1
    upstream = torch.rand((2, 9) if reduction == "none" else (), generator=generator)
    ours, plain = pred.clone().requires_grad_(), pred.double().requires_grad_()
    softmax_focal_loss(ours, target, reduction, gamma=gamma).backward(upstream)
    log_pt = plain.log_softmax(2).gather(2, target.clamp(min=0).unsqueeze(2)).squeeze(2)
    weight = torch.where(target > 0, 0.25, 0.75) * (target >= 0)
    focus = (1 - log_pt.detach().exp() == 0).logical_not() if gamma == 0.5 else 1  # whose own gradient is infinite
    value = -weight * (1 - log_pt.exp()).clamp(min=1e-30) ** gamma * log_pt * focus
    reduce(value, reduction).backward(upstream.double())
    torch.testing.assert_close(ours.grad, plain.grad.float(), atol=1e-6, rtol=1e-4)


def test_the_target_may_change_before_backward():
    pred, target = torch.randn(1, 6, 3, requires_grad=True), torch.tensor([[0, 1, 2, -1, 0, 1]])
    loss = softmax_focal_loss(pred, target, "sum")
    expected = torch.autograd.grad(loss, pred, retain_graph=True)[0]
    target.zero_()
    assert torch.equal(torch.autograd.grad(loss, pred)[0], expected)


def test_gamma_zero_is_weighted_cross_entropy():
    pred = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([[1, 2, 1, 2, 1]])
    expected = torch.nn.functional.cross_entropy(pred[0], target[0], reduction="sum") * 0.4
    torch.testing.assert_close(softmax_focal_loss(pred, target, "sum", alpha=0.4, gamma=0.0), expected)


def test_ignored_anchors_add_nothing_to_value_or_gradient():
    pred = torch.randn(1, 4, 3, requires_grad=True)
    softmax_focal_loss(pred, torch.tensor([[-1, 1, -1, 0]]), "sum").backward()
    assert (pred.grad[0, [0, 2]] == 0).all() and (pred.grad[0, [1, 3]] != 0).all()


def test_detection_loss_divides_by_the_positives():
    criterion = DetectionLoss(beta=0.1)
    cls_targets = torch.tensor([[1, 0, 2, -1]])
    loc_preds = torch.ones(1, 4, 4)
    losses = criterion(loc_preds, torch.zeros(1, 4, 4), torch.zeros(1, 4, 3), cls_targets)
    assert losses["loc_loss"].item() == pytest.approx(4 * 0.95)  # 2 anchors x 4 offsets x 0.95 / 2
    third = (2 / 3) ** 2 * math.log(3)
    assert losses["cls_loss"].item() == pytest.approx((2 * 0.25 + 0.75) * third / 2)


def test_no_positive_anchor_gives_a_zero_box_loss_with_a_gradient():
    loc_preds = torch.ones(1, 2, 4, requires_grad=True)
    losses = DetectionLoss()(loc_preds, torch.zeros(1, 2, 4), torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.long))
    losses["loc_loss"].backward()
    assert losses["loc_loss"] == 0 and (loc_preds.grad == 0).all()


def test_wrong_names_are_refused():
    with pytest.raises(ValueError, match="cls_loss_func: got 'x', allowed: softmax_focal_loss"):
        DetectionLoss("x")
    with pytest.raises(ValueError, match="mode: got 'x'"):
        reduce(torch.zeros(1), "x")


def test_beta_0_is_a_linear_loss_with_a_finite_gradient():
    pred = torch.tensor([[0.0, 0.5, -2.0, 3.0]], requires_grad=True)
    loss = smooth_l1_loss(pred, torch.zeros(1, 4), beta=0.0)
    loss.backward()
    assert loss.item() == 5.5
    assert pred.grad.tolist() == [[0.0, 1.0, -1.0, 1.0]]
    tiny = torch.tensor([[1.0, 0.0]], requires_grad=True)
    smooth_l1_loss(tiny, torch.zeros(1, 2), beta=1e-40).backward()
    assert tiny.grad.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0, 5.0])
def test_extreme_logits_equal_autograd_in_float64(gamma, dtype):
    rows = [[1e4, -1e4, 0], [-1e4, 1e4, 0], [1e4, 1e4, -1e4], [30, 0, 0], [12, 0, -12], [0, 0, 0], [0.5, -3, 2]]
    pred = torch.tensor(rows).to(dtype).repeat(3, 1)[None].requires_grad_()
    target = torch.arange(3).repeat_interleave(len(rows))[None]
    loss = softmax_focal_loss(pred, target, "none", gamma=gamma)
    loss.sum().backward()
    plain = pred.detach().double().requires_grad_()
    log_p = plain.log_softmax(2)
    log_pt = log_p.gather(2, target[..., None])[..., 0]
    rest = torch.where(torch.nn.functional.one_hot(target, 3) > 0, -torch.inf, log_p).exp().sum(2).clamp(min=1e-300)
    expected = -torch.where(target > 0, 0.25, 0.75) * rest**gamma * log_pt
    expected.sum().backward()
    torch.testing.assert_close(loss.double(), expected, atol=1e-6, rtol=1e-5)
    tolerance = {torch.float16: 1e-3, torch.bfloat16: 8e-3}.get(dtype, 1e-5)
    torch.testing.assert_close(pred.grad.double(), plain.grad, atol=1e-6, rtol=tolerance)


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3)])
def test_no_anchors_give_a_zero_loss_with_a_gradient(shape):
    pred = torch.zeros(shape, requires_grad=True)
    loss = softmax_focal_loss(pred, torch.zeros(shape[:2], dtype=torch.int64), "sum")
    loss.backward()
    assert loss == 0 and pred.grad.shape == shape


def losses_of(criterion, positives):
    cls_targets = torch.zeros(1, 50, dtype=torch.int64)
    cls_targets[0, :positives] = 1
    loc = torch.ones(1, 50, 4, requires_grad=True)
    return criterion(loc, torch.zeros(1, 50, 4), torch.zeros(1, 50, 2), cls_targets)["loc_loss"]


def test_the_exponential_mean_of_positives():
    criterion = DetectionLoss(beta=0.1, normalizer="ema")
    first = losses_of(criterion, 20)  # 0.9 * 100 + 0.1 * 20 = 92
    second = losses_of(criterion, 0)  # 0.9 * 92 + 0.1 * 1 = 82.9
    assert first.item() == pytest.approx(20 * 4 * 0.95 / 92)
    assert second.item() == 0 and criterion.mean_positives.item() == pytest.approx(82.9)
    (first + second).backward()  # the second call changed nothing that the first needs
    with torch.no_grad():
        losses_of(criterion, 40)
    criterion.eval()
    assert losses_of(criterion, 40).item() == pytest.approx(40 * 4 * 0.95 / 82.9)
    assert criterion.mean_positives.item() == pytest.approx(82.9)


def test_the_exponential_mean_is_saved_and_missing_in_older_checkpoints():
    criterion, other = DetectionLoss(normalizer="ema"), DetectionLoss(normalizer="ema")
    losses_of(criterion, 20)
    other.load_state_dict(criterion.state_dict())
    assert other.mean_positives.item() == pytest.approx(92)
    other.load_state_dict({})
    assert other.mean_positives.item() == 100
    with pytest.raises(ValueError, match="normalizer: got 'x', allowed: one of positives, ema"):
        DetectionLoss(normalizer="x")
