// GGUF, versions 2 and 3, little endian.
//
// Layout (all integers little endian; a string is a u64 length and its bytes):
//   "GGUF", u32 version, u64 n_tensors, u64 n_keys,
//   n_keys x (string key, u32 type, value), an array value being u32 element type, u64 count,
//   elements, n_tensors x (string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset),
//   padding to `general.alignment` (32 when absent), then the data the offsets count from.
//
// Bounds that this reader sets where the format sets none, far above any file seen so far:
//   header 1 GiB; keys 65,536, each of 1 to 65,535 bytes; tensors 1,000,000, names of 1 to 127
//   bytes; alignment a power of two up to 1 MiB; arrays of arrays refused (nothing writes them); a
//   tensor has 1 to 4 dimensions, each at least 1.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "formats/metadata.h"
#include "formats/model_file.h"

namespace venturi {

inline constexpr uint64_t kGgufAlignment = 32;
inline constexpr uint64_t kGgufMaxAlignment = 1 << 20;
inline constexpr uint64_t kGgufMaxHeaderBytes = 1 << 30;
inline constexpr uint64_t kGgufMaxKeys = 1 << 16;
inline constexpr uint64_t kGgufMaxKeyBytes = (1 << 16) - 1;
inline constexpr uint64_t kGgufMaxTensors = 1'000'000;
inline constexpr uint64_t kGgufMaxNameBytes = 127;

struct GgufHeader {
  uint32_t version = 0;
  uint64_t alignment = kGgufAlignment;
  uint64_t data_start = 0;
  Metadata metadata;
  std::vector<TensorInfo> tensors;  // segments carry `file_index` and absolute offsets
};

// Reads and checks everything but the tensors' bytes.
Result<GgufHeader> read_gguf_header(const File& file, int file_index);

// PREFIX-00002-of-00003.gguf for part 1 of 3.
std::string gguf_part_path(std::string_view prefix, uint64_t number, uint64_t count);

// "Q4_K" for 12; empty for an id that GGML never had.
std::string_view ggml_type_name(uint32_t type);

}  // namespace venturi
