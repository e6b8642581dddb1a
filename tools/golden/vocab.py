"""Small but valid vocabularies, one per tokenizer kind.

spm: <unk> <s> </s>, the 256 byte tokens, then pieces with scores ("llama" in GGUF).
bpe: the 256 byte characters, merges of two known tokens, one end-of-text ("gpt2").
wpm: specials, then pieces, with the word-start mark that GGUF uses instead of "##" ("bert").
"""

VOCAB_SIZE = 281  # a prime, so that no row count is a multiple of a vector or a tile
WPM_SIZE = 97

_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_SPACE = "\u2581"


def byte_characters():
    """GPT-2's map of bytes to printable characters."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {}, 0
    for byte in range(256):
        if byte in keep:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return [table[byte] for byte in range(256)]


def write_spm(gguf):
    pieces = [_SPACE, "e", "t", "a", "o", "n", "i", "h", "s", "r", "l", _SPACE + "t", "he",
              _SPACE + "a", "in", _SPACE + "the", "er", "on", "an", "re", _SPACE + "s", "at"]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + pieces
    kinds = [_UNKNOWN, _CONTROL, _CONTROL] + [_BYTE] * 256 + [_NORMAL] * len(pieces)
    # Longer pieces are the better merges; single characters are never merge results.
    scores = [0.0] * 259 + [-100.0 - i if len(p) == 1 else -1.0 - i for i, p in enumerate(pieces)]
    assert len(tokens) == VOCAB_SIZE
    gguf.string("tokenizer.ggml.model", "llama")
    gguf.string("tokenizer.ggml.pre", "default")
    gguf.strings("tokenizer.ggml.tokens", tokens)
    gguf.floats("tokenizer.ggml.scores", scores)
    gguf.i32s("tokenizer.ggml.token_type", kinds)
    gguf.u32("tokenizer.ggml.bos_token_id", 1)
    gguf.u32("tokenizer.ggml.eos_token_id", 2)
    gguf.u32("tokenizer.ggml.unknown_token_id", 0)
    gguf.boolean("tokenizer.ggml.add_bos_token", True)
    gguf.boolean("tokenizer.ggml.add_eos_token", False)


def write_bpe(gguf, pre):
    chars = byte_characters()
    space = chars[32]
    merges = [("t", "h"), ("th", "e"), (space, "t"), (space, "a"), ("i", "n"), ("e", "r"),
              ("o", "n"), (space, "the"), ("a", "n"), ("r", "e"), (space, "s"), ("a", "t"),
              ("o", "r"), (space, "w"), ("e", "n"), ("i", "s"), ("n", "d"), ("i", "t"),
              (space, "c"), ("e", "s"), (space, "o"), ("in", "g"), ("an", "d"), ("o", "u")]
    tokens = chars + ["".join(pair) for pair in merges] + ["<|endoftext|>"]
    assert len(tokens) == VOCAB_SIZE and len(set(tokens)) == VOCAB_SIZE
    gguf.string("tokenizer.ggml.model", "gpt2")
    gguf.string("tokenizer.ggml.pre", pre)
    gguf.strings("tokenizer.ggml.tokens", tokens)
    gguf.i32s("tokenizer.ggml.token_type", [_NORMAL] * (VOCAB_SIZE - 1) + [_CONTROL])
    gguf.strings("tokenizer.ggml.merges", [" ".join(pair) for pair in merges])
    gguf.u32("tokenizer.ggml.bos_token_id", VOCAB_SIZE - 1)
    gguf.u32("tokenizer.ggml.eos_token_id", VOCAB_SIZE - 1)
    gguf.boolean("tokenizer.ggml.add_bos_token", False)


def write_wpm(gguf):
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + [str(d) for d in range(10)]
    words = [_SPACE + piece for piece in letters] + letters + [_SPACE + p for p in ".,!?'-"]
    pieces = [_SPACE + "the", _SPACE + "of", _SPACE + "an", "ing", "er", "ed", "es", "ly", "tion",
              "al", "on", "re", "th", "st"]
    tokens = specials + words + pieces
    assert len(tokens) == len(set(tokens)) == WPM_SIZE
    kinds = [_CONTROL] * len(specials) + [_NORMAL] * (WPM_SIZE - len(specials))
    kinds[1] = _UNKNOWN
    gguf.string("tokenizer.ggml.model", "bert")
    gguf.string("tokenizer.ggml.pre", "default")
    gguf.strings("tokenizer.ggml.tokens", tokens)
    gguf.floats("tokenizer.ggml.scores", [-1000.0] * WPM_SIZE)
    gguf.i32s("tokenizer.ggml.token_type", kinds)
    gguf.u32("tokenizer.ggml.token_type_count", 2)
    gguf.u32("tokenizer.ggml.bos_token_id", 2)
    gguf.u32("tokenizer.ggml.eos_token_id", 3)
    gguf.u32("tokenizer.ggml.unknown_token_id", 1)
    gguf.u32("tokenizer.ggml.seperator_token_id", 3)  # spelt so in the format
    gguf.u32("tokenizer.ggml.padding_token_id", 0)
    gguf.u32("tokenizer.ggml.cls_token_id", 2)
    gguf.u32("tokenizer.ggml.mask_token_id", 4)
