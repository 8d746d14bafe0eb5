#!/usr/bin/env python3
"""QuaRot with GPTQ, in PyTorch, at the bits of comet's mixed mode: the baseline that
engine/quantizer/README.md compares with.

    scripts/quarot_baseline.py MODEL.gguf IDS.npy CALIBRATION_IDS.npy [WINDOWS]

MODEL.gguf is SmolLM2-135M-Instruct (Q4_1), rescaled as `comet quantize --rescale-seed 1` does; the
others are int32 token ids: of the text to measure, in windows of 2,048, and of the text to calibrate
on, in windows of 512. Needs a GPU, torch, numpy. Prints perplexity over float.

The residual stream and each value head go into a randomised Hadamard basis, folded offline; keys and
queries get a Hadamard after RoPE, down_proj's input a full one online (arXiv:2404.00456). Weights: 4
bits, symmetric, one real step for each 128 inputs of a row, the best of a grid of clips, then GPTQ
(arXiv:2210.17323) on float activations, damping 0.1. LM head: INT8 rows. Activations: per token,
INT4 but for the channels of largest magnitude, as many as comet holds in INT8 at 89.6 % INT4.
"""
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F

DEVICE = "cuda"
HEADS, KV_HEADS, HEAD_DIM, HIDDEN, FFN = 9, 3, 64, 576, 1536
EPSILON, THETA, GROUP = 1e-5, 1e5, 128
CLIPS = [1.0 - 0.05 * i for i in range(11)]
MASK = (1 << 64) - 1


def mix_bits(x):  # SplitMix64, as kernels/base/random.h
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


class Factors:
    """The rescaling's random factors of one layer (engine/loader/rescaled_source.cc)."""

    def __init__(self, seed):
        self.state = mix_bits(seed)

    def next(self, count):
        values = []
        for _ in range(count):
            values.append(0.7 + 0.7 * (mix_bits(self.state) >> 40) * 2.0**-24)
            self.state = (self.state + 1) & MASK
        return torch.tensor(values, device=DEVICE)


def read_gguf(path):
    data = np.fromfile(path, dtype=np.uint8)
    place = 8

    def number(size):
        nonlocal place
        value = int.from_bytes(data[place : place + size].tobytes(), "little")
        place += size
        return value

    def text():
        nonlocal place
        size = number(8)
        value = data[place : place + size].tobytes().decode("utf8", "replace")
        place += size
        return value

    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def skip(kind):
        nonlocal place
        if kind == 8:
            text()
        elif kind == 9:
            item, count = number(4), number(8)
            for _ in range(count):
                skip(item)
        else:
            place += sizes[kind]

    num_tensors, num_keys = number(8), number(8)
    for _ in range(num_keys):
        text()
        skip(number(4))
    infos = []
    for _ in range(num_tensors):
        name = text()
        shape = [number(8) for _ in range(number(4))]
        infos.append((name, shape[::-1], number(4), number(8)))
    base = (place + 31) // 32 * 32
    tensors = {}
    for name, shape, kind, offset in infos:
        count, first = math.prod(shape), base + offset
        if kind == 0:
            values = data[first : first + 4 * count].view(np.float32)
        else:  # Q4_1 or Q8_0, 32 values a block
            size = {3: 20, 8: 34}[kind]
            rows = data[first : first + count // 32 * size].reshape(-1, size)
            scale = rows[:, :2].copy().view(np.float16).astype(np.float32)
            if kind == 3:
                low = rows[:, 2:4].copy().view(np.float16).astype(np.float32)
                values = np.concatenate([rows[:, 4:] & 15, rows[:, 4:] >> 4], 1) * scale + low
            else:
                values = rows[:, 2:].copy().view(np.int8) * scale
        tensors[name] = torch.from_numpy(values.reshape(shape).astype(np.float32)).to(DEVICE)
    return tensors


def split_half(rows, heads):  # GGUF's interleaved rotary pairs
    return rows.reshape(heads, HEAD_DIM // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def hadamard(n):
    matrix = torch.ones(1, 1, device=DEVICE)
    while matrix.shape[0] < n:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(n)


def hadamard_12():
    squares, matrix = {1, 3, 4, 5, 9}, torch.ones(12, 12, device=DEVICE)  # Paley
    matrix[1:, 0] = -1
    for i in range(11):
        for j in range(11):
            matrix[i + 1, j + 1] = 1 if i == j or (j - i) % 11 in squares else -1
    return matrix / math.sqrt(12)


def random_hadamard(n, seed):
    generator = torch.Generator().manual_seed(seed)
    signs = (torch.randint(0, 2, (n,), generator=generator) * 2 - 1).float().to(DEVICE)
    if n == HIDDEN:
        matrix = torch.kron(torch.kron(hadamard_12(), hadamard_12()), hadamard(4))
    elif n == FFN:
        matrix = torch.kron(hadamard_12(), hadamard(128))
    else:
        matrix = hadamard(n)
    return signs[:, None] * matrix


def load_layers(tensors):
    """Layers with their norms folded in, rescaled and rotated; embedding and head likewise."""
    rotation = random_hadamard(HIDDEN, 1)
    embedding = tensors["token_embd.weight"]
    head = embedding * tensors["output_norm.weight"] @ rotation
    layers = []
    for i in range(30):
        get = lambda name: tensors[f"blk.{i}.{name}.weight"]
        value, out, up, down = get("attn_v"), get("attn_output"), get("ffn_up"), get("ffn_down")
        qk = torch.cat([split_half(get("attn_q"), HEADS), split_half(get("attn_k"), KV_HEADS)])
        factors = Factors(1_000_003 + i)
        factors.next(2 * HIDDEN)  # Of the norms: folding takes them away again.
        of_up, of_values = factors.next(FFN), factors.next(KV_HEADS * HEAD_DIM)
        up, down, value = up * of_up[:, None], down / of_up, value * of_values[:, None]
        out = out / of_values.reshape(KV_HEADS, HEAD_DIM).repeat_interleave(3, 0).reshape(-1)
        value, out = value.reshape(KV_HEADS, HEAD_DIM, -1), out.reshape(HIDDEN, KV_HEADS, 3, HEAD_DIM)
        bases = torch.stack([random_hadamard(HEAD_DIM, head) for head in range(KV_HEADS)])
        value = (bases.transpose(1, 2) @ value).reshape(-1, HIDDEN)
        out = torch.einsum("nhgd,hde->nhge", out, bases).reshape(HIDDEN, HIDDEN)
        norm, post_norm = get("attn_norm"), get("ffn_norm")
        layers.append({
            "qkv": torch.cat([qk, value]) * norm @ rotation,
            "o": rotation.T @ out,
            "gate_up": torch.cat([get("ffn_gate"), up]) * post_norm @ rotation,
            "down": rotation.T @ down @ random_hadamard(FFN, 5),
        })
    return embedding @ rotation, head, layers


def norm(hidden):
    return hidden * torch.rsqrt(hidden.pow(2).mean(-1, True) + EPSILON)


def rope(x):
    frequencies = THETA ** (-torch.arange(0, HEAD_DIM, 2, device=DEVICE).double() / HEAD_DIM)
    angles = torch.arange(x.shape[1], device=DEVICE).double()[:, None] * frequencies
    cos, sin = angles.cos().float()[None, :, None], angles.sin().float()[None, :, None]
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def round_cache(x, bits):
    if bits == 16:
        return x
    low, high = x.amin(-1, True), x.amax(-1, True)
    step, low = ((high - low) / (2**bits - 1)).half().float(), low.half().float()
    return ((x - low) / step.clamp_min(1e-30)).round().clamp(0, 2**bits - 1) * step + low


def round_activations(x, num_int4, clip, mode):
    """The codes of kernels/ops/linear_input.h, as values."""
    if mode == "float":
        return x
    limit = 7 if mode == "mixed" else 127
    max_8 = x[..., num_int4:].abs().amax(-1, True)
    if num_int4 == 0:
        step, ratio = max_8 / 127, 1.0
    else:
        step = (clip if mode == "mixed" else 1.0) * x[..., :num_int4].abs().amax(-1, True) / limit
        step = step.clamp_min(1e-30)
        ratio = 2 ** torch.ceil(torch.log2((max_8 / (127 * step)).clamp_min(1e-30))).clamp(0, 7)
        step = torch.where(max_8 > 127 * step * ratio, max_8 / 127 / ratio, step)
    step = step.clamp_min(1e-30)
    low = (x[..., :num_int4] / step).round().clamp(-limit, limit) * step
    high = (x[..., num_int4:] / (step * ratio)).round().clamp(-127, 127) * (step * ratio)
    return torch.cat([low, high], -1)


def attend(qkv, kv_bits):
    heads = qkv.reshape(*qkv.shape[:2], HEADS + 2 * KV_HEADS, HEAD_DIM)
    q, k, v = heads.split([HEADS, KV_HEADS, KV_HEADS], 2)
    q, k = rope(q), rope(k)
    if kv_bits < 16:
        k = round_cache(k @ hadamard(HEAD_DIM), kv_bits) @ hadamard(HEAD_DIM)
    k, v = (x.transpose(1, 2).repeat_interleave(3, 1) for x in (k, round_cache(v, kv_bits)))
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, is_causal=True)
    return out.transpose(1, 2).reshape(*qkv.shape[:2], HIDDEN)


def silu_mul(gate_up):
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up @ random_hadamard(FFN, 5)


class Linear:
    def __init__(self, weights, inputs, weighting):
        """Quantises weights [N, K] on inputs [T, K], tokens weighed by one over `weighting`'s mean
        square."""
        channels = weights.shape[1]
        self.num_int4 = (channels // GROUP - (channels == FFN)) * GROUP
        scaled = inputs * torch.rsqrt(weighting.pow(2).mean(-1, True))
        gram = scaled.T @ scaled
        order = inputs.abs().amax(0).argsort()
        low, high = order[: self.num_int4], order[self.num_int4 :]
        activity = gram.diagonal()
        by_activity = lambda part: part[activity[part].argsort(descending=True)]
        self.order = torch.cat([by_activity(low), by_activity(high)])
        gram = gram[self.order][:, self.order] * channels / activity.sum()
        gram.diagonal().add_(0.1)
        permuted = weights[:, self.order]
        self.weights = gptq(permuted, gram, best_steps(permuted, gram.diagonal()))
        sample = inputs[:: max(inputs.shape[0] // 256, 1)]
        expected = sample @ weights.T
        errors = []
        for self.clip in CLIPS:
            errors.append((self(sample, "mixed") - expected).pow(2).sum().item())
        self.clip = CLIPS[errors.index(min(errors))]

    def __call__(self, x, mode):
        rounded = round_activations(x[..., self.order], self.num_int4, self.clip, mode)
        return rounded @ self.weights.T


def best_steps(weights, importance):
    """[N, groups]: over both signs and a grid of clips."""
    groups = F.pad(weights, (0, -weights.shape[1] % GROUP)).reshape(weights.shape[0], -1, GROUP)
    importance = F.pad(importance, (0, -importance.shape[0] % GROUP)).reshape(1, -1, GROUP)
    best, best_error = None, None
    for sign in (1.0, -1.0):
        whole = torch.maximum((-sign * groups).amax(-1) / 8, (sign * groups).amax(-1) / 7)
        for i in range(17):
            step = sign * whole.clamp_min(1e-12) * 0.965**i
            codes = (groups / step[..., None]).round().clamp(-8, 7)
            error = (importance * (groups - codes * step[..., None]) ** 2).sum(-1)
            is_better = torch.ones_like(error, dtype=bool) if best is None else error < best_error
            best = torch.where(is_better, step, step if best is None else best)
            best_error = torch.where(is_better, error, error if best_error is None else best_error)
    return best


def gptq(weights, gram, steps):
    """Channels by falling activity; each one's error goes to those still to come."""
    order = gram.diagonal().argsort(descending=True)
    inverse = torch.linalg.inv(gram[order][:, order].double())
    spread = torch.linalg.cholesky(inverse, upper=True).float()
    values, rounded = weights[:, order].clone(), torch.zeros_like(weights)
    for i, channel in enumerate(order.tolist()):
        step = steps[:, channel // GROUP]
        rounded[:, channel] = (values[:, i] / step).round().clamp(-8, 7) * step
        error = (values[:, i] - rounded[:, channel]) / spread[i, i]
        values[:, i + 1 :] -= error[:, None] * spread[i, i + 1 :]
    return rounded


def quantize(layers, hidden):
    flat = lambda x: x.reshape(-1, x.shape[-1])
    result = []
    for layer in layers:
        made = {}
        x = norm(hidden)
        made["qkv"] = Linear(layer["qkv"], flat(x), flat(x))
        x = attend(x @ layer["qkv"].T, 16)
        hidden = hidden + x @ layer["o"].T
        made["o"] = Linear(layer["o"], flat(x), flat(hidden))
        x = norm(hidden)
        made["gate_up"] = Linear(layer["gate_up"], flat(x), flat(x))
        x = silu_mul(x @ layer["gate_up"].T)
        hidden = hidden + x @ layer["down"].T
        made["down"] = Linear(layer["down"], flat(x), flat(hidden))
        result.append(made)
    return result


def perplexity(embedding, head, layers, ids, mode, kv_bits):
    apply = (lambda w, x: x @ w.T) if mode == "none" else (lambda w, x: w(x, mode))
    total, count = 0.0, 0
    for window in ids.split(4):
        hidden = embedding[window]
        for layer in layers:
            hidden = hidden + apply(layer["o"], attend(apply(layer["qkv"], norm(hidden)), kv_bits))
            hidden = hidden + apply(layer["down"], silu_mul(apply(layer["gate_up"], norm(hidden))))
        for row, targets in zip(norm(hidden), window):
            row = row if mode == "none" else round_activations(row, 0, 1.0, "8")
            log_p = (row @ head.T).log_softmax(-1)[:-1]
            total -= log_p.gather(1, targets[1:, None]).double().sum().item()
            count += targets.numel() - 1
    return math.exp(total / count)


@torch.no_grad()
def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    windows = int(sys.argv[4]) if len(sys.argv) > 4 else 16
    load_ids = lambda path, size, count: torch.from_numpy(
        np.load(path)[: count * size].astype(np.int64)).to(DEVICE).reshape(-1, size)
    ids = load_ids(sys.argv[2], 2048, windows)
    calibration = load_ids(sys.argv[3], 512, np.load(sys.argv[3]).size // 512)
    embedding, head, layers = load_layers(read_gguf(sys.argv[1]))
    reference = perplexity(embedding, head, layers, ids, "none", 16)
    print(f"float {reference:.3f}")
    quantized = quantize(layers, embedding[calibration])
    step = head.abs().amax(1, True) / 127
    head = (head / step).round() * step
    for mode, kv_bits in (("8", 16), ("8", 4), ("mixed", 4)):
        value = perplexity(embedding.half().float(), head, quantized, ids, mode, kv_bits)
        print(f"activations {mode}, KV {kv_bits}: {value:.3f} ({100 * (value / reference - 1):+.1f} %)")


main()
