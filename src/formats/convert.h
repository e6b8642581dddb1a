// From any model that can be opened to GGUF of any type, and back to a Hugging Face directory.
//
// Memory: a few MB a thread, whatever the model. The output appears only when whole.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "formats/model_file.h"

namespace venturi {

// Mean squares of the inputs that each column of a tensor is multiplied with: n_in values, or n_in
// for each expert.
using ImportanceData = std::unordered_map<std::string, std::vector<float>>;

struct ConvertProgress {
  size_t tensor, n_tensors;          // the one at work, from 0
  uint64_t bytes_done, bytes_total;  // written
  std::string_view name;
};

struct ConvertOptions {
  std::string type = "F16";                    // convert_types.h
  bool pure = false;                           // every matrix in the one codec
  const ImportanceData* importance = nullptr;  // GGUF only; tensors it lacks are weighted evenly
  uint64_t part_bytes = 0;  // cut the output into parts of about this many bytes; 0: one file
  // Called now and then; false stops the conversion with Code::kCancelled.
  std::function<bool(const ConvertProgress&)> progress = {};
};

struct TypeTotal {
  uint64_t tensors = 0, bytes = 0;
};

struct ConvertReport {
  std::vector<std::string> paths;     // written
  std::vector<std::string> warnings;  // for the user
  std::map<std::string, TypeTotal> by_type;
  uint64_t bytes = 0;  // of tensors
};

// Writes `model` as GGUF v3.
Result<ConvertReport> convert_to_gguf(const ModelFile& model, const std::string& path,
                                      const ConvertOptions& options, ThreadPool& pool);

// Writes `model` as a Hugging Face directory (config.json, generation_config.json, tokenizer files
// and model.safetensors, or parts of it with an index). options.type is F32, F16 or BF16. For the families
// that have a model_type (hf_architecture.h).
Result<ConvertReport> convert_to_hf(const ModelFile& model, const std::string& folder,
                                    const ConvertOptions& options, ThreadPool& pool);

}  // namespace venturi
