// Small vocabularies and random texts for the tests of this room.
#pragma once

#include <utf8proc.h>

#include <ctime>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/random.h"
#include "formats/metadata.h"
#include "tokenizers/pre_tokenizer.h"
#include "tokenizers/tokenizer.h"
#include "tokenizers/utf8.h"

namespace venturi::testing {

// 0..255 the bytes in order of value, spelled as GPT-2 does, then `more`, then <|end|>-like
// specials.
inline std::string gpt2_spelling(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const uint32_t b = static_cast<uint8_t>(c);
    uint32_t n = 0;  // bytes before b that are not printable
    const auto printable = [](uint32_t x) {
      return (x >= 33 && x <= 126) || (x >= 161 && x <= 172) || x >= 174;
    };
    for (uint32_t x = 0; x < b; ++x) n += !printable(x);
    append_utf8(printable(b) ? b : 256 + n, out);
  }
  return out;
}

// Byte-level BPE: the 256 bytes (ids 0 to 255), then the results of `merges` ("a b" in bytes), then
// <s> (control), </s> (control), <tool> (user-defined).
inline Metadata gpt2_metadata(const std::vector<std::pair<std::string, std::string>>& merges) {
  std::vector<std::string> tokens, pairs;
  std::vector<int32_t> kinds;
  for (int b = 0; b < 256; ++b)
    tokens.push_back(gpt2_spelling(std::string(1, static_cast<char>(b))));
  for (const auto& [left, right] : merges) {
    tokens.push_back(gpt2_spelling(left + right));
    pairs.push_back(gpt2_spelling(left) + " " + gpt2_spelling(right));
  }
  kinds.assign(tokens.size(), 1);
  const auto bos = static_cast<uint64_t>(tokens.size());
  tokens.insert(tokens.end(), {"<s>", "</s>", "<tool>"});
  kinds.insert(kinds.end(), {3, 3, 4});
  Metadata metadata;
  metadata.set_string("tokenizer.ggml.model", "gpt2");
  metadata.set_string("tokenizer.ggml.pre", "gpt-2");
  metadata.set_strings("tokenizer.ggml.tokens", tokens);
  metadata.set_ints("tokenizer.ggml.token_type", kinds);
  metadata.set_strings("tokenizer.ggml.merges", pairs);
  metadata.set_uint("tokenizer.ggml.bos_token_id", bos);
  metadata.set_uint("tokenizer.ggml.eos_token_id", bos + 1);
  return metadata;
}

// SentencePiece: <unk> <s> </s>, the 256 byte tokens (ids 3 to 258), then `pieces` with falling
// scores (-1, -2, …), then <tool> (user-defined).
inline Metadata sentencepiece_metadata(std::string model, const std::vector<std::string>& pieces,
                                       bool bytes = true) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> kinds = {2, 3, 3};
  std::vector<float> scores = {0, 0, 0};
  for (int b = 0; bytes && b < 256; ++b) {
    tokens.push_back(fmt::format("<0x{:02X}>", b));
    kinds.push_back(6);
    scores.push_back(0);
  }
  float score = 0;
  for (const std::string& piece : pieces) {
    tokens.push_back(piece);
    kinds.push_back(1);
    scores.push_back(score -= 1);
  }
  tokens.push_back("<tool>");
  kinds.push_back(4);
  scores.push_back(0);
  Metadata metadata;
  metadata.set_string("tokenizer.ggml.model", std::move(model));
  metadata.set_strings("tokenizer.ggml.tokens", tokens);
  metadata.set_ints("tokenizer.ggml.token_type", kinds);
  metadata.set_floats("tokenizer.ggml.scores", scores);
  metadata.set_uint("tokenizer.ggml.bos_token_id", 1);
  metadata.set_uint("tokenizer.ggml.eos_token_id", 2);
  metadata.set_uint("tokenizer.ggml.unknown_token_id", 0);
  return metadata;
}

inline Metadata bert_metadata(const std::vector<std::string>& pieces) {
  std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"};
  std::vector<int32_t> kinds = {3, 2, 3, 3};
  for (const std::string& piece : pieces) {
    tokens.push_back(piece);
    kinds.push_back(1);
  }
  Metadata metadata;
  metadata.set_string("tokenizer.ggml.model", "bert");
  metadata.set_strings("tokenizer.ggml.tokens", tokens);
  metadata.set_ints("tokenizer.ggml.token_type", kinds);
  metadata.set_uint("tokenizer.ggml.unknown_token_id", 1);
  metadata.set_uint("tokenizer.ggml.cls_token_id", 2);
  metadata.set_uint("tokenizer.ggml.seperator_token_id", 3);
  return metadata;
}

// Valid UTF-8 of `n` code points, mostly those that pre-tokenizers tell apart.
inline std::string random_text(uint64_t seed, int n) {
  static constexpr uint32_t kInteresting[] = {
      ' ',    ' ',   ' ',    '\n',    '\r',   '\t',   '\v',   0x85,   0xA0,     0x3000, 0x180E,
      0x200B, '\'',  '\'',   's',     'S',    't',    'r',    'e',    'v',      'l',    'L',
      'd',    'm',   0x17F,  0x212A,  'a',    'Z',    '0',    '1',    '9',      '.',    '!',
      '/',    '_',   '$',    0xE9,    0x451,  0x4E2D, 0x3042, 0xD55C, 0x661,    0xB2,   0xBD,
      0x2167, 0x301, 0x17B6, 0x1F600, 0x200D, 0x1C5,  0x2B0,  0,      0x10FFFF, 0xE000};
  std::string out;
  for (int i = 0; i < n; ++i) {
    const uint64_t r = random_bits(seed, 1, static_cast<uint64_t>(i));
    uint32_t c = kInteresting[(r >> 8) % std::size(kInteresting)];
    if (r % 8 == 0) c = static_cast<uint32_t>(r >> 16) % 0x110000;
    if (r % 8 == 1) c = static_cast<uint32_t>(r >> 16) % 0x3000;
    append_utf8(c >= 0xD800 && c <= 0xDFFF ? ' ' : c, out);
  }
  return out;
}

// Whether PCRE2 and utf8proc put a code point into the same category. They carry different versions
// of Unicode; where they differ is no test of what is built on them.
inline bool undisputed(uint32_t c, std::string_view bytes) {
  static const auto probes = [] {
    std::vector<PreTokenizer> out;
    for (const std::string_view pattern :
         {R"(\p{L})", R"(\p{N})", R"(\d)", R"([\p{L}\p{M}\p{Nd}\p{Pc}])"})
      out.push_back(PreTokenizer::compile(std::span(&pattern, 1), false).value());
    return out;
  }();
  const auto matches = [&](size_t probe) {
    std::string text(".");
    text += bytes;
    std::vector<size_t> ends;
    probes[probe].split(text, ends);
    return ends.size() == 2;
  };
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  const CharClass kind = char_class(c);
  const bool word = kind == CharClass::kLetter || category == UTF8PROC_CATEGORY_ND ||
                    category == UTF8PROC_CATEGORY_PC || category == UTF8PROC_CATEGORY_MN ||
                    category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
  return matches(0) == (kind == CharClass::kLetter) && matches(1) == (kind == CharClass::kNumber) &&
         matches(2) == (category == UTF8PROC_CATEGORY_ND) && matches(3) == word;
}

// The same text without disputed code points.
inline std::string without_disputed(std::string_view text) {
  static std::vector<int8_t> known(0x110000, -1);
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    const std::string_view bytes = text.substr(at, c.length);
    at += c.length;
    if (known[c.value] < 0) known[c.value] = undisputed(c.value, bytes);
    if (known[c.value]) out += bytes;
  }
  return out;
}

// Processor time, which a busy machine does not stretch as it does the clock on the wall.
inline double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// How much longer things may take in this build than in an optimised one.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
inline constexpr double kPatience = 20;
#else
inline constexpr double kPatience = 1;
#endif

inline std::string repeat(std::string_view unit, size_t bytes) {
  std::string out;
  while (out.size() < bytes) out += unit;
  return out;
}

}  // namespace venturi::testing
