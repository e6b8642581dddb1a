// Numbers between bounds, digit by digit.
#include <algorithm>

#include "grammar/json_parts.h"

namespace venturi::grammar {

namespace {

constexpr int64_t kMost = 999'999'999'999'999'999;  // 18 digits

}  // namespace

int JsonParts::digits_between(const std::string& low, const std::string& high) {
  if (low.empty()) return g_.empty();
  const auto digit = [&](char a, char b) { return g_.any_of({{static_cast<uint32_t>(a), static_cast<uint32_t>(b)}}); };
  const std::string nines(low.size() - 1, '9'), zeros(low.size() - 1, '0');
  if (low.substr(1) == zeros && high.substr(1) == nines)
    return g_.sequence({digit(low[0], high[0]), g_.repeat(digit('0', '9'), static_cast<int>(zeros.size()), static_cast<int>(zeros.size()))});
  if (low[0] == high[0]) return g_.sequence({digit(low[0], low[0]), digits_between(low.substr(1), high.substr(1))});
  std::vector<int> choices = {g_.sequence({digit(low[0], low[0]), digits_between(low.substr(1), nines)}),
                              g_.sequence({digit(high[0], high[0]), digits_between(zeros, high.substr(1))})};
  if (low[0] + 1 < high[0])
    choices.push_back(g_.sequence({digit(static_cast<char>(low[0] + 1), static_cast<char>(high[0] - 1)),
                                   g_.repeat(digit('0', '9'), static_cast<int>(zeros.size()), static_cast<int>(zeros.size()))}));
  return g_.choice(std::move(choices));
}

int JsonParts::natural_between(uint64_t low, uint64_t high) {
  std::vector<int> choices;
  while (low <= high) {
    const std::string text = std::to_string(low);
    uint64_t last = 0;  // with as many digits
    for (size_t i = 0; i < text.size(); ++i) last = last * 10 + 9;
    const uint64_t top = std::min(last, high);
    choices.push_back(digits_between(text, std::to_string(top)));
    if (top == high) break;
    low = top + 1;
  }
  return g_.choice(std::move(choices));
}

int JsonParts::integer_between(std::optional<int64_t> low, std::optional<int64_t> high) {
  const int64_t a = std::max(low.value_or(-kMost), -kMost), b = std::min(high.value_or(kMost), kMost);
  std::vector<int> choices;
  if (a < 0) {
    const int64_t nearest = std::min<int64_t>(b, -1);
    choices.push_back(g_.sequence({g_.bytes("-"), natural_between(static_cast<uint64_t>(-nearest), static_cast<uint64_t>(-a))}));
  }
  if (b >= 0) choices.push_back(natural_between(static_cast<uint64_t>(std::max<int64_t>(a, 0)), static_cast<uint64_t>(b)));
  return g_.choice(std::move(choices));
}

int JsonParts::magnitude_between(const Bound& low, const Bound& high) {
  const int digit = g_.any_of({{'0', '9'}});
  const int any_fraction = g_.optional(g_.sequence({g_.bytes("."), g_.repeat(digit, 1, 18)}));
  const int zeros = g_.optional(g_.sequence({g_.bytes("."), g_.repeat(g_.bytes("0"), 1, 18)}));
  const int some_fraction = g_.sequence({g_.bytes("."), g_.repeat(g_.bytes("0"), 0, 8), g_.any_of({{'1', '9'}}), g_.repeat(digit, 0, 8)});
  const auto whole = [&](int64_t n) { return g_.bytes(std::to_string(n)); };
  std::vector<int> choices;
  if (low.value < high.value) {
    choices.push_back(g_.sequence({whole(low.value), low.excluded ? some_fraction : any_fraction}));
    if (low.value + 1 < high.value)
      choices.push_back(g_.sequence({natural_between(static_cast<uint64_t>(low.value) + 1, static_cast<uint64_t>(high.value) - 1), any_fraction}));
  }
  if (!high.excluded && (low.value < high.value || !low.excluded)) choices.push_back(g_.sequence({whole(high.value), zeros}));
  return choices.empty() ? -1 : g_.choice(std::move(choices));
}

int JsonParts::number_between(Bound low, Bound high) {
  low.value = std::max(low.value, -kMost);
  high.value = std::min(high.value, kMost);
  std::vector<int> choices;
  if (low.value < 0 && low.value <= high.value) {
    // Its magnitude runs from that of `high`; zero belongs to the other half.
    const Bound near = high.value < 0 ? Bound{-high.value, high.excluded} : Bound{0, true};
    if (const int negative = magnitude_between(near, {-low.value, low.excluded}); negative >= 0)
      choices.push_back(g_.sequence({g_.bytes("-"), negative}));
  }
  if (high.value >= 0) {
    const Bound near = low.value >= 0 ? low : Bound{0, false};
    if (near.value <= high.value)
      if (const int positive = magnitude_between(near, high); positive >= 0) choices.push_back(positive);
  }
  return choices.empty() ? -1 : g_.choice(std::move(choices));
}

}  // namespace venturi::grammar
