// Adapters of low rank, beside the weights of a model: declared from their headers, so that shape mode
// and the budget know them, then loaded into memory drawn from the ledger, in the layout of
// kernels/low_rank. They are never merged into a weight: rows of one step may have different ones.
// Threads: declare and load from one thread; loaded adapters are immutable.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/buffer.h"
#include "base/ledger.h"
#include "formats/adapter.h"
#include "kernels/low_rank/low_rank.h"
#include "memory/weights.h"

namespace venturi {

// What a row of x adds to y = W x: scale B (A x).
struct LowRankUpdate {
  int64_t rank = 0;
  float scale = 0;
  LowRankFormat a_format = LowRankFormat::kF32, b_format = LowRankFormat::kF32;
  const uint8_t *a = nullptr, *b = nullptr;  // [rank, n_in] and [n_out, rank]; null until loaded
  uint64_t bytes = 0;                        // of both
  int64_t padded_rank() const { return (rank + kGroupRows - 1) / kGroupRows * kGroupRows; }
};

class Adapter {
 public:
  // `number` is its own among a model's, from 1. `scale` is over that of the file. Code::kUnsupported for
  // one that changes a weight which this architecture uses in parts.
  static Result<std::unique_ptr<Adapter>> declare(AdapterFile file, std::string name, uint64_t number, float scale,
                                                  const WeightCatalog& catalog);

  const std::string& name() const { return name_; }
  const std::string& path() const { return file_.stored.path; }
  uint64_t number() const { return number_; }
  const AdapterFile& file() const { return file_; }
  float scale() const { return scale_; }  // over the file's own
  const LowRankUpdate* find(const Weight* weight) const {
    const auto at = updates_.find(weight);
    return at == updates_.end() ? nullptr : &at->second;
  }
  // The weights that it changes, in the order of the file.
  const std::vector<const Weight*>& weights() const { return weights_; }
  int64_t largest_rank() const;
  uint64_t bytes() const;  // that load() draws from the ledger
  Status load(Ledger& ledger);

 private:
  Adapter() = default;
  AdapterFile file_;
  std::string name_;
  uint64_t number_ = 0;
  float scale_ = 1;
  std::vector<const Weight*> weights_;  // of file_.pairs
  std::unordered_map<const Weight*, LowRankUpdate> updates_;
  Buffer memory_;
};

// All adapters of a model.
class AdapterSet {
 public:
  void add(std::unique_ptr<Adapter> adapter);
  bool empty() const { return adapters_.empty(); }
  const std::vector<std::unique_ptr<Adapter>>& all() const { return adapters_; }
  const Adapter* find(std::string_view name) const;  // null: there is none
  // The largest padded rank that any has for a weight; 0: none changes it.
  int64_t padded_rank(const Weight* weight) const {
    const auto at = padded_ranks_.find(weight);
    return at == padded_ranks_.end() ? 0 : at->second;
  }
  uint64_t bytes() const;

 private:
  std::vector<std::unique_ptr<Adapter>> adapters_;
  std::unordered_map<const Weight*, int64_t> padded_ranks_;
};

}  // namespace venturi
