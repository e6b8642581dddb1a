#include "formats/convert_stream.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>

namespace venturi {

namespace {

constexpr int64_t kChunkValues = 1 << 20;  // 4 MB of f32 at a time, and the same of output at most

// The first error of several threads.
class FirstError {
 public:
  void set(Error error) {
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
  }
  Status status() const { return error_ ? Status(*error_) : Status(); }

 private:
  std::mutex mutex_;
  std::optional<Error> error_;
};

const float* weights_of_row(const EncodeJob& job, int64_t row) {
  if (!job.importance) return nullptr;
  const auto n_in = static_cast<size_t>(job.tensor.n_in());
  const size_t n_sets = job.importance->size() / n_in;
  const auto rows_a_set = static_cast<size_t>(job.tensor.n_rows()) / n_sets;
  return job.importance->data() + static_cast<size_t>(row) / rows_a_set * n_in;
}

uint64_t count_infinities(const uint8_t* bytes, int64_t n) {
  uint64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    uint16_t half;
    std::memcpy(&half, bytes + 2 * i, 2);
    found += (half & 0x7fff) == 0x7c00;
  }
  return found;
}

Status encode_row(const EncodeJob& job, int64_t row, std::span<const float> values, uint8_t* out) {
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      return error(Code::kCorrupt,
                   "{}: tensor '{}' row {} column {} is {}, which no type can hold; the "
                   "model is damaged",
                   job.model.path, job.tensor.name, row, i, values[i]);
  job.codec.encode(values.data(), weights_of_row(job, row), out,
                   static_cast<int64_t>(values.size()));
  return {};
}

Status encode_chunk(const EncodeJob& job, ThreadPool& pool, int64_t begin, std::span<float> values,
                    std::span<uint8_t> out) {
  const int64_t n_in = job.tensor.n_in();
  const int64_t n = static_cast<int64_t>(values.size()) / n_in;
  const auto row_bytes = static_cast<int64_t>(job.codec.bytes(static_cast<uint64_t>(n_in)));
  // A transposed tensor is read a chunk at a time: its rows are columns in the file.
  const bool whole = job.tensor.transposed && !job.row_of;
  if (whole) TRY(job.model.read_rows_f32(job.tensor, begin, values));
  FirstError first;
  const auto do_row = [&](int64_t i) -> Status {
    const int64_t row = job.row_of ? job.row_of(begin + i) : begin + i;
    const auto row_values =
        values.subspan(static_cast<size_t>(i * n_in), static_cast<size_t>(n_in));
    if (!whole) TRY(job.model.read_rows_f32(job.tensor, row, row_values));
    return encode_row(job, row, row_values, out.data() + i * row_bytes);
  };
  pool.parallel_for(n, std::max<int64_t>(1, (1 << 14) / n_in), [&](int64_t from, int64_t to, int) {
    for (int64_t i = from; i < to; ++i) {
      auto status = do_row(i);
      if (status.ok()) continue;
      first.set(std::move(status).error());
      return;
    }
  });
  return first.status();
}

}  // namespace

Status encode_rows(const EncodeJob& job, ThreadPool& pool, const ByteSink& sink,
                   uint64_t& overflows) {
  const int64_t n_in = job.tensor.n_in();
  const int64_t step = std::clamp<int64_t>(kChunkValues / n_in, 1, job.n_rows);
  std::vector<float> values(static_cast<size_t>(step * n_in));
  std::vector<uint8_t> bytes(job.codec.bytes(values.size()));
  for (int64_t done = 0; done < job.n_rows; done += step) {
    const int64_t n = std::min(step, job.n_rows - done);
    const std::span in(values.data(), static_cast<size_t>(n * n_in));
    const std::span out(bytes.data(), job.codec.bytes(in.size()));
    TRY(encode_chunk(job, pool, job.first_row + done, in, out));
    if (job.codec.name == "F16") overflows += count_infinities(out.data(), n * n_in);
    TRY(sink(out));
  }
  return {};
}

}  // namespace venturi
