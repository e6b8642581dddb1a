// Least frequently used since the beginning; of equally frequent ones, the least recent.
#include <vector>

#include "memory/eviction/eviction.h"

namespace venturi {

namespace {

class Lfu : public Evictor {
 public:
  explicit Lfu(const ExpertShape& shape)
      : n_experts_(shape.n_experts),
        count_(static_cast<size_t>(shape.units())),
        last_(static_cast<size_t>(shape.units())) {}
  void chosen(int64_t layer, std::span<const int32_t> experts) override {
    ++now_;
    for (const int32_t e : experts) {
      const auto unit = static_cast<size_t>(layer * n_experts_ + e);
      ++count_[unit];
      last_[unit] = now_;
    }
  }
  double worth(int64_t layer, int32_t expert) const override {
    const auto unit = static_cast<size_t>(layer * n_experts_ + expert);
    return static_cast<double>(count_[unit]) +
           static_cast<double>(last_[unit]) / static_cast<double>(now_ + 1);
  }

 private:
  int64_t n_experts_;
  uint64_t now_ = 0;
  std::vector<uint64_t> count_, last_;
};

}  // namespace

extern const Eviction eviction_lfu;
const Eviction eviction_lfu{
    "lfu", "least frequently used, then least recently",
    [](const ExpertShape& shape) -> std::unique_ptr<Evictor> { return std::make_unique<Lfu>(shape); }};

}  // namespace venturi
