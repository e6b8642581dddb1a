// The tokenizer of a Hugging Face directory as GGUF's tokenizer.* keys.
#pragma once

#include <optional>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "formats/hf_config.h"
#include "formats/metadata.h"
#include "formats/tokenizer_json.h"

namespace venturi {

// Reads tokenizer.model, or else tokenizer.json, with tokenizer_config.json and the chat template
// beside it. The vocabulary is padded to `n_rows` tokens, the rows of the embedding; more is an
// error.
Status set_hf_vocabulary(const std::string& folder, const HfConfig& config, uint64_t n_rows,
                         Metadata& metadata);

// tokenizer.ggml.pre for the pre-tokenizer of a byte-level BPE. Code::kUnsupported with its
// description when no name stands for it.
Result<std::string> hf_pre_tokenizer_name(const TokenizerJson& tokenizer, const std::string& path);

// The other way: a tokenizer.json pre-tokenizer that does what the name says.
Result<nlohmann::json> hf_pre_tokenizer_json(std::string_view name);

// Writes tokenizer.model or tokenizer.json, tokenizer_config.json and the chat template for a model
// whose tokenizer.ggml.model is "llama", "t5", "gpt2" or "bert". The files are there once they are committed.
Result<std::vector<AtomicFile>> write_hf_vocabulary(const Metadata& metadata,
                                                     const std::string& folder);

}  // namespace venturi
