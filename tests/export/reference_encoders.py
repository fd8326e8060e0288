"""The pSp family's encoders the slow way: every layer as the files name it, nothing folded.

Only for comparison with ``doppelgan.export.networks.encoders``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def encode(e: State, kind: str, n_styles: int, x: Tensor) -> Tensor:
    """Encoder output before latent_avg is added: [N, n_styles, w_dim]."""

    def bn(x: Tensor, name: str) -> Tensor:
        mean, var = e[f"{name}.running_mean"], e[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, e[f"{name}.weight"], e[f"{name}.bias"], False, 0.0, 1e-5)

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = e[f"{name}.weight"]
        return F.conv2d(x, weight, e.get(f"{name}.bias"), stride, weight.shape[2] // 2)

    def linear(x: Tensor, name: str) -> Tensor:
        weight = e[f"{name}.weight"]
        return x @ (weight / math.sqrt(weight.shape[1])).t() + e[f"{name}.bias"]

    def ir_se_unit(x: Tensor, name: str, stride: int) -> Tensor:
        r = f"{name}.res_layer"
        y = F.prelu(conv(bn(x, f"{r}.0"), f"{r}.1"), e[f"{r}.2.weight"])
        y = bn(conv(y, f"{r}.3", stride), f"{r}.4")
        gate = F.adaptive_avg_pool2d(y, 1)
        y = y * torch.sigmoid(conv(F.relu(conv(gate, f"{r}.5.fc1")), f"{r}.5.fc2"))
        if f"{name}.shortcut_layer.0.weight" in e:
            return y + bn(conv(x, f"{name}.shortcut_layer.0", stride), f"{name}.shortcut_layer.1")
        return y + F.max_pool2d(x, 1, stride)

    def resnet_unit(x: Tensor, name: str, stride: int) -> Tensor:
        y = F.relu(bn(conv(x, f"{name}.conv1", stride), f"{name}.bn1"))
        y = bn(conv(y, f"{name}.conv2"), f"{name}.bn2")
        if f"{name}.downsample.0.weight" in e:
            x = bn(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
        return F.relu(x + y)

    def head(x: Tensor, j: int) -> Tensor:
        i = 0
        while f"styles.{j}.convs.{i}.weight" in e:
            x = F.leaky_relu(conv(x, f"styles.{j}.convs.{i}", 2), 0.01)
            i += 2
        return linear(x.flatten(1), f"styles.{j}.linear")

    # Trunk
    resnet = kind.startswith("ResNet")
    if resnet:
        x = F.prelu(bn(conv(x, "conv1", 2), "bn1"), e["relu.weight"])
        strided, tapped = {3, 7, 13}, {6, 12, 15}
    else:
        x = F.prelu(bn(conv(x, "input_layer.0"), "input_layer.1"), e["input_layer.2.weight"])
        strided, tapped = {0, 3, 7, 21}, {6, 20, 23}
    maps = []
    for i in range(max(tapped) + 1):
        unit = resnet_unit if resnet else ir_se_unit
        x = unit(x, f"body.{i}", 2 if i in strided else 1)
        if i in tapped:
            maps.append(x)

    # Tail
    if kind in ("BackboneEncoderUsingLastLayerIntoW", "SingleStyleCodeEncoder"):
        w = linear(F.adaptive_avg_pool2d(x, 1).flatten(1), "linear")
        return w[:, None].repeat(1, n_styles, 1)
    if kind == "BackboneEncoderUsingLastLayerIntoWPlus":
        y = F.adaptive_avg_pool2d(bn(x, "output_layer_2.0"), 7).flatten(1)
        y = F.linear(y, e["output_layer_2.3.weight"], e["output_layer_2.3.bias"])
        return linear(y, "linear").view(len(x), n_styles, -1)
    features = [x] * n_styles
    if "latlayer1.weight" in e:
        c1, c2, c3 = maps
        p2 = F.interpolate(c3, c2.shape[2:], mode="bilinear", align_corners=True) + conv(c2, "latlayer1")
        p1 = F.interpolate(p2, c1.shape[2:], mode="bilinear", align_corners=True) + conv(c1, "latlayer2")
        features = [c3 if j < 3 else p2 if j < 7 else p1 for j in range(n_styles)]
    codes = [head(f, j) for j, f in enumerate(features)]
    if kind == "Encoder4Editing" or "Progressive" in kind:
        codes = [codes[0]] + [codes[0] + delta for delta in codes[1:]]
    return torch.stack(codes, dim=1)
