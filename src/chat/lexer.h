// Cuts the source of a template into tokens, and does what the tags say about whitespace around
// them.
//
// The settings are those Hugging Face renders chat templates with: trim_blocks (the newline after a
// block tag or comment goes), lstrip_blocks (so do the blanks between the start of a line and such
// a tag), and the one newline that may end the source is dropped. "\r\n" and "\r" become "\n"
// first.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace venturi::chat {

enum class TokenType : uint8_t {
  kData,        // text between tags
  kBlockBegin,  // {%
  kBlockEnd,
  kPrintBegin,  // {{
  kPrintEnd,
  kName,
  kInteger,
  kFloat,
  kString,    // `text` is decoded
  kOperator,  // `text` is its spelling
  kEnd,
};

struct Token {
  TokenType type = TokenType::kEnd;
  std::string text;
  size_t offset = 0;  // in the normalised source
};

// "line 3, column 7" of an offset; both count from 1, columns in characters.
std::string position_of(std::string_view source, size_t offset);

// Newlines normalised and the last one dropped: what offsets count in.
std::string normalise_source(std::string_view source);

// Ends with a kEnd token. `source` must be normalised.
Result<std::vector<Token>> tokenise_template(std::string_view source);

}  // namespace venturi::chat
