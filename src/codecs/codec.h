// A weight format ("codec"): how numbers become bytes and back.
//
// One codec is one file in this folder, `x.cc`, that defines `const Codec codec_x`. The build lists
// the folder and writes the registry; codec_test.cc walks it, so a new member is tested at once.
// A codec's name is permanent: a changed encoding is a new name.
//
// Values are stored row by row. A row is cut into blocks of `block_elems` consecutive values (along
// the input dimension); a row's length is a multiple of block_elems. Threads: all pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/matmul/layout.h"

namespace venturi {

struct Codec {
  std::string_view name;   // as in GGUF: "F16", "Q4_0", "Q4_K", …
  uint32_t ggml_type;      // the id in a GGUF tensor header
  int block_elems;         // values in a block
  int block_bytes;         // bytes in a block, scales included

  // n values (a multiple of block_elems) from their blocks, in f32, with the rounding of the format's
  // definition: the reference that every kernel is compared with.
  void (*decode)(const uint8_t* blocks, float* out, int64_t n);

  // n values to blocks. `importance`, if not null, is n non-negative weights (the mean square of the
  // input each value is multiplied with); the encoder minimises the weighted squared error.
  void (*encode)(const float* values, const float* importance, uint8_t* blocks, int64_t n);

  // Integer view, null for the float codecs (F32, F16, BF16): one block as
  //   value[i] = scale[i / group] * q[i] - min[i / group]
  // with q in [-128, 127]; `group` is 16 or 32 and divides block_elems. `min` is written only when
  // has_min. Matmul computes from this view when the codec has no layout of its own.
  int group;
  bool has_min;
  void (*unpack)(const uint8_t* block, int8_t* q, float* scale, float* min);

  // The interleaved layout of a hand-tuned kernel, null if there is none.
  const PackedLayout* layout;

  double bits_per_weight() const { return 8.0 * block_bytes / block_elems; }
  // Bytes of n values; n must be a multiple of block_elems.
  uint64_t bytes(uint64_t n) const { return n / block_elems * block_bytes; }
};

std::span<const Codec* const> all_codecs();
const Codec* find_codec(std::string_view name);      // null if unknown; case matters
const Codec* find_codec_by_ggml_type(uint32_t type);  // null if unknown

// Half precision, as the formats store their scales: round to nearest even, subnormals kept.
float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);
float bf16_to_f32(uint16_t b);
uint16_t f32_to_bf16(float f);

}  // namespace venturi
