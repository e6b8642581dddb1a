// Least recently used.
#include <vector>

#include "memory/eviction/eviction.h"

namespace venturi {

namespace {

class Lru : public Evictor {
 public:
  explicit Lru(const ExpertShape& shape)
      : n_experts_(shape.n_experts), last_(static_cast<size_t>(shape.units())) {}
  void chosen(int64_t layer, std::span<const int32_t> experts) override {
    ++now_;
    for (const int32_t e : experts) last_[static_cast<size_t>(layer * n_experts_ + e)] = now_;
  }
  double worth(int64_t layer, int32_t expert) const override {
    return static_cast<double>(last_[static_cast<size_t>(layer * n_experts_ + expert)]);
  }

 private:
  int64_t n_experts_;
  uint64_t now_ = 0;
  std::vector<uint64_t> last_;
};

}  // namespace

extern const Eviction eviction_lru;
const Eviction eviction_lru{
    "lru", "least recently used",
    [](const ExpertShape& shape) -> std::unique_ptr<Evictor> { return std::make_unique<Lru>(shape); }};

}  // namespace venturi
