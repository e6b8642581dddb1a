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
#include <nlohmann/json_fwd.hpp>
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

// Gives the bytes of tensor `index`, piece by piece.
using SafetensorsSource = std::function<Status(
    size_t index, const std::function<Status(std::span<const uint8_t>)>& sink)>;

// Tensors [begin, end) of a list, in a file of their own.
struct SafetensorsPart {
  std::string path;
  size_t begin, end;
};

// The files of a model: model.safetensors, or, when `part_bytes` is not 0 and the tensors have more
// bytes, model-00001-of-0000N.safetensors and so on, each of at most that many or of one tensor.
std::vector<SafetensorsPart> cut_safetensors(const std::string& folder,
                                             const std::vector<SafeTensor>& tensors,
                                             uint64_t part_bytes);

// model.safetensors.index.json of parts.
nlohmann::json safetensors_index(const std::vector<SafetensorsPart>& parts,
                                 const std::vector<SafeTensor>& tensors);

// Writes `tensors` (name, dtype and shape; the rest is worked out) in their order. Room for all
// parts is taken first. The files are there once they are committed.
Result<std::vector<AtomicFile>> write_safetensors(
    const std::vector<SafetensorsPart>& parts, const std::vector<SafeTensor>& tensors,
    const std::vector<std::pair<std::string, std::string>>& metadata,
    const SafetensorsSource& source);

// All of them in one file.
Result<AtomicFile> write_safetensors(
    const std::string& path, const std::vector<SafeTensor>& tensors,
    const std::vector<std::pair<std::string, std::string>>& metadata,
    const SafetensorsSource& source);

}  // namespace venturi
