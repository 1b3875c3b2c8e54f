#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Measures detections against truth: mAP at an overlap (IoU) of 0.5, all-point interpolation.

As a program it reads a truth file and either a file of detections made by someone else, or
a model and a clip to run it on. `train.py` uses its functions to watch the training.
"""
import argparse
import json

import cv2
import numpy as np

import scenes


# ---------------------------------------------------------------- from output to detections

def box_iou(boxes, others):
    """The overlap of every box with every other one: len(boxes) x len(others)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area, other_area = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others))
    return shared / np.maximum(area[:, None] + other_area[None, :] - shared, 1e-9)


def suppress(boxes, scores, classes, max_overlap):
    """Indices of the boxes kept, best first: of one class, no two overlap by more."""
    apart = classes[:, None] * 1e4  # moves the classes so far apart that they never overlap
    waiting, kept = np.argsort(-scores, kind="stable"), []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        overlap = box_iou((boxes + apart)[[best]], (boxes + apart)[waiting])[0]
        waiting = waiting[overlap <= max_overlap]
    return kept


def detect(predict, image, size, min_score=0.01, max_overlap=0.5):
    """Detections in one RGB picture as (boxes in its pixels, scores, classes).

    `predict` takes the network's input, 1 x 3 x size x size, and gives (4 + classes) x anchors.
    """
    padded, (scale, left, top) = scenes.letterbox(image, size)
    blob = padded.transpose(2, 0, 1)[None].astype(np.float32) / 255
    rows = predict(blob)
    scores, classes = rows[4:].max(axis=0), rows[4:].argmax(axis=0)
    good = scores >= min_score
    scores, classes, (x, y, w, h) = scores[good], classes[good], rows[:4, good]
    boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
    boxes = (boxes - (left, top, left, top)) / scale
    height, width = image.shape[:2]
    boxes = np.clip(boxes, 0, (width, height, width, height))
    kept = suppress(boxes, scores, classes, max_overlap)
    return boxes[kept], scores[kept], classes[kept]


# ---------------------------------------------------------------- from detections to numbers

def match(truth_boxes, boxes, min_iou):
    """For detections in order of score, whether each finds a box not found before."""
    free, hits = np.ones(len(truth_boxes), bool), np.zeros(len(boxes), bool)
    if len(truth_boxes) == 0:
        return hits
    for index, overlaps in enumerate(box_iou(boxes, truth_boxes)):
        best = np.argmax(np.where(free, overlaps, -1))
        if free[best] and overlaps[best] >= min_iou:
            free[best], hits[index] = False, True
    return hits


def average_precision(hits, scores, truth_count):
    """The area under the precision-recall curve, each precision raised to the best after it."""
    hits = hits[np.argsort(-scores, kind="stable")]
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits].sum() / truth_count)


def precision_per_class(truth, detections, min_iou=0.5):
    """{class: average precision} over frames.

    `truth` holds (boxes, classes) and `detections` (boxes, scores, classes), frame by frame.
    """
    result = {}
    for kind in range(len(scenes.NAMES)):
        all_hits, all_scores, count = [], [], 0
        for (truth_boxes, truth_classes), (boxes, scores, classes) in zip(truth, detections):
            wanted, mine = truth_boxes[truth_classes == kind], classes == kind
            order = np.argsort(-scores[mine], kind="stable")
            all_hits.append(match(wanted, boxes[mine][order], min_iou))
            all_scores.append(scores[mine][order])
            count += len(wanted)
        if count:
            result[kind] = average_precision(
                np.concatenate(all_hits), np.concatenate(all_scores), count)
    return result


def mean_average_precision(truth, detections, min_iou=0.5):
    return float(np.mean(list(precision_per_class(truth, detections, min_iou).values())))


# ---------------------------------------------------------------- files

def read_lines(path):
    """{frame: list of detections} from a file with a JSON object on each line."""
    with open(path) as lines:
        records = [json.loads(line) for line in lines if line.strip()]
    return {record["frame"]: record["detections"] for record in records}


def arrays_of(detections):
    """(boxes, scores, classes) of one frame's list; truth has no scores and gets ones."""
    boxes = np.array([d["box"] for d in detections], float).reshape(-1, 4)
    scores = np.array([d.get("score", 1.0) for d in detections], float)
    return boxes, scores, np.array([d["class"] for d in detections], int)


def read_clip(path):
    """Yields a clip's frames as RGB pictures."""
    capture = cv2.VideoCapture(path)
    while True:
        ok, image = capture.read()
        if not ok:
            return
        yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def detections_of_model(model, clip, size):
    """Runs an ONNX model over a clip with OpenCV: {frame: list of detections}."""
    network = cv2.dnn.readNetFromONNX(model)

    def predict(blob):
        network.setInput(blob)
        return network.forward()[0]

    result = {}
    for frame, image in enumerate(read_clip(clip)):
        result[frame] = [
            {"class": int(kind), "name": scenes.NAMES[kind], "score": round(float(score), 4),
             "box": [round(float(v), 2) for v in box]}
            for box, score, kind in zip(*detect(predict, image, size))]
    return result


def report(truth_by_frame, found_by_frame):
    """Prints the numbers; a frame without a line of detections counts as one without any."""
    frames = sorted(truth_by_frame)
    truth = [arrays_of(truth_by_frame[frame])[::2] for frame in frames]
    found = [arrays_of(found_by_frame.get(frame, [])) for frame in frames]
    print(f"{len(frames)} frames, {sum(len(boxes) for boxes, _ in truth)} shapes")
    for kind, value in precision_per_class(truth, found).items():
        print(f"AP@0.5  {scenes.NAMES[kind]:10s} {value:.4f}")
    print(f"mAP@0.5 {'all':10s} {mean_average_precision(truth, found):.4f}")


def main():
    parser = argparse.ArgumentParser(
        description="mAP@0.5 of detections, or of a model run over a clip, against truth.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--truth", required=True, help="truth of the clip, a JSON line a frame")
    parser.add_argument("--detections", help='like the truth, each box with a "score"')
    parser.add_argument("--model", help="ONNX model to run over --clip")
    parser.add_argument("--clip", help="video file for --model")
    parser.add_argument("--size", type=int, default=320, help="input size of --model")
    parser.add_argument("--write", help="file to write the detections of --model to")
    args = parser.parse_args()
    if bool(args.detections) == bool(args.model and args.clip):
        parser.error("give either --detections, or --model and --clip")
    found = (read_lines(args.detections) if args.detections
             else detections_of_model(args.model, args.clip, args.size))
    if args.write:
        with open(args.write, "w") as out:
            out.writelines(json.dumps({"frame": frame, "detections": boxes}) + "\n"
                           for frame, boxes in found.items())
    report(read_lines(args.truth), found)


if __name__ == "__main__":
    main()
