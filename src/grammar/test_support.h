#pragma once

#include <memory>
#include <random>
#include <string>
#include <string_view>

#include "grammar/matcher.h"

namespace venturi::grammar {

inline bool matches(Matcher& m, std::string_view text) {
  Matcher::Set set = m.start();
  for (const char c : text) set = m.next(set, static_cast<uint8_t>(c));
  return set != Matcher::kDead && m.accepts(set);
}

// A text of the grammar, byte by byte at random; "" if it did not end within `steps`.
inline std::string random_text(Matcher& m, std::mt19937& random, int steps = 400) {
  std::string text;
  Matcher::Set set = m.start();
  for (int i = 0; i < steps; ++i) {
    if (m.accepts(set) && (m.can_only_end(set) || random() % 4 == 0)) return text;
    std::string bytes;
    for (int b = 0; b < 256; ++b)
      if (m.next(set, static_cast<uint8_t>(b)) != Matcher::kDead) bytes.push_back(static_cast<char>(b));
    // Quotes and brackets as often as all the rest together, or strings would not end.
    const std::string enders = "\"]},";
    std::string ends;
    for (const char c : bytes)
      if (enders.find(c) != std::string::npos) ends.push_back(c);
    const std::string& from = !ends.empty() && random() % 2 ? ends : bytes;
    text.push_back(from[random() % from.size()]);
    set = m.next(set, static_cast<uint8_t>(text.back()));
  }
  return "";
}

}  // namespace venturi::grammar
