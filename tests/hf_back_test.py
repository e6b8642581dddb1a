"""venturi convert --hf, of every architecture: the tiny models to Hugging Face directories and back.

What is written is read here by a reader of safetensors and one of GGUF of the test's own, and compared with the
published definitions of the layouts: rotary halves, Conv1D, norms less one, experts one by one, A_log.
"""
import array
import contextlib
import itertools
import json
import math
import struct
import tempfile
import unittest
from pathlib import Path

import support
from support import ProgramTest

MODELS = sorted((support.SOURCE / "tests/data/models").glob("*.gguf"))
F32 = [path for path in MODELS if "-f16" not in path.name]
# Of these GGUF holds less than it takes to get the same bits: a norm below 1/2 has more digits than its weight less
# one, an A more than its logarithm, and deepseek2's keys come back in the other of GGUF's two layouts.
ROUNDED = ("gemma", "mamba2", "deepseek2-v3")


# --- files read and written by hand

def read_safetensors(path):
    """name -> (dtype, shape, bytes), and the metadata."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    data = raw[8 + size:]
    header.pop("__metadata__", None)
    ends = sorted(tuple(t["data_offsets"]) for t in header.values())
    assert [e[0] for e in ends] == [0] + [e[1] for e in ends[:-1]] and ends[-1][1] == len(data), path
    return {name: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for name, t in header.items()}


def read_directory(folder):
    out = {}
    for path in sorted(folder.glob("*.safetensors")):
        out.update(read_safetensors(path))
    return out


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t[2] for t in tensors.values()))


def floats(data):
    return array.array("f", data)


def read_gguf(path):
    """name -> (dims, fastest first, floats) of a file of F32 tensors, and its keys that are numbers or texts."""
    raw = path.read_bytes()
    at = 24
    n_tensors, n_keys = struct.unpack_from("<QQ", raw, 8)

    def take(code):
        nonlocal at
        values = struct.unpack_from("<" + code, raw, at)
        at += struct.calcsize("<" + code)
        return values[0]

    def text():
        nonlocal at
        n = take("Q")
        at += n
        return raw[at - n:at].decode()

    codes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            element, n = take("I"), take("Q")
            return [value(element) for _ in range(n)]
        return take(codes[kind])

    keys = {}
    for _ in range(n_keys):
        name = text()
        keys[name] = value(take("I"))
    infos = []
    for _ in range(n_tensors):
        name = text()
        dims = [take("Q") for _ in range(take("I"))]
        kind, offset = take("I"), take("Q")
        assert kind == 0, (name, kind)
        infos.append((name, dims, offset))
    base = -(-at // 32) * 32
    tensors = {}
    for name, dims, offset in infos:
        begin = base + offset
        tensors[name] = (dims, floats(raw[begin:begin + 4 * math.prod(dims)]))
    return tensors, keys


def rows_of(values, width):
    return [values[i:i + width] for i in range(0, len(values), width)]


def joined(rows):
    return array.array("f", itertools.chain.from_iterable(rows))


def halves(rows, heads):
    """Rows of heads whose rotary pairs are neighbours, as halves: first elements of all pairs, then second ones."""
    size = len(rows) // heads
    return [row for head in rows_of(rows, size) for row in head[0::2] + head[1::2]]


def transposed(values, width):
    rows = rows_of(values, width)
    return array.array("f", itertools.chain.from_iterable(zip(*rows)))


def rounded_to(dtype, values):
    """The values as F16 or BF16, the latter cut off."""
    if dtype == "F16":
        return struct.pack(f"<{len(values)}e", *values)
    return b"".join(raw[2:] for raw in (struct.pack("<f", v) for v in values))


class Back(ProgramTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    @contextlib.contextmanager
    def fresh_folder(self):
        outer = self.folder
        with tempfile.TemporaryDirectory() as folder:
            self.folder = Path(folder)
            try:
                yield
            finally:
                self.folder = outer

    def convert(self, source, name, *flags):
        out = self.folder / name
        out.parent.mkdir(exist_ok=True)
        self.succeeds("convert", "-m", source, "-o", out, *flags)
        return out

    def hf(self, source, name, dtype="F32", *flags):
        return self.convert(source, name, "--hf", "--type", dtype, *flags)

    def same_continuation(self, a, b):
        if "bert" in a.name:
            return
        ids = ["run", "-p", "the an", "-n", 16, "--temp", 0, "--ids", "--ignore-eos"]
        self.assertEqual(self.succeeds(*ids, "-m", a).out, self.succeeds(*ids, "-m", b).out)


class RoundTrips(Back):
    def test_every_model_there_and_back(self):
        for model in F32:
            with self.subTest(model=model.name), self.fresh_folder():
                first = self.hf(model, "a/hf")
                there = self.convert(first, "there.gguf", "--type", "F32")
                second = self.hf(there, "b/hf")
                again = self.convert(second, "again.gguf", "--type", "F32")
                self.assertEqual(there.read_bytes(), again.read_bytes())
                self.assertEqual(read_directory(first), read_directory(second))
                self.assertEqual((first / "config.json").read_text(), (second / "config.json").read_text())
                if not model.name.startswith(ROUNDED):
                    original, back = read_gguf(model)[0], read_gguf(there)[0]
                    self.assertEqual(sorted(original), sorted(back))
                    for name, (dims, values) in original.items():
                        self.assertEqual((dims, values), back[name], name)
                self.same_continuation(model, there)

    def test_16_bits_come_back_the_same(self):
        for model, dtype in itertools.product(F32, ("BF16", "F16")):
            with self.subTest(model=model.name, dtype=dtype), self.fresh_folder():
                source = self.hf(model, "source")
                tensors = {name: (dtype, shape, rounded_to(dtype, floats(data)))
                           for name, (_, shape, data) in read_directory(source).items()}
                write_safetensors(source / "model.safetensors", tensors)
                gguf = self.convert(source, "there.gguf", "--type", dtype)
                self.assertEqual(read_directory(self.hf(gguf, "back", dtype)), tensors)

    def test_f16_models(self):
        for model in MODELS:
            if model not in F32:
                with self.subTest(model=model.name):
                    there = self.convert(self.hf(model, model.stem, "F16"), f"{model.stem}.gguf", "--type", "F16")
                    self.same_continuation(model, there)


class Layouts(Back):
    """What is written against the published layouts, computed here from the GGUF file."""

    def pair(self, name):
        model = support.SOURCE / "tests/data/models" / f"{name}.gguf"
        tensors, keys = read_gguf(model)
        folder = self.hf(model, name)
        stored = {name: (shape, floats(data)) for name, (dtype, shape, data) in read_directory(folder).items()}
        return tensors, keys, stored, json.loads((folder / "config.json").read_text())

    def test_rotary_halves_and_experts(self):
        tensors, keys, stored, config = self.pair("llama-mixtral")
        self.assertEqual(config["architectures"], ["MixtralForCausalLM"])
        self.assertEqual((config["num_local_experts"], config["num_experts_per_tok"]), (4, 2))
        for name, heads in (("q", keys["llama.attention.head_count"]), ("k", keys["llama.attention.head_count_kv"])):
            (width, _), values = tensors[f"blk.1.attn_{name}.weight"]
            shape, found = stored[f"model.layers.1.self_attn.{name}_proj.weight"]
            self.assertEqual(found, joined(halves(rows_of(values, width), heads)))
            self.assertEqual(shape, [len(values) // width, width])
        for gguf, hf in (("gate", "w1"), ("down", "w2"), ("up", "w3")):
            (width, rows, experts), values = tensors[f"blk.0.ffn_{gguf}_exps.weight"]
            for e in range(experts):
                shape, found = stored[f"model.layers.0.block_sparse_moe.experts.{e}.{hf}.weight"]
                self.assertEqual(shape, [rows, width])
                self.assertEqual(found, values[e * rows * width:(e + 1) * rows * width])

    def test_qwen_mixtures(self):
        tensors, _, stored, config = self.pair("qwen2moe-plain")
        self.assertEqual(config["model_type"], "qwen2_moe")
        self.assertEqual((config["moe_intermediate_size"], config["shared_expert_intermediate_size"]), (32, 32))
        self.assertFalse(config["norm_topk_prob"])
        dims, values = tensors["blk.1.ffn_gate_inp_shexp.weight"]
        self.assertEqual(stored["model.layers.1.mlp.shared_expert_gate.weight"], ([1, dims[0]], values))
        self.assertEqual(stored["model.layers.0.self_attn.q_proj.weight"][1], tensors["blk.0.attn_q.weight"][1])
        _, _, stored, config = self.pair("qwen3moe-plain")
        self.assertEqual(config["model_type"], "qwen3_moe")
        self.assertTrue(config["norm_topk_prob"])
        self.assertEqual(stored["model.layers.0.mlp.experts.3.up_proj.weight"][0], [32, 48])

    def test_layouts_of_smallthinker(self):
        tensors, keys, stored, config = self.pair("smallthinker-plain")
        self.assertEqual((config["architectures"], config["model_type"]), (["SmallThinkerForCausalLM"], "smallthinker"))
        wanted = {"moe_num_primary_experts": 6, "moe_num_active_primary_experts": 3, "moe_ffn_hidden_size": 32,
                  "moe_primary_router_apply_softmax": False, "rope_layout": [0, 1, 1, 1, 0],
                  "sliding_window_layout": [0, 1, 1, 1, 0], "sliding_window_size": 9, "head_dim": 12}
        self.assertEqual({name: config[name] for name in wanted}, wanted)
        self.assertNotIn("intermediate_size", config)
        self.assertEqual(stored["model.layers.1.block_sparse_moe.primary_router.weight"][1],
                         tensors["blk.1.ffn_gate_inp.weight"][1])
        for name in ("gate", "up", "down"):
            values = tensors[f"blk.1.ffn_{name}_exps.weight"][1]
            n = len(values) // 6
            for e in range(6):
                self.assertEqual(stored[f"model.layers.1.block_sparse_moe.experts.{e}.{name}.weight"][1],
                                 values[e * n:(e + 1) * n])
        _, _, _, config = self.pair("smallthinker-softmax")
        wanted = {"moe_primary_router_apply_softmax": True, "rope_layout": [1, 1], "sliding_window_layout": [0, 0]}
        self.assertEqual({name: config[name] for name in wanted}, wanted)
        folder = self.folder / "smallthinker-plain"
        config = json.loads((folder / "config.json").read_text())
        config["rope_layout"] = [1, 1, 1, 1, 1]
        (folder / "config.json").write_text(json.dumps(config))
        self.assertIn("rope_layout", self.fails(1, "convert", "-m", folder, "-o", self.folder / "not.gguf"))

    def test_conv1d_of_gpt2(self):
        tensors, keys, stored, config = self.pair("gpt2-plain")
        self.assertEqual((config["n_embd"], config["n_layer"], config["n_head"], config["n_inner"], config["n_positions"]),
                         (48, 2, 3, 64, 64))
        self.assertNotIn("hidden_size", config)
        for gguf, hf in (("attn_qkv", "attn.c_attn"), ("attn_output", "attn.c_proj"), ("ffn_up", "mlp.c_fc"),
                         ("ffn_down", "mlp.c_proj")):
            (n_in, n_out), values = tensors[f"blk.1.{gguf}.weight"]
            self.assertEqual(stored[f"transformer.h.1.{hf}.weight"], ([n_in, n_out], transposed(values, n_in)))
            self.assertEqual(stored[f"transformer.h.1.{hf}.bias"][1], tensors[f"blk.1.{gguf}.bias"][1])
        self.assertEqual(stored["transformer.wpe.weight"][1], tensors["position_embd.weight"][1])

    def test_norms_of_gemma(self):
        for name, norms in (("gemma2-plain", ["input_layernorm", "pre_feedforward_layernorm"]),
                            ("gemma3-plain", ["self_attn.q_norm", "post_attention_layernorm"])):
            tensors, keys, stored, config = self.pair(name)
            gguf = {"input_layernorm": "attn_norm", "pre_feedforward_layernorm": "ffn_norm",
                    "self_attn.q_norm": "attn_q_norm", "post_attention_layernorm": "post_attention_norm"}
            for norm in norms:
                expected = array.array("f", (v - 1 for v in tensors[f"blk.1.{gguf[norm]}.weight"][1]))
                self.assertEqual(stored[f"model.layers.1.{norm}.weight"][1], expected)
            self.assertEqual(config["hidden_activation"], "gelu_pytorch_tanh")
            self.assertEqual(config["query_pre_attn_scalar"], config["head_dim"])
        self.assertEqual((config["sliding_window"], config["sliding_window_pattern"], config["rope_local_base_freq"],
                          config["rope_scaling"]["factor"]), (9, 6, 10000.0, 8.0))

    def test_heads_of_deepseek(self):
        tensors, _, stored, config = self.pair("deepseek2-v3")
        self.assertEqual(config["architectures"], ["DeepseekV3ForCausalLM"])
        wanted = {"q_lora_rank": 24, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 20,
                  "num_key_value_heads": 3, "n_routed_experts": 6, "n_shared_experts": 1, "num_experts_per_tok": 3,
                  "n_group": 3, "topk_group": 2, "scoring_func": "sigmoid", "norm_topk_prob": True,
                  "routed_scaling_factor": 2.5, "first_k_dense_replace": 1, "moe_intermediate_size": 32}
        self.assertEqual({name: config[name] for name in wanted}, wanted)
        self.assertEqual((config["rope_scaling"]["mscale"], config["rope_scaling"]["mscale_all_dim"]), (1.0, 1.0))
        (nope, rank, heads), keys = tensors["blk.1.attn_k_b.weight"]
        (_, v_dim, _), values = tensors["blk.1.attn_v_b.weight"]
        expected = array.array("f")
        for h in range(heads):
            expected.extend(transposed(keys[h * nope * rank:(h + 1) * nope * rank], nope))
            expected.extend(values[h * v_dim * rank:(h + 1) * v_dim * rank])
        self.assertEqual(stored["model.layers.1.self_attn.kv_b_proj.weight"], ([heads * (nope + v_dim), rank], expected))
        self.assertEqual(stored["model.layers.1.mlp.gate.e_score_correction_bias"][1], tensors["blk.1.exp_probs_b.bias"][1])
        _, _, _, config = self.pair("deepseek2-v2-lite")
        self.assertEqual((config["model_type"], config["q_lora_rank"], config["rope_scaling"]["mscale_all_dim"]),
                         ("deepseek_v2", None, 0.707))

    def test_state_spaces(self):
        tensors, _, stored, config = self.pair("mamba2-plain")
        wanted = {"expand": 2.0, "num_heads": 6, "head_dim": 16, "n_groups": 2, "state_size": 32, "conv_kernel": 4,
                  "hidden_size": 48, "num_hidden_layers": 2}
        self.assertEqual({name: config[name] for name in wanted}, wanted)
        shape, found = stored["backbone.layers.1.mixer.A_log"]
        self.assertEqual(shape, [6])
        for a, log in zip(tensors["blk.1.ssm_a"][1], found):
            self.assertAlmostEqual(log, math.log(-a), delta=1e-6)
        self.assertEqual(stored["backbone.layers.1.mixer.D"], ([6], tensors["blk.1.ssm_d"][1]))
        self.assertEqual(stored["backbone.layers.1.mixer.norm.weight"], ([96], tensors["blk.1.ssm_norm.weight"][1]))
        (taps, channels), values = tensors["blk.1.ssm_conv1d.weight"]
        self.assertEqual(stored["backbone.layers.1.mixer.conv1d.weight"], ([channels, 1, taps], values))
        self.assertEqual(stored["backbone.layers.1.mixer.dt_bias"][1], tensors["blk.1.ssm_dt.bias"][1])

    def test_encoders(self):
        tensors, keys, stored, config = self.pair("bert-cls")
        self.assertEqual((config["architectures"], config["hidden_act"], config["type_vocab_size"]), (["BertModel"], "gelu", 2))
        self.assertEqual(stored["encoder.layer.1.attention.output.LayerNorm.bias"][1], tensors["blk.1.attn_output_norm.bias"][1])
        folder = self.folder / "bert-cls"
        pooling = json.loads((folder / "1_Pooling/config.json").read_text())
        self.assertTrue(pooling["pooling_mode_cls_token"] and not pooling["pooling_mode_mean_tokens"])
        vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        for id, token in enumerate(keys["tokenizer.ggml.tokens"]):
            spelt = token if token[0] == "[" else token[1:] if token[0] == "\u2581" else "##" + token
            self.assertEqual(vocab[spelt], id)
        back = self.convert(folder, "back.gguf", "--type", "F32")
        text = self.folder / "text"
        text.write_text("The nation's first question, lying on theory.")
        ids = ["tokenize", "--ids", "-f", text, "-m"]
        self.assertEqual(self.succeeds(*ids, back).out, self.succeeds(*ids, support.SOURCE / "tests/data/models/bert-cls.gguf").out)


class Shards(Back):
    def test_parts_and_index(self):
        whole = read_directory(self.hf(support.MODEL, "whole", "F16"))
        for flag in ("--shard-size", "--split"):
            with self.subTest(flag=flag):
                folder = self.hf(support.MODEL, f"cut{flag}", "F16", flag, "1M")
                parts = sorted(folder.glob("*.safetensors"))
                self.assertGreater(len(parts), 3)
                self.assertEqual(parts[-1].name, f"model-{len(parts):05}-of-{len(parts):05}.safetensors")
                index = json.loads((folder / "model.safetensors.index.json").read_text())
                found = {}
                for part in parts:
                    tensors = read_safetensors(part)
                    size = sum(len(t[2]) for t in tensors.values())
                    self.assertTrue(size <= 1_000_000 or len(tensors) == 1, (part, size))
                    for name, tensor in tensors.items():
                        self.assertEqual(index["weight_map"][name], part.name)
                        found[name] = tensor
                self.assertEqual(found, whole)
                self.assertEqual(sorted(index["weight_map"]), sorted(whole))
                self.assertEqual(index["metadata"]["total_size"], sum(len(t[2]) for t in whole.values()))
                one = self.convert(self.folder / "whole", "one.gguf", "--type", "F16")
                of_parts = self.convert(folder, "whole.gguf", "--type", "F16")
                self.assertEqual(read_tail(one), read_tail(of_parts))

    def test_one_part_is_a_file_without_index(self):
        folder = self.hf(support.MODEL, "hf", "F16", "--shard-size", "1G")
        self.assertTrue((folder / "model.safetensors").exists())
        self.assertFalse((folder / "model.safetensors.index.json").exists())

    def test_what_would_be_read_in_their_place_is_no_place(self):
        folder = self.hf(support.MODEL, "hf", "F16")
        before = {p.name: p.read_bytes() for p in folder.iterdir()}
        error = self.fails(2, "convert", "-m", support.MODEL, "-o", folder, "--hf", "--shard-size", "1M")
        self.assertIn("model.safetensors", error)
        self.assertEqual({p.name: p.read_bytes() for p in folder.iterdir()}, before)


def read_tail(path):
    """The tensors of a GGUF file: what follows a header that names the folder it came from."""
    return path.read_bytes()[-5_000_000:]


class Refusals(Back):
    def patched(self, name, key, code, value):
        """A copy of a model with another number in a key."""
        raw = bytearray((support.SOURCE / "tests/data/models" / f"{name}.gguf").read_bytes())
        at = raw.index(key.encode()) + len(key) + 4
        raw[at:at + struct.calcsize(code)] = struct.pack(code, value)
        path = self.folder / "patched.gguf"
        path.write_bytes(raw)
        return path

    def refused(self, source):
        error = self.fails(1, "convert", "-m", source, "-o", self.folder / "hf", "--hf")
        self.assertFalse((self.folder / "hf" / "config.json").exists())
        return error

    def test_an_architecture_that_is_not_known(self):
        raw = (support.SOURCE / "tests/data/models/llama-plain.gguf").read_bytes()
        path = self.folder / "other.gguf"
        path.write_bytes(raw.replace(b"llama.", b"other.").replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0other", 1))
        error = self.refused(path)
        self.assertIn("'other' cannot be written", error)
        self.assertIn("mamba2", error)

    def test_heads_that_are_rotated_in_part(self):
        self.assertIn("rope.dimension_count is 8", self.refused(self.patched("llama-plain", "llama.rope.dimension_count", "<I", 8)))


if __name__ == "__main__":
    support.main()
