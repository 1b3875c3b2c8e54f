#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Renders scenes of circles, squares and triangles whose bounding boxes are known exactly.

`make_scene` gives single pictures to train on. `render_clip` gives frames with smooth motion;
run as a program, this file writes such a clip and its truth file. Everything is drawn from
a seed, so the same seed gives the same pictures.
"""
import argparse
import json
import math
from dataclasses import dataclass, field

import cv2
import numpy as np

NAMES = ("circle", "square", "triangle")
MIN_VISIBLE = 0.4  # truth leaves out a shape of which less than this share can be seen
PAD_VALUE = 114


@dataclass
class Shape:
    kind: int  # index into NAMES
    centre: np.ndarray  # (x, y) in pixels; pixel i spans the interval [i, i + 1]
    radius: float  # of the circle through the corners
    angle: float
    stretch: float  # of a triangle's height; 1 for the others
    colour: np.ndarray  # RGB
    shade: np.ndarray  # added to the colour from one side of the shape to the other
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))  # pixels a frame
    spin: float = 0.0  # radians a frame
    bounces: bool = True  # off the frame's edges; otherwise it leaves and a new one enters

    def outline(self):
        """The corners as an n x 2 array; a circle is a polygon of 48 corners."""
        corners = (48, 4, 3)[self.kind]
        turns = np.arange(corners) * (2 * math.pi / corners)
        points = np.stack([np.cos(turns) * self.stretch, np.sin(turns)], axis=1)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return points @ np.array([[cos, sin], [-sin, cos]]) * self.radius + self.centre


# ---------------------------------------------------------------- truth

def clip_polygon(points, width, height):
    """The part of a convex polygon inside the frame (Sutherland-Hodgman)."""
    for axis, bound, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        kept = []
        for here, there in zip(points, np.roll(points, -1, axis=0)):
            d_here, d_there = sign * (here[axis] - bound), sign * (there[axis] - bound)
            if d_here >= 0:
                kept.append(here)
            if (d_here >= 0) != (d_there >= 0):
                kept.append(here + (there - here) * (d_here / (d_here - d_there)))
        if not kept:
            return np.empty((0, 2))
        points = np.array(kept)
    return points


def polygon_area(points):
    x, y = points[:, 0], points[:, 1]
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))


def truth_of(shapes, owner):
    """Boxes and classes of the shapes that can be seen well enough.

    `owner` holds, for each pixel, the index of the shape on top. A box spans the shape's
    part inside the frame, whether or not another shape hides some of it.
    """
    height, width = owner.shape
    boxes, classes = [], []
    for index, shape in enumerate(shapes):
        outline = shape.outline()
        visible = np.count_nonzero(owner == index) / polygon_area(outline)
        inside = clip_polygon(outline, width, height)
        if visible >= MIN_VISIBLE and len(inside):
            boxes.append([*inside.min(axis=0), *inside.max(axis=0)])
            classes.append(shape.kind)
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64)


# ---------------------------------------------------------------- drawing

def blotches(rng, height, width, cells):
    """Smooth random texture, about -1..1, with roughly `cells` blotches across."""
    grid = rng.uniform(-1, 1, (max(2, cells * height // width), cells, 3)).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def make_background(rng, height, width):
    """A colour gradient with blotches, and some lines as clutter; float RGB."""
    corners = rng.uniform(20, 235, 3) + rng.uniform(-50, 50, (2, 2, 3))
    image = cv2.resize(corners.astype(np.float32), (width, height))
    for cells, strength in ((4, rng.uniform(0, 30)), (24, rng.uniform(0, 18))):
        image += blotches(rng, height, width, cells) * strength
    for _ in range(rng.integers(0, 7)):
        ends = rng.uniform(-0.1, 1.1, (2, 2)) * (width, height)
        start, end = (tuple(int(v) for v in point) for point in ends)
        cv2.line(image, start, end, rng.uniform(0, 255, 3).tolist(),
                 int(rng.integers(1, 5)), cv2.LINE_AA)
    return image


def paint(rng, image, owner, shape, index):
    """Draws one shape over the image and claims its pixels."""
    height, width = owner.shape
    outline = shape.outline()
    left, top = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 1, (width, height))
    if right <= left or bottom <= top:
        return
    mask = np.zeros((bottom - top, right - left), np.uint8)
    # OpenCV puts a pixel's centre at a whole coordinate, we put it at the half.
    fixed_point = np.round((outline - (left, top) - 0.5) * 256).astype(np.int32)
    cv2.fillPoly(mask, [fixed_point], 255, cv2.LINE_AA, 8)
    ramp = np.linspace(-0.5, 0.5, right - left, dtype=np.float32)[None, :, None]
    fill = shape.colour + ramp * shape.shade
    alpha = (mask / np.float32(255))[:, :, None]
    patch = image[top:bottom, left:right]
    patch += alpha * (fill.astype(np.float32) - patch)
    owner[top:bottom, left:right][mask > 127] = index


def render(rng, background, shapes, blur, noise):
    """The picture (uint8 RGB) of shapes over a background, later shapes on top, and its truth."""
    image = background.copy()
    owner = np.full(image.shape[:2], -1, np.int16)
    for index, shape in enumerate(shapes):
        paint(rng, image, owner, shape, index)
    if blur > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    if noise > 0:
        image += rng.standard_normal((*owner.shape, 1), dtype=np.float32) * np.float32(noise)
    boxes, classes = truth_of(shapes, owner)
    return np.clip(image, 0, 255).astype(np.uint8), boxes, classes


# ---------------------------------------------------------------- making up scenes

def pick_colour(rng, background, centre):
    """A colour that stands out from the background around the shape's centre."""
    height, width = background.shape[:2]
    x, y = np.clip(centre, 0, (width - 1, height - 1)).astype(int)
    colour = rng.uniform(0, 255, 3)
    while np.abs(colour - background[y, x]).max() < 60:
        colour = rng.uniform(0, 255, 3)
    return colour


def random_shape(rng, background, kind, centre, radius):
    return Shape(
        kind=kind, centre=np.array(centre, float), radius=radius,
        angle=rng.uniform(0, 2 * math.pi),
        stretch=rng.uniform(0.85, 1.25) if NAMES[kind] == "triangle" else 1.0,
        colour=pick_colour(rng, background, centre), shade=rng.uniform(-50, 50, 3))


def make_scene(seed, input_size=320):
    """One random scene of random size and aspect ratio: picture, boxes, classes."""
    rng = np.random.default_rng(seed)
    long_side = int(rng.integers(320, 721))
    short_side = int(long_side * rng.choice((9 / 16, 9 / 16, 2 / 3, 3 / 4, 1.0)))
    width, height = (long_side, short_side) if rng.random() < 0.8 else (short_side, long_side)
    background = make_background(rng, height, width)
    scale = long_side / input_size  # radii below are in pixels of the network's input
    shapes = []
    for _ in range(rng.integers(0, 11)):
        radius = scale * math.exp(rng.uniform(math.log(7), math.log(60)))
        radius = min(radius, 0.45 * short_side)
        centre = rng.uniform((-0.3 * radius,) * 2, (width + 0.3 * radius, height + 0.3 * radius))
        kind = int(rng.integers(len(NAMES)))
        shapes.append(random_shape(rng, background, kind, centre, radius))
    return render(rng, background, shapes, blur=rng.uniform(0, 1.2), noise=rng.uniform(0, 10))


# ---------------------------------------------------------------- the network's input

def letterbox(image, size, interpolation=cv2.INTER_LINEAR):
    """Ultralytics' preparation: fit into size x size, centred, padded with grey 114.

    Gives the picture and (scale, left, top), so that input = source * scale + (left, top).
    """
    height, width = image.shape[:2]
    scale = min(size / width, size / height)
    new_width, new_height = round(width * scale), round(height * scale)  # half to even
    left, top = (round((size - new) / 2 - 0.1) for new in (new_width, new_height))
    padded = np.full((size, size, 3), PAD_VALUE, np.uint8)
    padded[top:top + new_height, left:left + new_width] = cv2.resize(
        image, (new_width, new_height), interpolation=interpolation)
    return padded, (scale, left, top)


# ---------------------------------------------------------------- clips

def launch(rng, background, kind, entering):
    """A moving shape: somewhere inside the frame, or just outside and on its way in."""
    height, width = background.shape[:2]
    radius = rng.uniform(0.06, 0.19) * height
    centre = rng.uniform((radius, radius), (width - radius, height - radius))
    speed, heading = rng.uniform(1.0, 4.5), rng.uniform(0, 2 * math.pi)
    velocity = speed * np.array([math.cos(heading), math.sin(heading)])
    if entering:
        from_left = rng.random() < 0.5
        centre[0] = -radius if from_left else width + radius
        velocity[0] = (1 if from_left else -1) * max(1.5, abs(velocity[0]))
        velocity[1] *= 0.3  # mostly across, so that it stays for a while
    shape = random_shape(rng, background, kind, centre, radius)
    shape.velocity, shape.spin = velocity, rng.uniform(-0.05, 0.05)
    shape.bounces = rng.random() < 0.5
    return shape


def advance(rng, background, shape):
    """The shape one frame later; a new one of its kind when it has left the frame."""
    height, width = background.shape[:2]
    shape.centre = shape.centre + shape.velocity
    shape.angle += shape.spin
    for axis, bound in ((0, width), (1, height)):
        low, high = shape.radius, bound - shape.radius
        if shape.bounces and not low <= shape.centre[axis] <= high:
            inward = 1 if shape.centre[axis] < low else -1
            shape.velocity[axis] = inward * abs(shape.velocity[axis])
    reach = shape.radius + 1
    gone = np.any(shape.centre < -reach) or np.any(shape.centre > (width + reach, height + reach))
    return launch(rng, background, shape.kind, entering=True) if gone else shape


def render_clip(seed, frames, width=640, height=360, shape_count=7):
    """Yields (picture, boxes, classes) for each frame of a clip."""
    rng = np.random.default_rng(seed)
    background = make_background(rng, height, width)
    shapes = [launch(rng, background, index % len(NAMES), entering=False)
              for index in range(shape_count)]
    for _ in range(frames):
        yield render(rng, background, shapes, blur=0.6, noise=1.0)
        shapes = [advance(rng, background, shape) for shape in shapes]


def truth_line(frame, boxes, classes):
    detections = [{"class": int(kind), "name": NAMES[kind], "box": [round(float(v), 2) for v in box]}
                  for box, kind in zip(boxes, classes)]
    return json.dumps({"frame": frame, "detections": detections})


def write_clip(args):
    size = (args.width, args.height)
    writer = cv2.VideoWriter(args.video, cv2.VideoWriter_fourcc(*"mp4v"), args.fps, size)
    if not writer.isOpened():
        raise SystemExit(f"cannot write {args.video}")
    with open(args.truth, "w") as truth:
        clip = render_clip(args.seed, args.frames, *size)
        for frame, (image, boxes, classes) in enumerate(clip):
            writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            truth.write(truth_line(frame, boxes, classes) + "\n")
    writer.release()


def main():
    parser = argparse.ArgumentParser(
        description="Writes a clip of moving shapes and its truth (one JSON line a frame).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--video", default="shapes.mp4", help="MPEG-4 file to write")
    parser.add_argument("--truth", default="shapes_truth.jsonl", help="truth file to write")
    parser.add_argument("--seed", type=int, default=2_000_000_011,
                        help="training uses seeds below 1000000000; stay above")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--fps", type=float, default=25)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=360)
    write_clip(parser.parse_args())


if __name__ == "__main__":
    main()
