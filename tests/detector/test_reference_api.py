"""Every member of the reference API, by module: its parameters in order, with their defaults."""

import importlib
import inspect

import pytest
import torch

PSEE = [(1 / 3, 1), (0.5, 1), (1, 1), (1, 1.5), (2, 1), (3, 1)]

API = {
    "anchors": {
        "AnchorLayer": {"box_size": 32, "anchor_list": PSEE},
        "AnchorLayer.forward": ["shape", "stride"],
        "AnchorLayer.generate_anchors": ["box_size", "ratio_scale_list"],
        "AnchorLayer.make_grid": ["height", "width", "stride"],
        "Anchors": {
            "num_levels": 4,
            "base_size": 32,
            "anchor_list": "PSEE_ANCHORS",
            "fg_iou_threshold": 0.5,
            "bg_iou_threshold": 0.3,
            "allow_low_quality_matches": True,
            "variances": [0.1, 0.2],
            "max_decode": False,
        },
        "Anchors.batched_decode": {"boxes": ..., "scores": ..., "score_thresh": ..., "nms_thresh": ..., "topk": 100},
        "Anchors.decode": {
            "features": ...,
            "x": ...,
            "loc_preds": ...,
            "scores": ...,
            "batch_size": ...,
            "score_thresh": 0.5,
            "nms_thresh": 0.6,
            "max_boxes_per_input": 500,
        },
        "Anchors.encode": ["features", "x", "targets"],
        "Anchors.encode_anchors": ["anchors", "anchors_xyxy", "targets"],
        "Anchors.forward": ["xs", "x"],
        "Anchors.has_changed": ["xs", "x"],
        "Anchors.set_low_quality_matches": [
            "ious",
            "batch_best_target_per_prior_indices",
            "batch_best_target_per_prior",
            "sizes",
        ],
    },
    "box": {
        "assign_priors": {
            "gt_boxes": ...,
            "gt_labels": ...,
            "corner_form_priors": ...,
            "fg_iou_threshold": ...,
            "bg_iou_threshold": ...,
            "allow_low_quality_matches": True,
        },
        "batch_box_iou": ["box1", "box2"],
        "bbox_to_deltas": {"boxes": ..., "default_boxes": ..., "variances": [0.1, 0.2], "max_width": 10000},
        "box_clamp": ["boxes", "xmin", "ymin", "xmax", "ymax"],
        "box_iou": ["box1", "box2"],
        "box_nms": {"bboxes": ..., "scores": ..., "threshold": 0.5},
        "box_select": ["boxes", "xmin", "ymin", "xmax", "ymax"],
        "deltas_to_bbox": {"loc_preds": ..., "default_boxes": ..., "variances": [0.1, 0.2]},
        "pack_boxes_list": ["targets"],
        "xywh2xyxy": ["boxes"],
        "xyxy2xywh": ["boxes"],
    },
    "data_factory": {
        "get_classes_from_json": ["dataset_path"],
        "psee_data": ["hparams", "mode"],
        "setup_psee_classes": {"label_map_path": ..., "wanted_classes": []},
        "setup_psee_load_labels": {
            "label_map_path": ...,
            "num_tbins": ...,
            "wanted_classes": [],
            "min_box_diag_network": 30,
            "interpolation": True,
        },
    },
    "feature_extractors": {
        name: {"cin": 1, "base": 16, "cout": 256} for name in ("Vanilla", "Vanilla_VGG", "Vanilla_VGGRU")
    }
    | {f"{name}.forward": ["x"] for name in ("Vanilla", "Vanilla_VGG", "Vanilla_VGGRU")},
    "jitting": {
        "BoxDecoder": [],
        "BoxDecoder.forward": [
            "anchors",
            "loc_preds",
            "cls_preds",
            "varx",
            "vary",
            "score_thresh",
            "batch_size",
        ],
        "SSD": {"net": ..., "anchor_list": "PSEE_ANCHORS"},
        "SSD.forward": {"x": ..., "score_thresh": 0.4},
        "export_lightning_model": ["lightning_model", "out_directory", "nms_thresh", "score_thresh"],
        "export_ssd": ["ssd", "params", "out_directory", "nms_thresh", "score_thresh"],
    },
    "jitting_test": {
        name: {"nn_filename": ..., "height": 120, "width": 160}
        for name in (
            "testcase_forward_network_with_and_without_box_decoding_cpu",
            "testcase_forward_network_with_and_without_box_decoding_gpu_if_available",
            "testcase_torch_jit_reset",
        )
    },
    "lightning_model": {
        "LightningDetectionModel": ["hparams"],
        "LightningDetectionModel.accumulate_predictions": ["preds", "targets", "video_infos", "frame_is_labeled"],
        "LightningDetectionModel.configure_optimizers": [],
        "LightningDetectionModel.demo_video": {"epoch": 0, "num_batches": 100, "show_video": False},
        "LightningDetectionModel.forward": ["x"],
        "LightningDetectionModel.inference_epoch_end": {"outputs": ..., "mode": "val"},
        "LightningDetectionModel.inference_step": ["batch", "batch_nb"],
        "LightningDetectionModel.load_pretrained": ["checkpoint_path"],
        "LightningDetectionModel.test_dataloader": [],
        "LightningDetectionModel.test_step": ["batch", "batch_nb"],
        "LightningDetectionModel.train_dataloader": [],
        "LightningDetectionModel.training_step": ["batch", "batch_nb"],
        "LightningDetectionModel.val_dataloader": [],
        "LightningDetectionModel.validation_step": ["batch", "batch_nb"],
        "bboxes_to_box_vectors": ["bbox"],
    },
    "losses": {
        "DetectionLoss": {"cls_loss_func": "softmax_focal_loss"},
        "DetectionLoss.forward": ["loc_preds", "loc_targets", "cls_preds", "cls_targets"],
        "reduce": {"loss": ..., "mode": "none"},
        "smooth_l1_loss": {"pred": ..., "target": ..., "beta": 0.11, "reduction": "sum"},
        "softmax_focal_loss": {"pred": ..., "target": ..., "reduction": "none"},
    },
    "rpn": {
        "BoxHead": {"in_channels": ..., "num_anchors": ..., "num_logits": ..., "n_layers": 3},
        "BoxHead.forward": ["xs"],
        "softmax_init": ["l", "num_anchors", "num_logits"],
    },
    "single_stage_detector": {
        "Detector": [],
        "SingleStageDetector": {
            "feature_extractor": ...,
            "in_channels": ...,
            "num_classes": ...,
            "feature_base": ...,
            "feature_channels_out": ...,
            "anchor_list": ...,
            "nlayers": 0,
            "max_boxes_per_input": 500,
        },
        "SingleStageDetector.forward": ["x"],
        "SingleStageDetector.map_cls_weights": ["module_src", "old_classes", "new_classes"],
    },
}

MEMBERS = [(module, member, spec) for module, members in API.items() for member, spec in members.items()]


@pytest.mark.parametrize(("module", "member", "spec"), MEMBERS, ids=[f"{m}.{n}" for m, n, _ in MEMBERS])
def test_member(module, member, spec):
    found = importlib.import_module(f"detector.{module}")
    for name in member.split("."):
        found = getattr(found, name)
    expected = spec if isinstance(spec, dict) else dict.fromkeys(spec, ...)
    empty = inspect.Parameter.empty
    # What comes after the reference's own parameters is keyword-only, so that calls by position stay valid.
    parameters = {
        name: ... if p.default is empty else p.default
        for name, p in inspect.signature(found).parameters.items()
        if p.kind is p.POSITIONAL_OR_KEYWORD and name != "self"
    }
    assert list(parameters) == list(expected)
    assert parameters == expected


def test_extractors_are_modules_and_the_model_is_of_lightning():
    import pytorch_lightning as pl

    from detector.config.extensions import FEATURE_EXTRACTORS
    from detector.lightning_model import LightningDetectionModel

    assert all(issubclass(extractor, torch.nn.Module) for extractor in FEATURE_EXTRACTORS.values())
    assert issubclass(LightningDetectionModel, pl.LightningModule)
