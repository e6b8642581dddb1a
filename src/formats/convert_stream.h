// Rows of a tensor, transforms applied, encoded by several threads and handed on in order.
#pragma once

#include <atomic>
#include <functional>
#include <span>

#include "base/thread_pool.h"
#include "formats/convert.h"
#include "formats/gguf_write.h"
#include "formats/model_file.h"

namespace venturi {

struct EncodeJob {
  const ModelFile& model;
  const TensorInfo& tensor;
  const Codec& codec;
  const std::vector<float>* importance = nullptr;
  // Output row -> row of `tensor`; null for the same.
  std::function<int64_t(int64_t)> row_of;
  int64_t first_row = 0, n_rows = 0;
};

// Code::kCorrupt if a value is not finite. Adds to `overflows` values that the codec cannot hold
// (F16).
Status encode_rows(const EncodeJob& job, ThreadPool& pool, const ByteSink& sink,
                   uint64_t& overflows);

}  // namespace venturi
