// Plain tables and JSON on standard output.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace venturi {

// Rows of cells as a Markdown table; the first row is the head.
std::string markdown_table(const std::vector<std::vector<std::string>>& rows);

// The text with control characters and bytes that are no UTF-8 escaped ("\x1b"): what a file holds may not drive a
// terminal.
enum class Breaks { kKept, kEscaped };  // of lines
std::string printable(std::string_view text, Breaks breaks = Breaks::kKept);

void print_out(const std::string& text);  // to standard output, flushed

}  // namespace venturi
