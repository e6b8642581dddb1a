// Safetensors: a u64 header length, a JSON header of that many bytes, then the tensors' bytes.
//
// The header is an object: each tensor's name to {"dtype", "shape", "data_offsets": [begin, end]},
// offsets counting from the end of the header, and "__metadata__" to an object of strings. This
// reader accepts what the format allows and no more: header up to 100 MB, keys unique, byte ranges
// equal to shape times type, and the ranges together covering the data with no hole and no overlap.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace venturi {

inline constexpr uint64_t kSafetensorsMaxHeaderBytes = 100'000'000;
inline constexpr size_t kSafetensorsMaxDims = 8;

struct SafeTensor {
  std::string name;
  std::string dtype;           // "F16", "BF16", "F32", "I64", …
  std::vector<int64_t> shape;  // slowest first, as PyTorch has it; empty for a scalar
  int file = 0;                // index into the files of a sharded model
  uint64_t offset = 0;         // in that file
  uint64_t bytes = 0;
};

struct SafetensorsHeader {
  std::vector<SafeTensor> tensors;  // by offset
  std::vector<std::pair<std::string, std::string>> metadata;
};

// Reads and checks everything but the tensors' bytes.
Result<SafetensorsHeader> read_safetensors_header(const File& file, int file_index = 0);

struct SafetensorsModel {
  std::vector<File> files;
  std::vector<SafeTensor> tensors;
};

// The model of a folder: model.safetensors, or the parts that model.safetensors.index.json names,
// which must hold exactly the tensors that it says.
Result<SafetensorsModel> open_safetensors_folder(const std::string& folder);

// Bytes a value of `dtype` takes; 0 for a type that the format does not have.
uint64_t safetensors_type_bytes(std::string_view dtype);

// Writes `tensors` (name, dtype and shape; the rest is worked out) in their order, bytes from
// `source` piece by piece. The file is there once it is committed.
Result<AtomicFile> write_safetensors(
    const std::string& path, const std::vector<SafeTensor>& tensors,
    const std::vector<std::pair<std::string, std::string>>& metadata,
    const std::function<
        Status(size_t index, const std::function<Status(std::span<const uint8_t>)>& sink)>& source);

}  // namespace venturi
