#!/usr/bin/python3
"""Writes low-rank adapters of golden models as peft does, and what the merged models compute.

  make_adapters.py [--out FOLDER]

FOLDER/NAME/ is a directory in peft's layout, FOLDER/NAME.json the golden: logits of the model whose
weights are W + scale B A, in float64, beside those of the model alone. Names and the order of rows are
Hugging Face's, as in the published conversion of llama: rows of each head of q and k go from halves to
neighbouring pairs.
"""

import argparse
import json
import pathlib
import re
import struct
import zlib

import numpy as np
import torch

import arch_gemma3
import arch_gpt2
import arch_llama
import arch_mamba2
import arch_qwen2
import arch_qwen3moe
import golden
from golden import Trace

TESTS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data"

DECODER = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
           "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}


def decoder_modules(names, layers=(0, 1)):
    """(module in Hugging Face's words, tensor in GGUF's)."""
    for i in layers:
        for name in names:
            part = "self_attn" if name in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
            yield f"model.layers.{i}.{part}.{name}", f"blk.{i}.{DECODER[name]}.weight"


def gpt2_modules():
    for i in (0, 1):
        for hf, gguf in (("attn.c_attn", "attn_qkv"), ("attn.c_proj", "attn_output"),
                         ("mlp.c_fc", "ffn_up"), ("mlp.c_proj", "ffn_down")):
            yield f"transformer.h.{i}.{hf}", f"blk.{i}.{gguf}.weight"


def mamba2_modules():
    for i in (0, 1):
        for hf, gguf in (("in_proj", "ssm_in"), ("out_proj", "ssm_out")):
            yield f"backbone.layers.{i}.mixer.{hf}", f"blk.{i}.{gguf}.weight"


ATTENTION, FFN = ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]
EVERY = list(decoder_modules(ATTENTION + FFN))

# name, model, modules, type of the file, configuration beyond what every one has
ADAPTERS = [
    ("llama-all", arch_llama.Plain, EVERY + [("lm_head", "output.weight")], "F32",
     dict(r=5, lora_alpha=10, target_modules=ATTENTION + FFN + ["lm_head"])),
    ("llama-attention", arch_llama.Plain, list(decoder_modules(["q_proj", "k_proj", "v_proj"])), "F16",
     dict(r=16, lora_alpha=24, target_modules=["q_proj", "k_proj", "v_proj"], use_rslora=True,
          rank_pattern={"layers.1.self_attn.q_proj": 3}, alpha_pattern={r"layers\.0\..*\.v_proj": 40})),
    ("llama-ffn", arch_llama.Plain, list(decoder_modules(FFN, [1])), "BF16",
     dict(r=20, lora_alpha=20, target_modules=r"model\.layers\.1\.mlp\.\w+_proj", layers_to_transform=[1])),
    ("llama-f16-all", arch_llama.PlainF16, EVERY, "F16", dict(r=8, lora_alpha=16, target_modules="all-linear")),
    ("qwen2-all", arch_qwen2.MODELS[0], EVERY, "F32", dict(r=4, lora_alpha=8, target_modules="all-linear")),
    ("gemma3-all", arch_gemma3.MODELS[0], EVERY, "F32", dict(r=4, lora_alpha=8, target_modules="all-linear")),
    ("qwen3moe-attention", arch_qwen3moe.MODELS[0], list(decoder_modules(ATTENTION)), "F32",
     dict(r=4, lora_alpha=2, target_modules=ATTENTION)),
    ("gpt2-all", arch_gpt2.MODELS[0], list(gpt2_modules()), "F32",
     dict(r=6, lora_alpha=12, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)),
    ("mamba2-all", arch_mamba2.MODELS[0], list(mamba2_modules()), "F32",
     dict(r=4, lora_alpha=8, target_modules=["in_proj", "out_proj"])),
]


def rounded(values, dtype):
    """What a file of this type holds, as float32, and its bytes."""
    kind = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[dtype]
    tensor = torch.from_numpy(values.astype(np.float32)).to(kind)
    raw = tensor.view(torch.int16).numpy().tobytes() if dtype != "F32" else tensor.numpy().tobytes()
    return tensor.to(torch.float64).numpy(), raw


def safetensors(tensors, dtype):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (shape, raw) in sorted(tensors.items()):
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def rows_in_pairs(b, heads):
    """B as GGUF's llama has it: within each head, row 2 i is row i, row 2 i + 1 is row i + half."""
    half = b.shape[0] // heads // 2
    order = [h * 2 * half + i // 2 + i % 2 * half for h in range(heads) for i in range(2 * half)]
    return b[order]


def pattern_value(patterns, module, otherwise):
    for key, value in patterns.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return otherwise


def make(name, model_class, modules, dtype, config, out):
    """Another seed where an expert's choice would hang on rounding."""
    for seed in range(100):
        if attempt(name, seed, model_class, modules, dtype, config, out):
            return
    raise RuntimeError(f"{name}: no adapter with clear choices")


def attempt(name, seed, model_class, modules, dtype, config, out):
    rng = np.random.RandomState(zlib.crc32(name.encode()) + seed)
    model = model_class()
    prompts = json.loads((TESTS / "models" / f"{model.file_name}.json").read_text())["prompts"]
    tensors = {}
    for module, gguf in modules:
        rank = pattern_value(config.get("rank_pattern", {}), module, config["r"])
        alpha = pattern_value(config.get("alpha_pattern", {}), module, config["lora_alpha"])
        scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
        n_out, n_in = model.w[gguf].shape
        a, raw_a = rounded(rng.standard_normal((rank, n_in)) / n_in**0.5, dtype)
        b, raw_b = rounded(rng.standard_normal((n_out, rank)) * 0.3 / (scale * rank**0.5), dtype)
        tensors[f"base_model.model.{module}.lora_A.weight"] = (a.shape, raw_a)
        tensors[f"base_model.model.{module}.lora_B.weight"] = (b.shape, raw_b)
        if model.arch == "llama" and module.endswith(("q_proj", "k_proj")):
            b = rows_in_pairs(b, model.n_heads if module.endswith("q_proj") else model.n_kv_heads)
        model.w[gguf] = model.w[gguf] + scale * torch.from_numpy(b) @ torch.from_numpy(a)
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    head = dict(peft_type="LORA", task_type="CAUSAL_LM", bias="none", lora_dropout=0.05, inference_mode=True,
                base_model_name_or_path=model.file_name, modules_to_save=None, use_dora=False, init_lora_weights=True)
    (folder / "adapter_config.json").write_text(json.dumps({**head, **config}, indent=1) + "\n")
    (folder / "adapter_model.safetensors").write_bytes(safetensors(tensors, dtype))
    entries, moved = [], 0
    for prompt in prompts:
        tokens, trace = prompt["tokens"], Trace()
        logits = golden.with_f16_cache(lambda: model.forward(tokens, trace))
        if trace.routing_margin < golden.ROUTING_MARGIN:
            return False
        positions = [at["position"] for at in prompt["logits_f16_cache"]][-2:]
        alone = {at["position"]: np.array(at["values"]) for at in prompt["logits_f16_cache"]}
        moved = max([moved] + [np.abs(logits[p].numpy() - alone[p]).max() for p in positions])
        entries.append({"tokens": tokens, "logits_f16_cache": [{"position": p, "values": logits[p]} for p in positions]})
    golden.write_json(out / f"{name}.json", {"model": f"{model.file_name}.gguf", "adapter": name, "prompts": entries})
    print(f"{name}: {model.file_name}, logits move by up to {moved:.2f}")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=TESTS / "adapters")
    arguments = parser.parse_args()
    for adapter in ADAPTERS:
        make(*adapter, arguments.out)


if __name__ == "__main__":
    main()
