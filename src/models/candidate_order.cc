#include "models/candidate_order.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <utility>

namespace venturi {
namespace {

using Candidate = Sampler::Candidate;

constexpr size_t kComparisonSort = 1024;  // up to here a comparison sort is faster
constexpr int kDigitBits = 11, kDigits = 3;
constexpr size_t kDigitValues = size_t{1} << kDigitBits;

// Ascending where logits descend; 0 and -0 are equal.
uint32_t key_of(const Candidate& c) {
  const auto bits = std::bit_cast<uint32_t>(c.logit + 0.0f);
  return bits >> 31 ? bits : ~bits & 0x7fffffff;
}
size_t digit_of(uint32_t key, int digit) { return key >> (kDigitBits * digit) & (kDigitValues - 1); }

}  // namespace

bool comes_first(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// Least significant digit first; each pass keeps the order of equal digits, so equal logits stay in
// order of id.
void sort_candidates(std::span<Candidate> candidates, std::vector<Candidate>& scratch) {
  if (candidates.size() <= kComparisonSort) {
    std::sort(candidates.begin(), candidates.end(), comes_first);
    return;
  }
  std::array<std::array<uint32_t, kDigitValues>, kDigits> begin{};
  for (const Candidate& c : candidates)
    for (int digit = 0; digit < kDigits; ++digit) ++begin[digit][digit_of(key_of(c), digit)];
  if (scratch.size() < candidates.size()) scratch.resize(candidates.size());
  std::span<Candidate> from = candidates, to(scratch.data(), candidates.size());
  for (int digit = 0; digit < kDigits; ++digit) {
    auto& at = begin[digit];
    if (at[digit_of(key_of(from[0]), digit)] == from.size()) continue;  // all alike
    uint32_t sum = 0;
    for (uint32_t& value : at) sum += std::exchange(value, sum);
    for (const Candidate& c : from) to[at[digit_of(key_of(c), digit)]++] = c;
    std::swap(from, to);
  }
  if (from.data() != candidates.data()) std::copy(from.begin(), from.end(), candidates.begin());
}

size_t bring_forward(std::span<Candidate> candidates, double mass, std::vector<Candidate>& scratch) {
  // The mass of each value of the key's leading bits: sign, exponent and three bits of the fraction.
  constexpr int kShift = 20;
  constexpr double kMargin = 1e-9;  // the sum in order of bins rounds otherwise than that in order of candidates
  std::array<double, size_t{1} << (32 - kShift)> bins{};
  for (const Candidate& c : candidates) bins[key_of(c) >> kShift] += c.probability;
  size_t last = 0;
  for (double sum = bins[0]; sum < mass + kMargin && last + 1 < bins.size();) sum += bins[++last];
  if (scratch.size() < candidates.size()) scratch.resize(candidates.size());
  size_t front = 0, back = 0;
  for (const Candidate& c : candidates) {
    if (key_of(c) >> kShift <= last) {
      candidates[front++] = c;
    } else {
      scratch[back++] = c;
    }
  }
  std::copy_n(scratch.begin(), back, candidates.begin() + static_cast<std::ptrdiff_t>(front));
  return front;
}

}  // namespace venturi
