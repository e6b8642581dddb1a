// Plain tables and JSON on standard output.
#pragma once

#include <string>
#include <vector>

namespace venturi {

// Rows of cells as a Markdown table; the first row is the head.
std::string markdown_table(const std::vector<std::vector<std::string>>& rows);

void print_out(const std::string& text);  // to standard output, flushed

}  // namespace venturi
