import torch

from detector.rpn import BoxHead, softmax_init


def test_background_starts_at_99_percent():
    layer = torch.nn.Conv2d(4, 2 * 3, 1)
    softmax_init(layer, num_anchors=2, num_logits=3)
    p = layer.bias.view(2, 3).softmax(1)
    torch.testing.assert_close(p, torch.tensor([[0.99, 0.005, 0.005]] * 2))


def test_anchor_order_is_level_row_column_anchor():
    head = BoxHead(in_channels=1, num_anchors=2, num_logits=2, n_layers=0)
    with torch.no_grad():
        for conv, outputs in ((head.box_head[-1], 8), (head.cls_head[-1], 4)):
            conv.weight.zero_()
            conv.weight[:, 0, 1, 1] = 10.0  # copies the cell, in tens
            conv.bias.copy_(torch.arange(outputs) / 10)  # and numbers the outputs of a cell, in tenths
    xs = [torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([[[[5.0]]]])]
    loc, cls = head(xs)
    assert loc.shape == (1, 10, 4) and cls.shape == (1, 10, 2)
    cells = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).repeat_interleave(2) * 10
    torch.testing.assert_close(cls[0, :, 0], cells + torch.tensor([0.0, 0.2] * 5))
    torch.testing.assert_close(cls[0, :, 1], cells + torch.tensor([0.1, 0.3] * 5))
    torch.testing.assert_close(loc[0, 1], torch.tensor([10.4, 10.5, 10.6, 10.7]))


def test_hidden_layers_and_scripting():
    head = BoxHead(4, 3, 5, n_layers=2)
    assert len([m for m in head.cls_head if isinstance(m, torch.nn.Conv2d)]) == 3
    xs = [torch.randn(2, 4, 3, 5), torch.randn(2, 4, 2, 3)]
    for eager, scripted in zip(head(xs), torch.jit.script(head)(xs), strict=True):
        torch.testing.assert_close(eager, scripted)


def test_sizes_and_spread_of_the_last_layers():
    torch.manual_seed(0)
    assert [len(head) for head in (BoxHead(4, 1, 2).box_head, BoxHead(4, 1, 2).cls_head)] == [7, 7]  # 3 x (conv, ReLU)
    head = BoxHead(64, 8, 3, n_layers=0)
    for layer, channels in ((head.box_head[-1], 8 * 4), (head.cls_head[-1], 8 * 3)):
        assert layer.weight.shape == (channels, 64, 3, 3)
        weight = layer.weight.detach()
        assert abs(float(weight.std()) - 0.01) < 0.0005 and abs(float(weight.mean())) < 0.0005
    assert float(head.cls_head[-1].bias.view(8, 3)[3].softmax(0)[0]) > 0.98
