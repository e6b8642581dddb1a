#include "cli/nearest_word.h"

#include <algorithm>
#include <vector>

namespace venturi {

int edit_distance(std::string_view a, std::string_view b) {
  const size_t columns = b.size() + 1;
  std::vector<int> before(columns), above(columns), row(columns);
  for (size_t j = 0; j < columns; ++j) above[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j < columns; ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(above);
    above.swap(row);
  }
  return above[b.size()];
}

std::string nearest_word(std::string_view word, std::span<const std::string> known) {
  constexpr size_t kLongest = 40, kTelling = 4;  // letters of a word, of a beginning that tells
  if (word.empty() || word.size() > kLongest) return "";
  const auto begins = [&](const std::string& name) { return name.starts_with(word); };
  if (std::count_if(known.begin(), known.end(), begins) == 1) return *std::find_if(known.begin(), known.end(), begins);
  std::string nearest;
  int least = static_cast<int>(word.size() / 3) + 1;
  for (const std::string& name : known) {
    const int distance = edit_distance(word, name);
    if (distance >= least) continue;
    least = distance;
    nearest = name;
  }
  if (nearest.empty())
    for (const std::string& name : known)
      if (name.size() >= kTelling && name.size() > nearest.size() && word.starts_with(name)) nearest = name;
  return nearest;
}

}  // namespace venturi
