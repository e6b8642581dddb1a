#include "cli/engine_pair.h"

#include <algorithm>

#include "base/checked.h"

namespace venturi {

namespace {

constexpr uint64_t kFine = 100'000;  // bytes to which a need is found

// What a model needs at least, streamed, and all in memory.
struct Need {
  uint64_t least = 0, whole = 0;
};

Result<Need> need_of(const std::string& path, EngineOptions options) {
  const auto planner = TRY(Planner::open(path));
  options.memory = Ledger::kUnlimited;
  Need need;
  need.whole = TRY(planner->fit(options)).footprint.peak();
  uint64_t low = 0, high = need.whole;  // high fits
  while (high - low > kFine) {
    options.memory = low + (high - low) / 2;
    (planner->try_fit(options) ? high : low) = options.memory;
  }
  need.least = high;
  return need;
}

}  // namespace

Result<EnginePair> open_pair(const ModelFlags& flags, const std::string& base, int64_t outputs) {
  ModelFlags first = flags, second = flags;
  second.model = base;
  second.adapters.clear();  // what the model is compared with
  if (!flags.memory.empty()) {
    const EngineOptions options = TRY(flags.engine_options(outputs));
    const Need a = TRY(need_of(TRY(flags.path()), options)), b = TRY(need_of(base, TRY(second.engine_options(outputs))));
    if (a.least > options.memory || b.least > options.memory - a.least)
      return error(Code::kOutOfBudget,
                   "the model needs {} at least and {} needs {}, both streamed; the memory budget of the two is {}. Give "
                   "--memory {}M or more",
                   format_bytes(a.least), base, format_bytes(b.least), format_bytes(options.memory),
                   ceil_div(static_cast<int64_t>(a.least + b.least), 1000000));
    const uint64_t spare = options.memory - a.least - b.least, wanted_a = a.whole - a.least, wanted_b = b.whole - b.least;
    // In the order of what each could use; what neither could is halved.
    uint64_t more = spare / 2;
    if (const uint64_t wanted = wanted_a + wanted_b; wanted >= spare && wanted > 0)
      more = static_cast<uint64_t>(static_cast<double>(spare) * (static_cast<double>(wanted_a) / static_cast<double>(wanted)));
    else
      more = wanted_a + (spare - wanted) / 2;
    more = std::min(more, spare);
    first.memory = std::to_string(a.least + more);
    second.memory = std::to_string(b.least + (spare - more));
  }
  EnginePair pair;
  pair.model = TRY(first.open(outputs));
  pair.base = TRY(second.open(outputs));
  return pair;
}

}  // namespace venturi
