// Which codec each tensor of a model gets when it is converted to a "type".
//
// A type is a codec's name or one of the mixtures people know from llama.cpp (Q4_K_M, …), and means
// the same tensors in the same codecs as there: the more sensitive ones get more bits. Q2_K, Q3_K,
// Q4_K and Q5_K are mixtures too (the last three those ending in _M).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "codecs/codec.h"
#include "formats/model_file.h"

namespace venturi {

struct TypeChoice {
  const Codec* codec;
  std::string warning;  // not empty if the codec that the type asks for does not fit: why, without the name
};

class TypeRules {
 public:
  // `pure`: every matrix in the one codec, the output too. `has_importance`: some rules depend on
  // it.
  static Result<TypeRules> create(std::string_view type, const ModelFile& model, bool pure,
                                  bool has_importance);

  TypeChoice choose(const TensorInfo& tensor) const;
  uint32_t file_type() const { return file_type_; }  // general.file_type

 private:
  const Codec* wanted(const TensorInfo& tensor) const;

  std::string_view mixture_;
  const Codec* base_ = nullptr;
  uint32_t file_type_ = 0;
  bool pure_ = false, has_importance_ = false, has_output_ = false;
  int n_blocks_ = 0, queries_per_key_ = 1;
  uint64_t n_experts_ = 0;
};

std::vector<std::string_view> all_convert_types();

// Whether a GGUF file of any type keeps the tensor in F32: small, and what everything else hangs on.
bool stays_f32(const TensorInfo& tensor);

}  // namespace venturi
