// Writes GGUF v3: metadata, then tensors whose bytes come piece by piece from a callback, so that
// no more of the model is in memory than one piece. The file appears under its name only when
// whole.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "codecs/codec.h"
#include "formats/metadata.h"

namespace venturi {

struct GgufTensor {
  std::string name;
  const Codec* codec;
  std::vector<int64_t> dims;  // fastest first, 1 to 4, dims[0] a multiple of codec->block_elems

  uint64_t bytes() const;
};

// Takes the next bytes of the current tensor.
using ByteSink = std::function<Status(std::span<const uint8_t>)>;
// Gives tensor `index` to `sink`, first byte to last, in pieces of any size.
using TensorSource = std::function<Status(size_t index, const ByteSink& sink)>;

struct GgufWriteOptions {
  // Parts are cut before the tensor that would take one past this many bytes of tensors; 0 writes
  // one file. Part k of n is PATH with "-0000k-of-0000n" before ".gguf".
  uint64_t part_bytes = 0;
  // Asked for every path before anything is written.
  std::function<Status(const std::string& path)> check = {};
};

// `metadata` is written as it is, but for the keys that describe the file's own layout
// (general.alignment, split.*). Returns the paths written.
Result<std::vector<std::string>> write_gguf(const std::string& path, const Metadata& metadata,
                                            const std::vector<GgufTensor>& tensors,
                                            const TensorSource& source,
                                            const GgufWriteOptions& options = {});

}  // namespace venturi
