// Which known word a mistyped one was meant to be.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace venturi {

// Letters that must be added, dropped, exchanged with another or with their neighbour to turn one into the other
// (optimal string alignment).
int edit_distance(std::string_view a, std::string_view b);

// The known word that is nearest, the first of equally near ones; empty where none is within a third of the
// letters. A word that begins exactly one known word is that one; one that begins with a known word may be it.
std::string nearest_word(std::string_view word, std::span<const std::string> known);

}  // namespace venturi
