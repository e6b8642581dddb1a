#include "ops/neurons.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <numeric>

#include "base/checked.h"
#include "kernels/matmul/matmul.h"
#include "memory/neurons/neuron_store.h"
#include "ops/linear.h"

namespace venturi {

namespace {

// What is computed with at a time: hidden values and gathered rows of about this size.
constexpr int64_t kRunBytes = 4 << 20;

class SparseFeedForward {
 public:
  SparseFeedForward(Context& context, const NeuronLayer& weights, const NeuronBiases& biases, Activation activation,
                    const Act& x)
      : context_(context), weights_(weights), biases_(biases), activation_(activation), x_(x),
        layer_(*weights.down->bundles), int8_(weights.down->codec->layout->int8_input) {}

  Act run();

 private:
  int64_t rows() const { return x_.rows(); }
  int64_t most_blocks() const {
    // Per value of a block: hidden, up, product of up, code, entry.
    const int64_t block = rows() * kColumnBlock * (3 * 4 + 2 + static_cast<int64_t>(sizeof(ColumnEntry)));
    return std::clamp<int64_t>(kRunBytes / block, 1, static_cast<int64_t>(layer_.layout.n_blocks()));
  }
  int64_t most_neurons() const {
    const int64_t room = weights_.gate ? kRunBytes / static_cast<int64_t>(weights_.up->row_bytes) : INT64_MAX;
    return std::min(std::max(room, kColumnBlock), most_blocks() * kColumnBlock);
  }
  // The neurons that any row needs, ascending, and as their last row comes; how many all rows need.
  void find_active(const Act& gate);
  void product(const NeuronStore::Run& run, const Act& gate, Act& y);
  Act hidden(const NeuronStore::Run& run, const Act& gate);
  void add_up(const NeuronStore::Run& run, Act& hidden);
  Weight gathered(int64_t n) const;
  void columns(const NeuronStore::Run& run, const Act& hidden, Act& y);
  // In shape mode, what a run allocates.
  void shape();
  OpCost cost() const;

  // Acts of a run of n blocks.
  struct Codes {
    Act int8, entries, first;
  };
  Codes codes(int64_t n_blocks) {
    const int64_t values = rows() * n_blocks * kColumnBlock;
    return {.int8 = context_.scratch_bytes(int8_ ? Int8Rows::bytes(rows(), n_blocks * kColumnBlock) : 4),
            .entries = context_.scratch_bytes(values * static_cast<int64_t>(sizeof(ColumnEntry))),
            .first = context_.scratch_bytes(rows() * (n_blocks + 1) * 4)};
  }

  Context& context_;
  const NeuronLayer& weights_;
  const NeuronBiases& biases_;
  const Activation activation_;
  const Act& x_;
  const BundledLayer& layer_;
  const bool int8_;
  std::vector<int32_t> neurons_, order_;
  int64_t active_ = 0;
  // Of the run at hand: its blocks, and where its neurons lie in [blocks][32] (the index into the run, or -1).
  std::vector<int32_t> blocks_, index_;
};

OpCost SparseFeedForward::cost() const {
  const double share = layer_.store ? layer_.store->active_share() : 1.0;
  const auto part = [&](uint64_t bytes) { return static_cast<uint64_t>(share * static_cast<double>(bytes)); };
  OpCost cost{.op = "neurons"};
  for (const Weight* w : {weights_.gate ? weights_.up : weights_.down, weights_.down}) {
    if (!weights_.gate && cost.weight_bytes > 0) break;
    cost.weight_bytes += part(w->file_bytes());
    (int8_ ? cost.int8_macs : cost.f32_macs) += part(static_cast<uint64_t>(rows() * w->n_in * w->n_out));
  }
  return cost;
}

Act SparseFeedForward::run() {
  Act gate = linear(context_, weights_.gate ? *weights_.gate : *weights_.up, x_);
  add_bias(context_, gate, weights_.gate ? biases_.gate : biases_.up);
  if (!weights_.gate) gated_in_place(context_, activation_, gate, nullptr);
  Act y = context_.allocate(rows(), weights_.down->n_out);
  if (!context_.computes()) {
    shape();
    return y;
  }
  {
    const Context::Scope scope(context_, cost());
    std::memset(y.data(), 0, static_cast<size_t>(y.rows() * y.cols()) * sizeof(float));
    find_active(gate);
    layer_.store->begin(layer_, neurons_, order_, rows(), active_);
  }
  for (;;) {
    Result<NeuronStore::Run> run = [&] {
      const Context::Scope scope(context_, {.op = "neurons"});
      return layer_.store->next(most_blocks(), most_neurons());
    }();
    if (!run) context_.fail(std::move(run).error());
    if (context_.failed() || run->empty()) return y;
    product(*run, gate, y);
  }
}

void SparseFeedForward::shape() {
  const int64_t n_blocks = most_blocks(), n = most_neurons();
  const Context::Scope scope(context_, cost());
  Act hidden = context_.allocate(rows(), n_blocks * kColumnBlock);
  if (weights_.gate) {
    const Act up = context_.allocate(rows(), n_blocks * kColumnBlock);
    const Act copies = context_.scratch_bytes(n * static_cast<int64_t>(weights_.up->row_bytes));
    (void)linear(context_, gathered(n), x_);
  }
  (void)codes(n_blocks);
}

void SparseFeedForward::find_active(const Act& gate) {
  const int64_t n = gate.cols();
  std::vector<int32_t> last(static_cast<size_t>(n), -1);
  std::vector<int64_t> counts(static_cast<size_t>(context_.threads()), 0);
  const bool gated = weights_.gate;
  context_.pool().parallel_for(n, 1024, [&](int64_t begin, int64_t end, int worker) {
    int64_t count = 0;
    for (int64_t r = 0; r < gate.rows(); ++r) {
      const float* g = gate.row(r);
      for (int64_t j = begin; j < end; ++j) {
        // What is not a number is active: it has to come out.
        if (gated ? g[j] <= 0 : g[j] == 0) continue;
        last[static_cast<size_t>(j)] = static_cast<int32_t>(r);
        ++count;
      }
    }
    counts[static_cast<size_t>(worker)] += count;
  });
  active_ = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  for (int64_t j = 0; j < n; ++j)
    if (last[static_cast<size_t>(j)] >= 0) neurons_.push_back(static_cast<int32_t>(j));
  order_ = neurons_;
  if (gate.rows() > 1)
    std::stable_sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) {
      return last[static_cast<size_t>(a)] < last[static_cast<size_t>(b)];
    });
}

void SparseFeedForward::product(const NeuronStore::Run& run, const Act& gate, Act& y) {
  blocks_.clear();
  index_.clear();
  for (size_t i = 0; i < run.neurons.size(); ++i) {
    const int32_t block = run.neurons[i] / static_cast<int32_t>(kColumnBlock);
    if (blocks_.empty() || blocks_.back() != block) {
      blocks_.push_back(block);
      index_.resize(index_.size() + kColumnBlock, -1);
    }
    index_[index_.size() - kColumnBlock + static_cast<size_t>(run.neurons[i] % kColumnBlock)] = static_cast<int32_t>(i);
  }
  const Act h = hidden(run, gate);
  if (context_.failed()) return;
  columns(run, h, y);
}

// act(gate) * up of the run's blocks, [rows, blocks * 32]: all of the gate; of up, the run's neurons.
Act SparseFeedForward::hidden(const NeuronStore::Run& run, const Act& gate) {
  const int64_t n_blocks = static_cast<int64_t>(blocks_.size());
  Act h = context_.allocate(rows(), n_blocks * kColumnBlock);
  if (context_.failed()) return h;
  {
    const Context::Scope scope(context_, {.op = "neurons"});
    context_.pool().parallel_for(rows(), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t b = 0; b < n_blocks; ++b) {
          const int64_t from = blocks_[static_cast<size_t>(b)] * kColumnBlock, n = std::min(kColumnBlock, gate.cols() - from);
          float* out = h.row(r) + b * kColumnBlock;
          std::memcpy(out, gate.row(r) + from, static_cast<size_t>(n) * sizeof(float));
          std::fill(out + n, out + kColumnBlock, 0.0f);
        }
    });
  }
  if (weights_.gate) add_up(run, h);
  return h;
}

Weight SparseFeedForward::gathered(int64_t n) const {
  Weight rows = *weights_.up;
  rows.n_out = rows.pinned_rows = n;
  rows.packed = false;
  rows.plane_bytes = static_cast<uint64_t>(n) * rows.row_bytes;
  rows.bundles = weights_.down->bundles;
  return rows;
}

// Rows are independent in a product, so any of them in any order have the bits they have in the whole.
void SparseFeedForward::add_up(const NeuronStore::Run& run, Act& h) {
  const int64_t n = static_cast<int64_t>(run.neurons.size()), row_bytes = static_cast<int64_t>(weights_.up->row_bytes);
  Act up = context_.allocate(rows(), h.cols());
  Act copies = context_.scratch_bytes(n * row_bytes);
  if (context_.failed()) return;
  auto* to = reinterpret_cast<uint8_t*>(copies.data());
  {
    const Context::Scope scope(context_, {.op = "neurons"});
    context_.pool().parallel_for(n, 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i)
        std::memcpy(to + i * row_bytes, run.bundles[static_cast<size_t>(i)], static_cast<size_t>(row_bytes));
    });
  }
  Weight rows_of_up = gathered(n);
  rows_of_up.data = to;
  const Act products = linear(context_, rows_of_up, x_);
  if (context_.failed()) return;
  {
    const Context::Scope scope(context_, {.op = "neurons"});
    const float* bias = biases_.up ? biases_.up->data() : nullptr;
    context_.pool().parallel_for(rows(), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        for (int64_t j = 0; j < up.cols(); ++j) {
          const int32_t i = index_[static_cast<size_t>(j)];
          float value = i < 0 ? 0.0f : products.row(r)[i];
          if (i >= 0 && bias) value += bias[run.neurons[static_cast<size_t>(i)]];
          up.row(r)[j] = value;
        }
      }
    });
  }
  gated_in_place(context_, activation_, h, &up);
}

void SparseFeedForward::columns(const NeuronStore::Run& run, const Act& h, Act& y) {
  const int64_t n_blocks = static_cast<int64_t>(blocks_.size()), n = n_blocks * kColumnBlock;
  Codes c = codes(n_blocks);
  const Context::Scope scope(context_, {.op = "neurons"});
  if (!scope.computes()) return;
  Int8Rows q;
  if (int8_) q = Int8Rows::over(c.int8.data(), rows(), n);
  auto* entries = reinterpret_cast<ColumnEntry*>(c.entries.data());
  auto* first = reinterpret_cast<uint32_t*>(c.first.data());
  context_.pool().parallel_for(rows(), 1, [&](int64_t begin, int64_t end, int) {
    if (int8_) matmul_table().round_int8(h.data(), n, begin, end, false, q);
    for (int64_t r = begin; r < end; ++r) {
      uint32_t at = static_cast<uint32_t>(r * n);
      for (int64_t j = 0; j < n; ++j) {
        if (j % kColumnBlock == 0) first[r * (n_blocks + 1) + j / kColumnBlock] = at;
        int32_t value = 0;
        if (int8_) {
          value = q.q[(j / kColumnBlock * rows() + r) * kColumnBlock + j % kColumnBlock];
        } else if (h.row(r)[j] != 0) {
          std::memcpy(&value, h.row(r) + j, 4);
        }
        if (value == 0) continue;
        assert(index_[static_cast<size_t>(j)] >= 0);
        entries[at++] = {static_cast<uint32_t>(index_[static_cast<size_t>(j)]), value};
      }
      first[r * (n_blocks + 1) + n_blocks] = at;
    }
  });
  std::vector<const uint8_t*> columns;
  for (const uint8_t* bundle : run.bundles) columns.push_back(bundle + layer_.layout.column_offset);
  std::vector<const uint16_t*> scales;
  for (const int32_t block : blocks_) scales.push_back(layer_.store->scales(layer_, block));
  const ColumnsArgs args{.columns = columns.data(), .scales = scales.data(), .entries = entries, .first = first,
                         .d = q.d, .negative_sum = q.negative_sum, .rows = rows(), .blocks = n_blocks, .n = y.cols(),
                         .y = y.data(), .y_stride = y.cols()};
  context_.pool().parallel_for(padded_outputs(y.cols()) / kStripOutputs, 1, [&](int64_t begin, int64_t end, int) {
    ColumnsArgs part = args;
    part.strip_begin = begin;
    part.strip_end = end;
    columns_table().run[static_cast<int>(layer_.layout.kernel)](part);
  });
}

}  // namespace

bool zero_below_zero(Activation activation) {
  return activation == Activation::kRelu || activation == Activation::kRelu2;
}

Act sparse_feed_forward(Context& context, const NeuronLayer& weights, const NeuronBiases& biases, Activation activation,
                        Act x) {
  return SparseFeedForward(context, weights, biases, activation, x).run();
}

}  // namespace venturi
