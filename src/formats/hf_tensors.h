// From a Hugging Face directory's tensors to GGUF's: names, dimensions, transforms, experts
// gathered.
#pragma once

#include "base/result.h"
#include "formats/hf_architecture.h"
#include "formats/model_file.h"
#include "formats/safetensors.h"

namespace venturi {

// `model.metadata` holds the sizes already. Fills `model.tensors` (top ones first, then by block)
// and `model.by_name`.
Status map_hf_tensors(const HfArchitecture& architecture, const HfConfig& config,
                      const std::vector<SafeTensor>& stored, ModelFile& model);

// Heads in which the rows of a query's or key's weight (kRopeQuery, kRopeKey) go from halves to pairs.
Result<int> rope_heads(const Metadata& metadata, HfTransform transform, uint64_t rows, std::string_view name);

}  // namespace venturi
