#include "cli/text.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>

#include "tokenizers/utf8.h"

namespace venturi {

std::string markdown_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> width;
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) {
      if (i >= width.size()) width.push_back(3);
      width[i] = std::max(width[i], row[i].size());
    }
  std::string out;
  for (size_t r = 0; r < rows.size(); ++r) {
    out += "|";
    for (size_t i = 0; i < rows[r].size(); ++i) out += " " + rows[r][i] + std::string(width[i] - rows[r][i].size(), ' ') + " |";
    out += "\n";
    if (r == 0) {
      out += "|";
      for (const size_t w : width) out += std::string(w + 2, '-') + "|";
      out += "\n";
    }
  }
  return out;
}

std::string printable(std::string_view text, Breaks breaks) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    const size_t length = std::max(c.length, 1u);
    const bool kept = breaks == Breaks::kKept && c.value == '\n';
    if (c.length > 0 && (kept || !is_control(c.value))) {
      out += text.substr(at, length);
    } else {
      for (size_t i = at; i < at + length; ++i) out += fmt::format("\\x{:02x}", static_cast<uint8_t>(text[i]));
    }
    at += length;
  }
  return out;
}

void print_out(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace venturi
