// Which instruction set the kernels use: the best the machine runs, or the one VENTURI_ISA names
// (portable, avx2, avx512, neon).
#pragma once

#include <string_view>
#include <vector>

namespace venturi {

enum class Isa { kPortable, kAvx2, kAvx512, kNeon };

constexpr int kIsaCount = 4;
std::string_view isa_name(Isa isa);
std::vector<Isa> runnable_isas();  // worst first
Isa chosen_isa();                  // decided once, at first use

}  // namespace venturi
