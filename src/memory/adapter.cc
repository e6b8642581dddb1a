#include "memory/adapter.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "formats/byte_cursor.h"

namespace venturi {

namespace {

constexpr int64_t kAlign = 64;
// Values read from the file at a time.
constexpr int64_t kReadValues = 1 << 17;

// As the file has them; what no kernel of low rank reads becomes f32.
LowRankFormat format_of(const TensorInfo& tensor) {
  if (tensor.codec->name == "F16") return LowRankFormat::kF16;
  return tensor.codec->name == "BF16" ? LowRankFormat::kBF16 : LowRankFormat::kF32;
}

const Codec& codec_of(LowRankFormat format) {
  return *find_codec(format == LowRankFormat::kF32 ? "F32" : format == LowRankFormat::kF16 ? "F16" : "BF16");
}

uint64_t padded_bytes(LowRankFormat format, const TensorInfo& tensor) {
  return static_cast<uint64_t>(round_up(low_rank_bytes(format, tensor.n_rows(), tensor.n_in()), kAlign));
}

template <typename Value>
void place_rows(const std::vector<uint8_t>& rows, int64_t begin, int64_t n_rows, int64_t n_in, uint8_t* out) {
  const auto* from = reinterpret_cast<const Value*>(rows.data());
  auto* to = reinterpret_cast<Value*>(out);
  for (int64_t r = 0; r < n_rows; ++r)
    for (int64_t k = 0; k < n_in; ++k) to[low_rank_place(begin + r, k, n_in)] = from[r * n_in + k];
}

// Into memory that is zero.
Status load_matrix(const ModelFile& file, const TensorInfo& tensor, LowRankFormat format, uint8_t* out) {
  const int64_t n_in = tensor.n_in(), n_rows = tensor.n_rows(), batch = std::max<int64_t>(1, kReadValues / n_in);
  const Codec& codec = codec_of(format);
  std::vector<float> values;
  std::vector<uint8_t> rows;
  for (int64_t row = 0; row < n_rows; row += batch) {
    const int64_t n = std::min(batch, n_rows - row);
    values.resize(static_cast<size_t>(n * n_in));
    rows.resize(codec.bytes(values.size()));
    TRY(file.read_rows_f32(tensor, row, values));
    codec.encode(values.data(), nullptr, rows.data(), n * n_in);
    if (format == LowRankFormat::kF32) {
      place_rows<uint32_t>(rows, row, n, n_in, out);
    } else {
      place_rows<uint16_t>(rows, row, n, n_in, out);
    }
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Adapter>> Adapter::declare(AdapterFile file, std::string name, uint64_t number, float scale,
                                                  const WeightCatalog& catalog) {
  std::unique_ptr<Adapter> adapter(new Adapter);
  adapter->name_ = std::move(name);
  adapter->number_ = number;
  adapter->scale_ = scale;
  std::unordered_map<std::string_view, const Weight*> by_name;
  for (const auto& weight : catalog.matrices()) by_name.emplace(weight->name, weight.get());
  for (const AdapterPair& pair : file.pairs) {
    const auto at = by_name.find(pair.weight);
    if (at == by_name.end() || at->second->n_planes != 1)
      return error(Code::kUnsupported, "{}: it changes {}, which this architecture does not use as one matrix", file.stored.path,
                   pair.weight);
    LowRankUpdate update{.rank = pair.rank(),
                         .scale = scale * pair.scale,
                         .a_format = format_of(pair.a),
                         .b_format = format_of(pair.b)};
    update.bytes = padded_bytes(update.a_format, pair.a) + padded_bytes(update.b_format, pair.b);
    adapter->weights_.push_back(at->second);
    adapter->updates_.emplace(at->second, update);
  }
  adapter->file_ = std::move(file);
  return adapter;
}

int64_t Adapter::largest_rank() const {
  int64_t rank = 0;
  for (const auto& [weight, update] : updates_) rank = std::max(rank, update.rank);
  return rank;
}

uint64_t Adapter::bytes() const {
  uint64_t total = 0;
  for (const auto& [weight, update] : updates_) total += update.bytes;
  return Buffer::held_bytes(total);
}

Status Adapter::load(Ledger& ledger) {
  uint64_t total = 0;
  for (const auto& [weight, update] : updates_) total += update.bytes;
  memory_ = TRY(Buffer::allocate(ledger, total, "adapters"));
  uint8_t* at = memory_.data();
  for (size_t i = 0; i < weights_.size(); ++i) {
    const AdapterPair& pair = file_.pairs[i];
    LowRankUpdate& update = updates_.at(weights_[i]);
    update.a = at;
    update.b = at + padded_bytes(update.a_format, pair.a);
    TRY(load_matrix(file_.stored, pair.a, update.a_format, at));
    TRY(load_matrix(file_.stored, pair.b, update.b_format, at + padded_bytes(update.a_format, pair.a)));
    at += update.bytes;
  }
  return {};
}

void AdapterSet::add(std::unique_ptr<Adapter> adapter) {
  for (const Weight* weight : adapter->weights()) {
    int64_t& rank = padded_ranks_[weight];
    rank = std::max(rank, adapter->find(weight)->padded_rank());
  }
  adapters_.push_back(std::move(adapter));
}

const Adapter* AdapterSet::find(std::string_view name) const {
  for (const auto& adapter : adapters_)
    if (adapter->name() == name) return adapter.get();
  return nullptr;
}

uint64_t AdapterSet::bytes() const {
  uint64_t total = 0;
  for (const auto& adapter : adapters_) total += adapter->bytes();
  return total;
}

}  // namespace venturi
