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

}  // namespace venturi
