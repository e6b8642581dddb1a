// tokenizer.model: SentencePiece's protobuf, of which a tokenizer needs the pieces and a few
// settings.
//
// Parsed by hand: fields may come in any order, unknown ones are skipped, and every length is
// checked against the bytes that are left. A protobuf has no magic, so a file without pieces is
// refused.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace venturi {

struct SentencePiece {
  std::string_view text;  // into the bytes that were parsed
  float score = 0;
  uint32_t type = 1;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte: as GGUF
};

struct SentencePieceModel {
  std::vector<SentencePiece> pieces;
  bool is_bpe = false;  // else unigram
  int64_t unk_id = 0, bos_id = 1, eos_id = 2, pad_id = -1;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  std::string_view charsmap;  // normalisation rules, compiled
};

// `bytes` must outlive the result; `path` is for messages.
Result<SentencePieceModel> parse_sentencepiece_model(std::string_view bytes,
                                                     const std::string& path);

}  // namespace venturi
