// Unicode's normal forms (UAX #15), which some tokenizers bring a text into before it is cut.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace venturi {

enum class NormalForm { kNone, kC, kD, kKC, kKD };

// "", "NFC", "NFD", "NFKC" or "NFKD".
Result<NormalForm> parse_normal_form(std::string_view name);

// Bytes that are no UTF-8 stay where they are and part what is around them. Time is n log n at
// worst.
std::string to_normal_form(std::string_view text, NormalForm form);

}  // namespace venturi
