// Low-rank adapters on disk: for some matrices W of a base model, A [rank, n_in] and B [n_out, rank],
// by which W x becomes W x + scale B (A x) (Hu et al. 2021, arXiv 2106.09685).
//
// open_adapter() takes a directory as peft writes it (adapter_config.json and
// adapter_model.safetensors) or a GGUF file whose general.type is "adapter". It reads headers only and
// trusts nothing in them: every pair is held against the base's tensor, and what a configuration asks
// for that is not done here is refused by its name, for ignoring it would give another model. Names
// are the base's in GGUF, and rows of B lie as the base's do (llama's rotary pairs are neighbours).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "formats/model_file.h"

namespace venturi {

inline constexpr int64_t kMaxAdapterRank = 1024;

struct AdapterPair {
  std::string weight;        // the base's tensor: "blk.0.attn_q.weight"
  TensorInfo a, b;           // {n_in, rank} and {rank, n_out}, of AdapterFile::stored
  float scale = 0;
  int64_t rank() const { return b.dims[0]; }
};

struct AdapterFile {
  ModelFile stored;  // path and files; its tensors are the pairs'
  std::vector<AdapterPair> pairs;  // in the order of the base's tensors, each weight once
};

Result<AdapterFile> open_adapter(const std::string& path, const ModelFile& base);

// The two kinds. `config` is the text of adapter_config.json, `folder` is for messages.
Result<AdapterFile> read_peft_adapter(std::string_view config, File weights, const std::string& folder,
                                      const ModelFile& base);
Result<AdapterFile> open_gguf_adapter(const std::string& path, const ModelFile& base);

// Checks a pair against the base: shapes, rank, types. `name` is what the file calls it.
Status check_adapter_pair(const AdapterPair& pair, std::string_view name, const ModelFile& base);

}  // namespace venturi
