"""qwen2 (arXiv 2407.10671): llama with biases on queries, keys and values, RoPE on halves."""

from arch_llama import Decoder
from golden import f32


class Qwen2(Decoder):
    arch = "qwen2"
    tokenizer = ("bpe", "qwen2")
    d_model = 60  # 6 heads of 10: no power of two and no multiple of a vector
    n_heads, n_kv_heads, head_dim = 6, 3, 10
    d_ff = 32
    rope_base = f32(1000000.0)
    qkv_bias = True


MODELS = [Qwen2]
