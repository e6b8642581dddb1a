// Arithmetic on sizes read from outside. Every product and sum of such numbers goes through here.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>

namespace venturi {

inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

inline std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

inline bool is_power_of_two(uint64_t x) { return x != 0 && (x & (x - 1)) == 0; }

// x rounded up to a multiple of `alignment`, a power of two; nothing if that passes 2^64.
inline std::optional<uint64_t> checked_align(uint64_t x, uint64_t alignment) {
  auto padded = checked_add(x, alignment - 1);
  if (!padded) return std::nullopt;
  return *padded & ~(alignment - 1);
}

// For our own, already bounded sizes.
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace venturi
