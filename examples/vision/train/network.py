# SPDX-License-Identifier: BSL-1.0
"""The detector network: small, convolutional, without anchor boxes, and with YOLOv8's output."""
import math

import torch
from torch import nn

STRIDES = (8, 16, 32)


class ConvBlock(nn.Sequential):
    def __init__(self, inputs, outputs, kernel=3, stride=1):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True))


class Bottleneck(nn.Module):
    """Two convolutions over half the channels, added to what came in."""

    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(ConvBlock(channels, channels // 2),
                                  ConvBlock(channels // 2, channels))

    def forward(self, x):
        return x + self.body(x)


class Detector(nn.Module):
    """Pictures (n, 3, size, size), RGB 0..1, to (n, 4 + classes, anchors).

    An anchor is a cell of the stride 8, 16 or 32 grid. Its rows are the box's centre x,
    centre y, width and height in input pixels, then one score from 0 to 1 for each class.
    """

    def __init__(self, classes, size=320, widths=(16, 24, 32, 64, 96), neck=32):
        super().__init__()
        first, second, *levels = widths
        self.outputs = 4 + classes
        self.size = size
        self.stem = nn.Sequential(ConvBlock(3, first, stride=2), ConvBlock(first, second, stride=2))
        inputs = (second, *levels)
        self.stages = nn.ModuleList(
            nn.Sequential(ConvBlock(before, after, stride=2), Bottleneck(after))
            for before, after in zip(inputs, levels))
        self.laterals = nn.ModuleList(ConvBlock(width, neck, kernel=1) for width in levels)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.heads = nn.ModuleList(
            nn.Sequential(ConvBlock(neck, neck), nn.Conv2d(neck, self.outputs, 1)) for _ in levels)
        self.register_anchors()
        self.start_with_few_detections()

    def register_anchors(self):
        """Cell centres (1 x 2 x anchors) and strides (1 x 4 x anchors), constants of the graph.

        Strides are repeated for the four sides since OpenCV 4.6 does not broadcast them.
        """
        centres, strides = [], []
        for stride in STRIDES:
            steps = (torch.arange(self.size // stride) + 0.5) * stride
            y, x = torch.meshgrid(steps, steps, indexing="ij")
            centres.append(torch.stack([x.flatten(), y.flatten()]))
            strides.append(torch.full((1, x.numel()), float(stride)))
        self.register_buffer("centres", torch.cat(centres, 1)[None], persistent=False)
        self.register_buffer("strides", torch.cat(strides, 1)[None].repeat(1, 4, 1), persistent=False)

    def start_with_few_detections(self):
        """Starting biases: boxes of 4 cells' side, scores of one percent."""
        for head in self.heads:
            nn.init.constant_(head[-1].bias[:4], math.log(2))
            nn.init.constant_(head[-1].bias[4:], math.log(0.01 / 0.99))

    def raw(self, images):
        """Boxes (n, 4, anchors) as centre and size in pixels, and the classes' logits."""
        features, x = [], self.stem(images)
        for stage, lateral in zip(self.stages, self.laterals):
            x = stage(x)
            features.append(lateral(x))
        for level in (1, 0):  # coarse levels tell the finer ones what surrounds a cell
            features[level] = features[level] + self.upsample(features[level + 1])
        # Counts and slices are constants, so that the exported graph computes no shapes.
        flat = [head(feature).reshape(-1, self.outputs, (self.size // stride) ** 2)
                for head, feature, stride in zip(self.heads, features, STRIDES)]
        rows = torch.cat(flat, 2)
        logits = rows[:, 4:self.outputs]
        # Distances from the cell's centre to the box's left, top, right and bottom.
        distances = rows[:, 0:4].exp() * self.strides
        left_top, right_bottom = distances[:, 0:2], distances[:, 2:4]
        centre = self.centres + (right_bottom - left_top) * 0.5
        return torch.cat([centre, left_top + right_bottom], 1), logits

    def forward(self, images):
        boxes, logits = self.raw(images)
        return torch.cat([boxes, logits.sigmoid()], 1)


def corners(boxes):
    """Centre and size to left, top, right and bottom, in the last axis."""
    centre, size = boxes.chunk(2, -1)
    return torch.cat([centre - size / 2, centre + size / 2], -1)
