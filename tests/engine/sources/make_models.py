"""Small random models in every form that comet reads, and the logits that transformers computes of them.

Writes a folder or a file for each case, and beside it what to expect:

    python make_models.py FOLDER [SEED]

tests/engine/model/source_logits_test.cc compares; it reads what is committed in models/ (seed 1), or the
folder that COMET_SOURCE_MODELS names. scripts/test.sh --all makes models of another seed and has it read
those. Needs requirements.txt beside this file.
"""

import json
import pathlib
import sys

import gguf
import numpy as np
import safetensors.torch
import torch
import transformers
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

NUM_TOKENS = 24
LOGIT_ROWS = [0, 9, 16, 23]
VOCAB_SIZE = 48
SMALL = dict(vocab_size=VOCAB_SIZE, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
             num_attention_heads=4, max_position_embeddings=64, rms_norm_eps=1e-5, initializer_range=0.3,
             attn_implementation="eager", bos_token_id=0, eos_token_id=1)
# Rows of several groups, and groups of whole words.
PACKED = dict(SMALL, hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_key_value_heads=2,
              initializer_range=0.1)
TOKENIZER = {
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [{"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
                      "normalized": False, "special": True} for i, text in enumerate(["<s>", "</s>"])],
    "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                      "use_regex": True},
    "post_processor": None,
    "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
              "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
              "vocab": {"<s>": 0, "</s>": 1, **{chr(ord("a") + i): 2 + i for i in range(26)}, "ab": 28},
              "merges": ["a b"]}}
LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
YARN_ROPE = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
             "original_max_position_embeddings": 16}


class Case:
    """One model: its float weights as they are stored, and its config.json."""

    def __init__(self, architecture, seed, dtype, sizes=SMALL, **config):
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        config_class = getattr(transformers, architecture + "Config")
        self.model = getattr(transformers, architecture + "ForCausalLM")(config_class(**{**sizes, **config}))
        for name, value in self.model.named_parameters():
            with torch.no_grad():  # Norms and biases that are not all ones and zeros.
                if value.ndim == 1:
                    value.copy_(torch.randn_like(value) * 0.3 + (1.0 if "norm" in name else 0.0))
                value.copy_(value.to(dtype).float())
        self.dtype = dtype
        self.tied = self.model.config.tie_word_embeddings
        self.config = json.loads(self.model.config.to_json_string(use_diff=False))
        self.config["architectures"] = [architecture + "ForCausalLM"]

    def tensors(self):
        """Of the type that is stored, without the head of a tied model."""
        return {name: value.to(self.dtype).contiguous() for name, value in self.model.state_dict().items()
                if not (self.tied and name == "lm_head.weight")}

    def set_weight(self, name, value):
        dict(self.model.named_parameters())[name].data.copy_(value)

    def expected(self):
        ids = self.rng.integers(2, VOCAB_SIZE, NUM_TOKENS).tolist()
        with torch.no_grad():
            logits = self.model.double()(torch.tensor([ids])).logits[0]
        return {"ids": ids, "rows": LOGIT_ROWS,
                "logits": [[float(np.float32(x)) for x in logits[row]] for row in LOGIT_ROWS]}


def write_json(path, value):
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")


def write_folder(folder, case, tensors, num_shards=1):
    folder.mkdir(parents=True)
    write_json(folder / "config.json", case.config)
    write_json(folder / "tokenizer.json", TOKENIZER)
    write_json(folder / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>"})
    write_json(folder / "expected.json", case.expected())
    if num_shards == 1:
        safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return
    weight_map = {}
    for i in range(num_shards):
        name = f"model-{i + 1:05}-of-{num_shards:05}.safetensors"
        part = dict(list(tensors.items())[i::num_shards])
        weight_map.update(dict.fromkeys(part, name))
        safetensors.torch.save_file(part, folder / name, {"format": "pt"})
    write_json(folder / "model.safetensors.index.json",
               {"metadata": {"total_size": 0}, "weight_map": weight_map})


def plain_models(root, seed):
    # The first generation: as many KV heads as heads, keys that later ones have are absent, and each layer
    # carries its rotary frequencies.
    case = Case("Llama", seed, torch.float16)
    for key in ["num_key_value_heads", "head_dim", "rope_parameters", "attention_bias", "mlp_bias"]:
        del case.config[key]
    tensors = case.tensors()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = 1.0 / 10000.0 ** (torch.arange(4) / 4)
    write_folder(root / "llama_1", case, tensors)

    case = Case("Llama", seed + 1, torch.float32, num_key_value_heads=2,
                rope_parameters={"rope_type": "linear", "rope_theta": 20000.0, "factor": 2.0})
    del case.config["rope_parameters"]
    case.config.update(rope_theta=20000.0, rope_scaling={"type": "linear", "factor": 2.0})
    write_folder(root / "llama_2_linear_shards", case, case.tensors(), num_shards=3)

    case = Case("Llama", seed + 2, torch.bfloat16, num_key_value_heads=1, rope_parameters=LLAMA3_ROPE)
    write_folder(root / "llama_3", case, case.tensors())

    case = Case("Llama", seed + 3, torch.bfloat16, num_key_value_heads=2, rope_parameters=LLAMA3_ROPE,
                head_dim=16, tie_word_embeddings=True)
    del case.config["rope_parameters"]
    case.config.update(rope_theta=LLAMA3_ROPE["rope_theta"],
                       rope_scaling={k: v for k, v in LLAMA3_ROPE.items() if k != "rope_theta"})
    write_folder(root / "llama_3_2_tied", case, case.tensors())

    case = Case("Mistral", seed + 4, torch.bfloat16, num_key_value_heads=2, sliding_window=7)
    write_folder(root / "mistral_window", case, case.tensors(), num_shards=2)

    case = Case("Qwen2", seed + 5, torch.bfloat16, num_key_value_heads=2, tie_word_embeddings=True,
                rope_parameters=YARN_ROPE)
    write_folder(root / "qwen2_yarn_tied", case, case.tensors())

    case = Case("Qwen2", seed + 6, torch.float16, num_key_value_heads=2, use_sliding_window=True,
                sliding_window=5, max_window_layers=0)
    write_folder(root / "qwen2_window", case, case.tensors())


# ---- 4-bit folders: codes and scales are drawn, and the model computes with what they stand for

def draw(case, shape, group_size, symmetric):
    """[N, K] codes 0..15, [N, G] scales and zero points."""
    num_outputs, num_inputs = shape
    num_groups = num_inputs // group_size
    codes = case.rng.integers(0, 16, shape)
    scales = (case.rng.uniform(0.5, 1.5, (num_outputs, num_groups)) * 0.03).astype(np.float16)
    zeros = np.full((num_outputs, num_groups), 8) if symmetric else case.rng.integers(
        1, 16, (num_outputs, num_groups))
    return codes, scales, zeros


def values_of(codes, scales, zeros, groups):
    return scales.astype(np.float64)[:, groups] * (codes - zeros[:, groups])


def pack_words(values):
    """[..., 8n] codes into [..., n] words, the first in the lowest bits."""
    words = np.zeros(values.shape[:-1] + (values.shape[-1] // 8,), dtype=np.uint32)
    for i in range(8):
        words |= values[..., i::8].astype(np.uint32) << np.uint32(4 * i)
    return torch.from_numpy(words.view(np.int32).copy())


def linear_names(case):
    return [name for name in case.model.state_dict()
            if name.endswith("_proj.weight")]


def awq_tensors(case, group_size):
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # AutoAWQ's: output order[i] of eight is nibble i.
    columns = lambda count: np.arange(count).reshape(-1, 8)[:, order].reshape(-1)
    tensors = case.tensors()
    for name in linear_names(case):
        codes, scales, zeros = draw(case, tensors[name].shape, group_size, symmetric=False)
        groups = np.arange(codes.shape[1]) // group_size
        case.set_weight(name, torch.from_numpy(values_of(codes, scales, zeros, groups)))
        base = name.removesuffix("weight")
        del tensors[name]
        places = columns(codes.shape[0])
        tensors[base + "qweight"] = pack_words(codes.T[:, places])
        tensors[base + "qzeros"] = pack_words(zeros.T[:, places])
        tensors[base + "scales"] = torch.from_numpy(scales.T.copy())
    case.config["quantization_config"] = {
        "quant_method": "awq", "bits": 4, "group_size": group_size, "zero_point": True, "version": "gemm",
        "modules_to_not_convert": None}
    return tensors


def gptq_tensors(case, group_size, symmetric, shuffles, version):
    stored_less = 1 if version == "gptq" else 0
    tensors = case.tensors()
    for name in linear_names(case):
        codes, scales, zeros = draw(case, tensors[name].shape, group_size, symmetric)
        groups = np.arange(codes.shape[1]) // group_size
        if shuffles:
            case.rng.shuffle(groups)
        case.set_weight(name, torch.from_numpy(values_of(codes, scales, zeros, groups)))
        base = name.removesuffix("weight")
        del tensors[name]
        tensors[base + "qweight"] = pack_words(codes).T.contiguous()
        tensors[base + "qzeros"] = pack_words(zeros.T - stored_less)
        tensors[base + "scales"] = torch.from_numpy(scales.T.copy())
        tensors[base + "g_idx"] = torch.from_numpy(groups.astype(np.int32))
        tensors[base + "bias"] = torch.zeros(codes.shape[0], dtype=torch.float16)
    case.config["quantization_config"] = {
        "quant_method": "gptq", "bits": 4, "group_size": group_size, "desc_act": shuffles,
        "sym": symmetric, "checkpoint_format": version, "damp_percent": 0.01}
    return tensors


def compressed_tensors(case, group_size, symmetric):
    tensors = case.tensors()
    for name in linear_names(case):
        codes, scales, zeros = draw(case, tensors[name].shape, group_size, symmetric)
        groups = np.arange(codes.shape[1]) // group_size
        case.set_weight(name, torch.from_numpy(values_of(codes, scales, zeros, groups)))
        del tensors[name]
        tensors[name + "_packed"] = pack_to_int32(torch.from_numpy((codes - 8).astype(np.int8)), 4)
        tensors[name + "_scale"] = torch.from_numpy(scales)
        tensors[name + "_shape"] = torch.tensor(codes.shape)
        if not symmetric:
            tensors[name + "_zero_point"] = pack_to_int32(
                torch.from_numpy((zeros - 8).astype(np.int8)), 4, packed_dim=0).contiguous()
    case.config["quantization_config"] = {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"],
        "kv_cache_scheme": None, "quantization_status": "compressed",
        "config_groups": {"group_0": {
            "targets": ["Linear"], "input_activations": None, "output_activations": None,
            "weights": {"num_bits": 4, "type": "int", "symmetric": symmetric, "strategy": "group",
                        "group_size": group_size, "actorder": None, "dynamic": False}}}}
    return tensors


def packed_models(root, seed):
    case = Case("Llama", seed + 10, torch.float16, PACKED)
    write_folder(root / "awq", case, awq_tensors(case, 128))
    case = Case("Mistral", seed + 11, torch.float16, PACKED, sliding_window=None)
    write_folder(root / "gptq", case, gptq_tensors(case, 128, symmetric=True, shuffles=False, version="gptq"))
    case = Case("Llama", seed + 12, torch.float16, PACKED)
    write_folder(root / "gptq_v2_act_order", case,
                 gptq_tensors(case, 32, symmetric=False, shuffles=True, version="gptq_v2"))
    case = Case("Qwen2", seed + 13, torch.float16, PACKED)
    write_folder(root / "compressed_tensors", case, compressed_tensors(case, 128, symmetric=True))
    case = Case("Llama", seed + 14, torch.float16, PACKED)
    write_folder(root / "compressed_tensors_zero_points", case, compressed_tensors(case, 64, symmetric=False))


# ---- GGUF, by the gguf package, rows of Q and K in the order that llama.cpp's converter gives llama's

GGUF_NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
              "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
              "mlp.down_proj": "ffn_down"}


def gguf_name(name):
    for theirs, ours in {"model.embed_tokens": "token_embd", "model.norm": "output_norm",
                         "lm_head": "output"}.items():
        if name.startswith(theirs + "."):
            return name.replace(theirs, ours)
    _, _, layer, rest = name.split(".", 3)
    stem, suffix = rest.rsplit(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[stem]}.{suffix}"


def interleave(rows, num_heads):
    shape = rows.shape
    return np.ascontiguousarray(
        rows.reshape(num_heads, 2, shape[0] // num_heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape))


def write_gguf(path, case, architecture, quantization):
    config = case.model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    head_dim = config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(head_dim)
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    elif rope["rope_type"] == "llama3":
        plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, head_dim, 2).float() / head_dim)
        divisors = (plain / case.model.model.rotary_emb.inv_freq.float()).numpy().astype(np.float32)
        writer.add_tensor("rope_freqs.weight", divisors)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    tokens = list(TOKENIZER["model"]["vocab"])
    writer.add_token_list(tokens + [f"[PAD{i}]" for i in range(len(tokens), VOCAB_SIZE)])
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2) + [5] * (VOCAB_SIZE - len(tokens)))
    writer.add_token_merges(TOKENIZER["model"]["merges"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, value in case.tensors().items():
        data = value.float().numpy()
        if value.ndim == 2 and quantization != gguf.GGMLQuantizationType.F32:
            data = gguf.quants.quantize(data, quantization)
            stored = gguf.quants.dequantize(data, quantization)
            case.set_weight(name, torch.from_numpy(stored))
        if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            num_heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            data = interleave(data, num_heads)
        writer.add_tensor(gguf_name(name), data, raw_dtype=quantization if value.ndim == 2 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_json(path.with_suffix(".expected.json"), case.expected())


def gguf_models(root, seed):
    types = gguf.GGMLQuantizationType
    case = Case("Llama", seed + 20, torch.float32, num_key_value_heads=2, rope_parameters=LLAMA3_ROPE)
    write_gguf(root / "llama_rope_freqs_f16.gguf", case, "llama", types.F16)
    case = Case("Llama", seed + 21, torch.float32, num_key_value_heads=4, intermediate_size=64)
    write_gguf(root / "llama_q8_0.gguf", case, "llama", types.Q8_0)
    case = Case("Qwen2", seed + 22, torch.float32, num_key_value_heads=2, tie_word_embeddings=True,
                rope_parameters=YARN_ROPE)
    write_gguf(root / "qwen2_yarn_bf16.gguf", case, "qwen2", types.BF16)


def gguf_groups(root, seed):
    """Random groups of every quantised type that is read, and their values by the gguf package."""
    rng = np.random.default_rng(seed)
    types = gguf.GGMLQuantizationType
    halves = {types.Q4_0: [0], types.Q4_1: [0, 2], types.Q8_0: [0], types.Q4_K: [0, 2], types.Q5_K: [0, 2],
              types.Q6_K: [208]}
    cases = []
    for kind, places in halves.items():
        num_values, num_bytes = gguf.GGML_QUANT_SIZES[kind]
        groups = rng.integers(0, 256, (2, num_bytes), dtype=np.uint8)
        for place in places:  # Scales of any bits would be infinite at times.
            scales = rng.uniform(-2, 2, 2).astype(np.float16)
            groups[:, place:place + 2] = scales.view(np.uint8).reshape(2, 2)
        values = gguf.quants.dequantize(groups, kind).reshape(-1)
        cases.append({"type": int(kind), "name": kind.name, "bytes": groups.tobytes().hex(),
                      "values": [float(x) for x in values]})
    write_json(root / "gguf_groups.json", cases)


def main():
    root = pathlib.Path(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    root.mkdir(parents=True, exist_ok=True)
    plain_models(root, seed * 100)
    packed_models(root, seed * 100)
    gguf_models(root, seed * 100)
    gguf_groups(root, seed)


if __name__ == "__main__":
    main()
