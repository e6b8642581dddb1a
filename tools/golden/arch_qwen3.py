"""qwen3 (arXiv 2505.09388): no biases; queries and keys RMS-normed per head before RoPE."""

from arch_llama import Decoder
from golden import f32


class Qwen3(Decoder):
    arch = "qwen3"
    tokenizer = ("bpe", "qwen2")
    n_heads, n_kv_heads, head_dim = 3, 1, 24
    rope_base = f32(1000000.0)
    qk_norm = True


MODELS = [Qwen3]
