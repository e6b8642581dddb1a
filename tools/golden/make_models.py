#!/usr/bin/python3
"""Writes every tiny model and its golden values: NAME.gguf and NAME.json.

  make_models.py [--out FOLDER] [--only TEXT] [--layers N]

--layers makes models of another depth, for comparing with engines that know some architectures
only by their published number of layers; their prompts may hang on close choices.
"""

import argparse
import pathlib

import arch_bert
import arch_deepseek2
import arch_gemma2
import arch_gemma3
import arch_gpt2
import arch_llama
import arch_mamba2
import arch_mixtral
import arch_qwen2
import arch_qwen2moe
import arch_qwen3
import arch_qwen3moe
import arch_smallthinker
import golden

ARCHITECTURES = [arch_llama, arch_qwen2, arch_qwen3, arch_gemma2, arch_gemma3, arch_gpt2,
                 arch_mixtral, arch_qwen2moe, arch_qwen3moe, arch_smallthinker, arch_deepseek2, arch_mamba2,
                 arch_bert]
MODELS = [model for architecture in ARCHITECTURES for model in architecture.MODELS]
DEFAULT_FOLDER = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "models"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=DEFAULT_FOLDER)
    parser.add_argument("--only", default="", help="only models whose name contains this")
    parser.add_argument("--layers", type=int, help="another number of layers")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        if arguments.layers:
            model.n_layers = arguments.layers
            golden.GREEDY_MARGIN = golden.ROUTING_MARGIN = 0.0
        if arguments.only in f"{model.arch}-{model.variant}":
            made = model()
            made.write(arguments.out)
            print(made.file_name)


if __name__ == "__main__":
    main()
