#include "formats/model_file.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "base/checked.h"

namespace venturi {

namespace {

// The stored position of position `i` among `n`, of which each of `heads` groups is stored as
// halves (first elements of all pairs, then second ones) and wanted as pairs.
int64_t stored_position(int64_t i, int64_t n, int heads) {
  if (heads == 0) return i;
  const int64_t head_dim = n / heads;
  const int64_t head = i / head_dim, within = i % head_dim;
  return head * head_dim + within % 2 * (head_dim / 2) + within / 2;
}

void apply_maps(const TensorInfo& tensor, std::span<float> values) {
  if (tensor.negative_exp)
    for (float& value : values) value = -std::exp(value);
  if (tensor.add != 0)
    for (float& value : values) value += tensor.add;
}

// Rows stored one after another, reordered if the tensor says so.
Status read_plain_rows(const ModelFile& model, const TensorInfo& tensor, int64_t begin,
                       std::span<float> out) {
  const int64_t n_in = tensor.n_in();
  const int64_t n_rows = static_cast<int64_t>(out.size()) / n_in;
  const uint64_t row_bytes = tensor.codec->bytes(static_cast<uint64_t>(n_in));
  const bool reorder_rows = tensor.rope_heads != 0 && tensor.dims.size() > 1;
  const int64_t batch =
      reorder_rows ? 1 : std::max<int64_t>(1, (1 << 20) / static_cast<int64_t>(row_bytes));
  std::vector<uint8_t> stored(row_bytes * static_cast<uint64_t>(std::min(batch, n_rows)));
  for (int64_t row = 0; row < n_rows; row += batch) {
    const int64_t n = std::min(batch, n_rows - row);
    const int64_t from = reorder_rows
                             ? stored_position(begin + row, tensor.n_rows(), tensor.rope_heads)
                             : begin + row;
    const std::span bytes(stored.data(), row_bytes * static_cast<uint64_t>(n));
    TRY(model.read(tensor, row_bytes * static_cast<uint64_t>(from), bytes));
    tensor.codec->decode(bytes.data(), out.data() + row * n_in, n * n_in);
  }
  return {};
}

// Rows of a transposed tensor: a piece of each stored row.
Status read_transposed_rows(const ModelFile& model, const TensorInfo& tensor, int64_t begin,
                            std::span<float> out) {
  const int64_t n_in = tensor.n_in(), n_rows = static_cast<int64_t>(out.size()) / n_in;
  const uint64_t value_bytes = static_cast<uint64_t>(tensor.codec->block_bytes);
  std::vector<uint8_t> stored(value_bytes * static_cast<uint64_t>(n_rows));
  std::vector<float> values(static_cast<size_t>(n_rows));
  for (int64_t i = 0; i < n_in; ++i) {
    TRY(model.read(tensor, value_bytes * static_cast<uint64_t>(i * tensor.n_rows() + begin),
                   stored));
    tensor.codec->decode(stored.data(), values.data(), n_rows);
    for (int64_t row = 0; row < n_rows; ++row) out[row * n_in + i] = values[row];
  }
  return {};
}

}  // namespace

int64_t TensorInfo::n_rows() const {
  int64_t rows = 1;
  for (size_t i = 1; i < dims.size(); ++i) rows *= dims[i];
  return rows;
}

int64_t TensorInfo::n_values() const { return n_rows() * dims[0]; }

const TensorInfo* ModelFile::find(std::string_view name) const {
  const auto it = by_name.find(std::string(name));
  return it == by_name.end() ? nullptr : &tensors[it->second];
}

Status ModelFile::read(const TensorInfo& tensor, uint64_t begin, std::span<uint8_t> out) const {
  const auto end = checked_add(begin, out.size());
  if (!end || *end > tensor.bytes())
    return error(Code::kInvalidArgument, "{}: tensor '{}' has {} bytes, asked for {} from {}", path,
                 tensor.name, tensor.bytes(), out.size(), begin);
  for (const TensorSegment& segment : tensor.segments) {
    if (out.empty()) break;
    if (begin >= segment.bytes) {
      begin -= segment.bytes;
      continue;
    }
    const uint64_t n = std::min<uint64_t>(out.size(), segment.bytes - begin);
    if (segment.file == kMadeFile)
      std::memcpy(out.data(), made.data() + segment.offset + begin, n);
    else
      TRY(files[static_cast<size_t>(segment.file)].read_exact(segment.offset + begin,
                                                              out.first(n)));
    out = out.subspan(n);
    begin = 0;
  }
  return {};
}

Status ModelFile::read_rows_f32(const TensorInfo& tensor, int64_t begin,
                                std::span<float> out) const {
  const int64_t n_in = tensor.n_in();
  const int64_t n = static_cast<int64_t>(out.size()) / n_in;
  if (out.size() % static_cast<uint64_t>(n_in) != 0 || begin < 0 || begin > tensor.n_rows() - n)
    return error(Code::kInvalidArgument,
                 "{}: tensor '{}' has {} rows of {}, asked for {} values from row {}", path,
                 tensor.name, tensor.n_rows(), n_in, out.size(), begin);
  if (tensor.transposed)
    TRY(read_transposed_rows(*this, tensor, begin, out));
  else
    TRY(read_plain_rows(*this, tensor, begin, out));
  if (tensor.rope_heads != 0 && tensor.dims.size() == 1) {
    const std::vector<float> stored(out.begin(), out.end());
    for (int64_t i = 0; i < n_in; ++i) out[i] = stored[stored_position(i, n_in, tensor.rope_heads)];
  }
  apply_maps(tensor, out);
  return {};
}

Status ModelFile::read_row_f32(const TensorInfo& tensor, int64_t row, std::span<float> out) const {
  if (static_cast<int64_t>(out.size()) != tensor.n_in())
    return error(Code::kInvalidArgument, "{}: tensor '{}': a row has {} values, asked for {}", path,
                 tensor.name, tensor.n_in(), out.size());
  return read_rows_f32(tensor, row, out);
}

Result<std::unique_ptr<ModelFile>> open_model(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return open_hf_directory(path);
  return open_gguf(path);
}

}  // namespace venturi
