#include "tokenizers/sentencepiece.h"

#include <cstring>

#include "tokenizers/utf8.h"

namespace venturi {

namespace {

constexpr std::string_view kCharsMap = "tokenizer.ggml.precompiled_charsmap";

uint32_t load_u32(const char* bytes) {
  const auto* b = reinterpret_cast<const uint8_t*>(bytes);
  return b[0] | uint32_t{b[1]} << 8 | uint32_t{b[2]} << 16 | uint32_t{b[3]} << 24;
}

constexpr uint32_t unit_label(uint32_t unit) { return unit & (1u << 31 | 0xFF); }
constexpr bool unit_has_value(uint32_t unit) { return unit >> 8 & 1; }
constexpr uint32_t unit_offset(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }
constexpr uint32_t unit_value(uint32_t unit) { return unit & ~(1u << 31); }

}  // namespace

Result<CharsMap> CharsMap::parse(std::string_view bytes) {
  if (bytes.size() < 4)
    return error(Code::kCorrupt, "{} has {} bytes; expected 4 or more", kCharsMap, bytes.size());
  const uint64_t trie_bytes = load_u32(bytes.data());
  if (trie_bytes % 4 != 0 || trie_bytes < 4 || trie_bytes > bytes.size() - 4)
    return error(Code::kCorrupt, "{} says that its trie has {} bytes; {} follow", kCharsMap,
                 trie_bytes, bytes.size() - 4);
  CharsMap map;
  for (size_t i = 0; i < trie_bytes; i += 4) map.units_.push_back(load_u32(bytes.data() + 4 + i));
  map.replacements_ = bytes.substr(4 + trie_bytes);
  if (!map.replacements_.empty() && map.replacements_.back() != 0)
    return error(Code::kCorrupt, "{} does not end its last replacement with 0", kCharsMap);
  return map;
}

CharsMap::Match CharsMap::longest(std::string_view text, size_t at) const {
  Match best;
  uint32_t node = unit_offset(units_[0]);
  for (size_t i = at; i < text.size(); ++i) {
    const uint8_t c = static_cast<uint8_t>(text[i]);
    node ^= c;
    if (c == 0 || node >= units_.size() || unit_label(units_[node]) != c) break;
    const bool has_value = unit_has_value(units_[node]);
    node ^= unit_offset(units_[node]);
    if (node >= units_.size()) break;
    if (!has_value) continue;
    const uint32_t begin = unit_value(units_[node]);
    if (begin >= replacements_.size()) break;
    best = {i + 1 - at, std::string_view(replacements_.c_str() + begin)};
  }
  return best;
}

std::string CharsMap::apply(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    if (const Match match = longest(text, at); match.length > 0) {
      out += match.replacement;
      at += match.length;
      continue;
    }
    const CodePoint c = decode_utf8(text, at);
    if (c.length == 0) {
      append_utf8(kReplacement, out);
      ++at;
    } else {
      out += text.substr(at, c.length);
      at += c.length;
    }
  }
  return out;
}

Result<SentencePieceNormalizer> SentencePieceNormalizer::create(const Metadata& metadata) {
  SentencePieceNormalizer normalizer;
  normalizer.add_space_ = TRY(metadata.bool_or("tokenizer.ggml.add_space_prefix", true));
  normalizer.remove_extra_ =
      TRY(metadata.bool_or("tokenizer.ggml.remove_extra_whitespaces", false));
  if (const MetaValue* value = metadata.find(kCharsMap)) {
    const auto* array = std::get_if<MetaArray>(&value->value);
    if (array == nullptr || (array->element != MetaType::kU8 && array->element != MetaType::kI8))
      return error(Code::kCorrupt, "{} is not an array of bytes", kCharsMap);
    if (!array->bytes.empty()) normalizer.map_ = TRY(CharsMap::parse(array->bytes));
  }
  return normalizer;
}

std::string SentencePieceNormalizer::apply(std::string_view text, bool opens) const {
  std::string mapped;
  if (map_) {
    mapped = map_->apply(text);
    text = mapped;
  }
  std::string out;
  out.reserve(text.size() + text.size() / 2 + kSpaceMark.size());
  if (!remove_extra_) {
    if (add_space_ && opens) out += kSpaceMark;
    for (const char c : text) {
      if (c == ' ') {
        out += kSpaceMark;
      } else {
        out += c;
      }
    }
    return out;
  }
  bool mark = add_space_ && opens;
  for (const char c : text) {
    if (c == ' ') {
      mark = mark || !out.empty();
      continue;
    }
    if (mark) out += kSpaceMark;
    mark = false;
    out += c;
  }
  return out;
}

std::string unmark_spaces(std::string_view piece) {
  std::string out;
  while (true) {
    const size_t mark = piece.find(kSpaceMark);
    out += piece.substr(0, mark);
    if (mark == std::string_view::npos) return out;
    out += ' ';
    piece.remove_prefix(mark + kSpaceMark.size());
  }
}

}  // namespace venturi
