// GGUF's tensors as Hugging Face stores them: names, shapes, and every transform undone.
//
// What GGUF keeps in F32 whatever its type (norms, biases, routers) is written in the type asked
// for where that loses nothing, as it came from there, and in F32 otherwise.
#pragma once

#include "base/thread_pool.h"
#include "formats/convert_stream.h"
#include "formats/hf_architecture.h"
#include "formats/safetensors.h"

namespace venturi {

// One stored tensor and what it is made of.
struct HfOutput {
  SafeTensor stored;  // name, dtype and shape
  const TensorInfo* tensor;
  const Codec* codec;
  HfTransform transform = HfTransform::kNone;
  int64_t first_row = 0, n_rows = 0;
  const TensorInfo* second = nullptr;  // of a join

  uint64_t bytes() const;
};

Result<std::vector<HfOutput>> plan_hf_outputs(const ModelFile& model,
                                              const HfArchitecture& architecture,
                                              const Codec& codec);

// What was lost on the way.
struct HfLosses {
  uint64_t overflows = 0;  // values that F16 cannot hold
  uint64_t rounded = 0;  // values of which the inverse has more digits than the type, so that they
                         // will be read a last digit off
};

Status write_hf_output(const ModelFile& model, const HfOutput& output, ThreadPool& pool,
                       const ByteSink& sink, HfLosses& losses);

}  // namespace venturi
