#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Trains the shape detector on rendered scenes and exports it as an ONNX file.

Run it without arguments for the model in ../assets. Every scene is rendered once, used
once and thrown away, so there is no data set and nothing to overfit.
"""
import argparse
import copy
import math
import os
import time

import cv2
import numpy as np
import onnx
import torch
import torch.nn.functional as F

import evaluate
import scenes
from network import Detector, STRIDES, corners

CLASSES = len(scenes.NAMES)
VALIDATION_SEED = 1_000_000_000  # training scenes' seeds lie below
CANDIDATES = 10  # cells that learn each shape


# ---------------------------------------------------------------- samples

class TrainingScenes(torch.utils.data.Dataset):
    def __init__(self, count, size, seed):
        self.count, self.size, self.seed = count, size, seed

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        seed = self.seed * 10_000_000 + index
        image, boxes, classes = scenes.make_scene(seed, self.size)
        rng = np.random.default_rng((seed, 1))
        # Whoever runs the model resizes in their own way: learn to bear several.
        resize = rng.choice((cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC))
        image, (scale, left, top) = scenes.letterbox(through_codec(rng, image), self.size, int(resize))
        boxes = boxes * np.float32(scale) + np.float32([left, top, left, top])
        return image.transpose(2, 0, 1), boxes, classes


def through_codec(rng, image):
    """The picture, in two of five cases with what a lossy codec does to it."""
    if rng.random() < 0.6:
        return image
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 95))]
    return cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)


def collate(samples):
    """Pictures as one tensor; boxes and classes as lists, since their numbers differ."""
    images, boxes, classes = zip(*samples)
    return (torch.from_numpy(np.stack(images)), [torch.from_numpy(b) for b in boxes],
            [torch.from_numpy(c) for c in classes])


def start_worker(_):
    cv2.setNumThreads(1)


# ---------------------------------------------------------------- assignment and loss

def pairwise_iou(boxes, others):
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    area, other_area = ((b[:, 2:] - b[:, :2]).prod(1) for b in (boxes, others))
    return shared / (area[:, None] + other_area[None, :] - shared + 1e-9)


def assign(predicted, scores, centres, strides, boxes, classes):
    """Which cells learn which shape, and the class score each shall reach.

    Task-aligned: of the cells whose centre lies in a shape's box, those learn it that
    already combine the best score and the best box. A cell's target score is the overlap
    of its box, so that the better of two boxes also gets the better score.
    Gives (cells, the shape of each, the target of each).
    """
    iou = pairwise_iou(boxes, predicted)
    quality = scores[:, classes].T.sqrt() * iou.pow(6)
    # A tiny box may hold no cell's centre: let it have the cells around its own.
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    reach = torch.maximum(half[:, None], strides[None, :, None] * 0.75 * (strides == 8)[None, :, None])
    inside = ((centres[None] - centre[:, None]).abs() < reach).all(2)
    quality = torch.where(inside, quality + 1e-9, torch.zeros_like(quality))

    best = quality.topk(CANDIDATES, dim=1)
    chosen = torch.zeros_like(inside).scatter_(1, best.indices, best.values > 0)
    contested = torch.where(chosen, iou + 1e-9, torch.zeros_like(iou))
    overlap, shape = contested.max(0)  # a cell wanted by several learns the one it fits best
    cells = (overlap > 0).nonzero().flatten()
    shape = shape[cells]

    won = torch.zeros_like(quality)
    won[shape, cells] = quality[shape, cells]
    best_quality = won.amax(1)
    best_iou = torch.where(won > 0, iou, torch.zeros_like(iou)).amax(1)
    target = won[shape, cells] / (best_quality[shape] + 1e-12) * best_iou[shape]
    return cells, shape, target


def complete_iou(boxes, others):
    """CIoU of boxes one to one: IoU, less distance of the centres and difference of aspect."""
    low, high = torch.maximum(boxes[:, :2], others[:, :2]), torch.minimum(boxes[:, 2:], others[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    size, other_size = boxes[:, 2:] - boxes[:, :2], others[:, 2:] - others[:, :2]
    iou = shared / (size.prod(1) + other_size.prod(1) - shared + 1e-9)
    hull = torch.maximum(boxes[:, 2:], others[:, 2:]) - torch.minimum(boxes[:, :2], others[:, :2])
    offset = (boxes[:, :2] + boxes[:, 2:] - others[:, :2] - others[:, 2:]) / 2
    distance = offset.pow(2).sum(1) / (hull.pow(2).sum(1) + 1e-9)
    slant = torch.atan(size[:, 0] / size[:, 1]) - torch.atan(other_size[:, 0] / other_size[:, 1])
    aspect = slant.pow(2) * (4 / math.pi ** 2)
    with torch.no_grad():
        weight = aspect / (1 - iou + aspect + 1e-9)
    return iou - distance - weight * aspect


def loss_of(model, images, all_boxes, all_classes):
    """(class loss, box loss) of one batch, each a sum divided by the targets' sum."""
    raw_boxes, logits = model.raw(images)
    predicted, logits = corners(raw_boxes.transpose(1, 2)), logits.transpose(1, 2)
    centres, strides = model.centres[0].T, model.strides[0, 0]
    wanted, box_loss = torch.zeros_like(logits), predicted.sum() * 0
    for index, (boxes, classes) in enumerate(zip(all_boxes, all_classes)):
        if len(boxes) == 0:
            continue
        with torch.no_grad():
            cells, shape, target = assign(
                predicted[index], logits[index].sigmoid(), centres, strides, boxes, classes)
        wanted[index, cells, classes[shape]] = target
        overlap = complete_iou(predicted[index, cells], boxes[shape])
        box_loss = box_loss + ((1 - overlap) * target).sum()
    total = wanted.sum().clamp(min=1)
    class_loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
    return class_loss / total, box_loss / total


# ---------------------------------------------------------------- training

def follow(average, model, step):
    """Moves the averaged weights, which are the ones exported, towards the model's."""
    keep = min(0.998, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), model.state_dict().values()):
        if mean.is_floating_point():
            mean.mul_(keep).add_(value, alpha=1 - keep)
        else:
            mean.copy_(value)


def learning_rate(step, steps, peak):
    """Rises over the first steps, then falls along a cosine."""
    rise = min(1.0, (step + 1) / 100)
    return peak * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def validate(model, count):
    """mAP@0.5 and mAP@0.75 on scenes that training never sees."""
    model.eval()
    truth, found = [], []
    with torch.no_grad():
        for index in range(count):
            image, boxes, classes = scenes.make_scene(VALIDATION_SEED + index, model.size)
            truth.append((boxes, classes))
            found.append(evaluate.detect(
                lambda blob: model(torch.from_numpy(blob))[0].numpy(), image, model.size))
    return [evaluate.mean_average_precision(truth, found, iou) for iou in (0.5, 0.75)]


def train(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    model = Detector(CLASSES, args.size)
    average = copy.deepcopy(model)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01},
                                   {"params": others, "weight_decay": 0.0}], lr=args.rate)
    loader = torch.utils.data.DataLoader(
        TrainingScenes(args.steps * args.batch, args.size, args.seed), args.batch,
        num_workers=args.workers, collate_fn=collate, worker_init_fn=start_worker)
    began, sums = time.monotonic(), np.zeros(2)
    for step, (images, boxes, classes) in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.rate)
        model.train()
        class_loss, box_loss = loss_of(model, images.float() / 255, boxes, classes)
        optimizer.zero_grad()
        (class_loss + 2.5 * box_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        follow(average, model, step)
        sums += (class_loss.item(), box_loss.item())
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{args.steps}  class {sums[0] / 100:.3f}  box {sums[1] / 100:.3f}"
                  f"  {time.monotonic() - began:.0f} s", flush=True)
            sums[:] = 0
        if (step + 1) % 1000 == 0 or step + 1 == args.steps:
            print("  validation mAP@0.5 {:.4f}  mAP@0.75 {:.4f}".format(*validate(average, 200)),
                  flush=True)
    return average.eval()


# ---------------------------------------------------------------- export

def export(model, path):
    """Writes the ONNX file; in eval mode the exporter folds batch norm into convolutions."""
    example = torch.zeros(1, 3, model.size, model.size)
    torch.onnx.export(
        model, example, path, opset_version=13, do_constant_folding=True,
        input_names=["images"], output_names=["output0"],
        dynamic_axes={"images": {0: "batch"}, "output0": {0: "batch"}})
    graph = onnx.load(path)
    anchors = model.strides.shape[2]
    for axis, extent in ((1, model.outputs), (2, anchors)):  # the exporter may leave them open
        graph.graph.output[0].type.tensor_type.shape.dim[axis].dim_value = extent
    graph.doc_string = "Detector of circles, squares and triangles, made for tidegate's example."
    onnx.helper.set_model_props(graph, {
        "author": "tidegate",
        "description": "shape detector trained on rendered scenes",
        "license": "BSL-1.0",
        "task": "detect",
        "names": str(dict(enumerate(scenes.NAMES))),
        "imgsz": str([model.size, model.size]),
        "stride": str(max(STRIDES)),
        "channels": "3",
        "batch": "1",
        "end2end": "False",
        "args": str({"nms": False, "dynamic": True}),
    })
    onnx.checker.check_model(graph)
    onnx.save(graph, path)
    print(f"wrote {path}, {os.path.getsize(path)} bytes")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(
        description="Trains the shape detector on rendered scenes and writes an ONNX file.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", default=os.path.relpath(os.path.join(here, "../assets/shapes.onnx")))
    parser.add_argument("--size", type=int, default=320, help="side of the network's input")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1, help="0 to 99")
    parser.add_argument("--threads", type=int, default=2, help="for the arithmetic")
    parser.add_argument("--workers", type=int, default=2, help="processes that render scenes")
    args = parser.parse_args()
    export(train(args), args.out)


if __name__ == "__main__":
    main()
