#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/clock.h"
#include "ops/linear.h"
#include "ops/rows.h"
#include "planner/probe.h"

namespace venturi {

namespace {

// Rows that are encoded; matrices repeat them.
constexpr int64_t kRows = 64;

// Matrices of one codec, one after another in memory, as the weights of a model lie there.
class Matrices {
 public:
  Matrices(Buffer& memory, const KernelCase& c, bool packed) : packed_(packed) {
    const Codec& codec = *c.codec;
    weight_ = {.name = std::string(codec.name), .codec = &codec, .n_in = c.n_in, .n_out = c.n_out, .packed = packed,
               .row_bytes = codec.bytes(static_cast<uint64_t>(c.n_in))};
    bytes_ = packed ? static_cast<uint64_t>(packed_bytes(*codec.layout, c.n_in, c.n_out))
                    : weight_.row_bytes * static_cast<uint64_t>(c.n_out);
    bytes_ = static_cast<uint64_t>(round_up(static_cast<int64_t>(bytes_), 64));
    count_ = memory.size() / bytes_;
    if (count_ == 0) return;
    write_one(memory.data());
    for (uint64_t i = 1; i < count_; ++i) std::memcpy(memory.data() + i * bytes_, memory.data(), bytes_);
    base_ = memory.data();
  }
  uint64_t count() const { return count_; }
  double values() const { return static_cast<double>(weight_.n_in * weight_.n_out); }
  const Weight& next() {
    weight_.data = base_ + at_++ % count_ * bytes_;
    return weight_;
  }

 private:
  void write_one(uint8_t* out) const {
    const Codec& codec = *weight_.codec;
    std::vector<float> row(static_cast<size_t>(weight_.n_in));
    std::vector<uint8_t> rows(weight_.row_bytes * kRows);
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t k = 0; k < weight_.n_in; ++k) row[k] = static_cast<float>((r * 31 + k * 7) % 23 - 11) * 0.01f;
      codec.encode(row.data(), nullptr, rows.data() + static_cast<uint64_t>(r) * weight_.row_bytes, weight_.n_in);
    }
    const int64_t row_bytes = static_cast<int64_t>(weight_.row_bytes);
    if (!packed_) {
      for (int64_t r = 0; r < weight_.n_out; ++r) std::memcpy(out + r * row_bytes, rows.data() + r % kRows * row_bytes, row_bytes);
      return;
    }
    for (int64_t r = 0; r < weight_.n_out; r += kGroupRows)
      pack_group(*codec.layout, rows.data() + r % kRows * row_bytes, row_bytes,
                 static_cast<int>(std::min<int64_t>(kGroupRows, weight_.n_out - r)), weight_.n_in, r / kGroupRows, out);
  }

  const bool packed_;
  Weight weight_;
  const uint8_t* base_ = nullptr;
  uint64_t bytes_ = 0, count_ = 0, at_ = 0;
};

// Weight values a second, as often as it is repeated.
Spread measure(Context& context, Matrices& matrices, int64_t rows, const KernelProbeOptions& o) {
  Act x = context.allocate(rows, matrices.next().n_in);
  for (int64_t i = 0; i < rows * x.cols(); ++i) x.data()[i] = static_cast<float>(i % 17 - 8) * 0.1f;
  linear(context, matrices.next(), x);
  std::vector<double> rates;
  for (int r = 0; r < o.repetitions; ++r) {
    const double begin = now_seconds();
    double done = 0, seconds = 0;
    for (; seconds < o.seconds; seconds = now_seconds() - begin) {
      linear(context, matrices.next(), x);
      done += matrices.values();
    }
    rates.push_back(done / seconds);
  }
  return spread_of(rates);
}

// What an op costs that has next to nothing to do, in a region over all threads.
double region_seconds(Context& context) {
  Act x = context.allocate(64, 64), y = context.allocate(64, 64);
  std::memset(x.data(), 0, 64 * 64 * sizeof(float));
  std::memset(y.data(), 0, 64 * 64 * sizeof(float));
  constexpr int kRounds = 500;
  const double begin = now_seconds();
  for (int i = 0; i < kRounds; ++i) add_in_place(context, x, y);
  return (now_seconds() - begin) / kRounds;
}

uint64_t inputs_bytes(const std::span<const KernelCase> cases, int64_t rows, int threads) {
  uint64_t most = 1u << 16;
  for (const KernelCase& c : cases) {
    const auto shape = Context::shape(threads);
    const Weight w{.name = {}, .codec = c.codec, .n_in = c.n_in, .n_out = c.n_out, .packed = false, .row_bytes = c.codec->bytes(c.n_in)};
    const Act x = shape->allocate(rows, c.n_in);
    linear(*shape, w, x);
    most = std::max(most, shape->arena_peak());
  }
  return most;
}

}  // namespace

Status probe_kernels(std::shared_ptr<Ledger> ledger, std::shared_ptr<ThreadPool> pool, std::span<const KernelCase> cases,
                     const KernelProbeOptions& options, MachineProfile& profile) {
  int64_t most_rows = 1;
  for (const int64_t rows : options.rows) most_rows = std::max(most_rows, rows);
  uint64_t memory_bytes = options.memory_bytes;
  for (const KernelCase& c : cases)  // one matrix at least
    memory_bytes = std::max(memory_bytes, (c.codec->bytes(c.n_in) + 64) * static_cast<uint64_t>(c.n_out + 64));
  Buffer memory = TRY(Buffer::allocate(*ledger, memory_bytes, "probe"));
  const auto context = TRY(Context::run(ledger, pool, inputs_bytes(cases, most_rows, pool->size())));
  profile.region_seconds = region_seconds(*context);
  for (const KernelCase& c : cases)
    for (const bool packed : {true, false}) {
      if (packed ? !c.codec->layout || !options.packed : c.codec->layout && !options.as_stored) continue;
      Matrices matrices(memory, c, packed);
      for (const int64_t rows : options.rows) {
        profile.kernels.push_back({std::string(c.codec->name), packed, rows, measure(*context, matrices, rows, options)});
        if (Status status = context->take_error(); !status) return status;
      }
    }
  return {};
}

}  // namespace venturi
