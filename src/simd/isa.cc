#include "simd/isa.h"

#include <cstdlib>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/log.h"

namespace venturi {

std::string_view isa_name(Isa isa) {
  constexpr std::string_view kNames[kIsaCount] = {"portable", "avx2", "avx512", "neon"};
  return kNames[static_cast<int>(isa)];
}

#if defined(__x86_64__)
// The name that clang 14 does not know.
static bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

std::vector<Isa> runnable_isas() {
  std::vector<Isa> isas = {Isa::kPortable};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
    isas.push_back(Isa::kAvx2);
  if (isas.size() == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni"))
    isas.push_back(Isa::kAvx512);
#elif defined(__aarch64__)
  isas.push_back(Isa::kNeon);
#endif
  return isas;
}

Isa chosen_isa() {
  static const Isa chosen = [] {
    const auto isas = runnable_isas();
    if (const char* wanted = std::getenv("VENTURI_ISA"); wanted && *wanted) {
      for (const Isa isa : isas)
        if (isa_name(isa) == wanted) return isa;
      spdlog::warn("VENTURI_ISA={} is not an instruction set this machine runs; using {}", wanted,
                   isa_name(isas.back()));
    }
    return isas.back();
  }();
  return chosen;
}

}  // namespace venturi
