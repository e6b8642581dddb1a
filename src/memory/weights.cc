#include "memory/weights.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>

#include "base/checked.h"
#include "base/disk.h"
#include "kernels/matmul/layout.h"
#include "memory/residency.h"

namespace venturi {

namespace {

// Bytes read from the file at a time and per thread: small enough that what was read is still in
// the L2 cache when it is interleaved, large enough that a disk is read at its speed.
constexpr uint64_t kStagingBytes = 1u << 20;
constexpr uint64_t kAlign = 64;

std::string shape_text(const std::vector<int64_t>& dims) {
  std::string text;
  for (const int64_t d : dims) text += fmt::format("{}{}", text.empty() ? "" : " x ", d);
  return text;
}

bool same_shape(const std::vector<int64_t>& a, std::vector<int64_t> b) {
  // Trailing ones carry no information; some writers drop them.
  std::vector<int64_t> c = a;
  while (c.size() > 1 && c.back() == 1) c.pop_back();
  while (b.size() > 1 && b.back() == 1) b.pop_back();
  return c == b;
}

}  // namespace

Piece Weight::pinned_piece(int64_t plane) const {
  return {.data = data + plane * plane_bytes, .row_begin = 0, .row_end = std::min(pinned_rows, n_out), .packed = packed, .ticket = 0};
}

uint64_t Weight::held_bytes(int64_t rows, bool repack) const {
  if (repack && codec->layout) return static_cast<uint64_t>(packed_bytes(*codec->layout, n_in, rows));
  return row_bytes * static_cast<uint64_t>(rows);
}

void Weight::decode_row(int64_t row, float* out, int64_t plane) const {
  const uint8_t* rows = data + plane * plane_bytes;
  if (!packed) return codec->decode(rows + row * row_bytes, out, n_in);
  std::vector<uint8_t> blocks(row_bytes);
  unpack_row(*codec->layout, rows, row, n_in, blocks.data());
  codec->decode(blocks.data(), out, n_in);
}

Result<Weight*> WeightCatalog::optional_matrix(const std::string& name, int64_t n_in, int64_t n_out, int64_t n_planes) {
  const TensorInfo* info = file_.find(name);
  if (!info) return static_cast<Weight*>(nullptr);
  return matrix(name, n_in, n_out, n_planes);
}

Result<VectorWeight*> WeightCatalog::optional_vector(const std::string& name, int64_t n) {
  if (!file_.find(name)) return static_cast<VectorWeight*>(nullptr);
  return vector(name, n);
}

Result<Weight*> WeightCatalog::matrix(const std::string& name, int64_t n_in, int64_t n_out, int64_t n_planes) {
  const TensorInfo* info = file_.find(name);
  if (!info) return error(Code::kNotFound, "{}: the tensor {} is missing", file_.path, name);
  if (!same_shape(info->dims, {n_in, n_out, n_planes}))
    return error(Code::kCorrupt, "{}: the tensor {} is {}, expected {}", file_.path, name, shape_text(info->dims),
                 shape_text({n_in, n_out, n_planes}));
  // Asked for twice (tied embeddings): one copy, and the same shape, which was just checked.
  for (const auto& weight : matrices_)
    if (weight->name == name) return weight.get();
  return add_matrix(name, info, n_in, n_out, n_planes);
}

Result<Weight*> WeightCatalog::slice(const std::string& name, int64_t n_in, int64_t n_planes, int64_t plane_rows,
                                     int64_t row, int64_t n_out) {
  const TensorInfo* info = file_.find(name);
  if (!info) return error(Code::kNotFound, "{}: the tensor {} is missing", file_.path, name);
  if (!same_shape(info->dims, {n_in, n_planes * plane_rows}))
    return error(Code::kCorrupt, "{}: the tensor {} is {}, expected {}", file_.path, name, shape_text(info->dims),
                 shape_text({n_in, n_planes * plane_rows}));
  const std::string slice_name = fmt::format("{}[{}:{}]", name, row, row + n_out);
  for (const auto& weight : matrices_)
    if (weight->name == slice_name) return weight.get();
  Weight* weight = TRY(add_matrix(slice_name, info, n_in, n_out, n_planes));
  weight->file_plane_rows = plane_rows;
  weight->file_row = row;
  return weight;
}

Result<Weight*> WeightCatalog::add_matrix(const std::string& name, const TensorInfo* info, int64_t n_in,
                                          int64_t n_out, int64_t n_planes) {
  auto weight = std::make_unique<Weight>();
  weight->name = name;
  weight->info = info;
  weight->codec = info->codec;
  weight->n_in = n_in;
  weight->n_out = n_out;
  weight->n_planes = n_planes;
  weight->file_plane_rows = n_out;
  weight->row_bytes = info->codec->bytes(static_cast<uint64_t>(n_in));
  // Integer formats meet inputs rounded in blocks of 32.
  if (info->codec->group > 0 && n_in % 32 != 0)
    return error(Code::kUnsupported, "{}: the tensor {} has rows of {} values in {}; 32 must divide them", file_.path,
                 name, n_in, info->codec->name);
  weight->pinned_rows = n_out;
  weight->plane_bytes = weight->held_bytes(n_out, true);
  matrices_.push_back(std::move(weight));
  return matrices_.back().get();
}

Result<VectorWeight*> WeightCatalog::vector(const std::string& name, int64_t n) {
  const TensorInfo* info = file_.find(name);
  if (!info) return error(Code::kNotFound, "{}: the tensor {} is missing", file_.path, name);
  if (info->n_values() != n)
    return error(Code::kCorrupt, "{}: the tensor {} has {} values, expected {}", file_.path, name, info->n_values(), n);
  for (const auto& weight : vectors_)
    if (weight->name == name) return weight.get();
  auto weight = std::make_unique<VectorWeight>();
  weight->name = name;
  weight->info = info;
  weight->n = n;
  vectors_.push_back(std::move(weight));
  return vectors_.back().get();
}

uint64_t WeightCatalog::bytes(bool repack) const {
  uint64_t total = 0;
  for (const auto& w : matrices_)
    total += round_up(w->held_bytes(w->pinned_rows, repack) * w->n_planes, kAlign);
  return Buffer::held_bytes(total) + vector_bytes();
}

uint64_t WeightCatalog::vector_bytes() const {
  uint64_t total = 0;
  for (const auto& v : vectors_) total += v->n * sizeof(float);
  return total;
}

void WeightCatalog::pin_all() {
  for (auto& w : matrices_) w->pinned_rows = w->bundles ? 0 : w->n_out;
}

Status WeightCatalog::pin(const ResidencyPlan& plan) {
  pin_all();
  for (const WeightPlan& wanted : plan.weights) {
    const auto found = std::find_if(matrices_.begin(), matrices_.end(),
                                    [&](const auto& w) { return w->name == wanted.name; });
    if (found == matrices_.end())
      return error(Code::kInvalidArgument, "{}: the plan names a weight {}, which this model has not", file_.path, wanted.name);
    Weight& w = **found;
    const int64_t rows = wanted.pinned_rows;
    if (rows < 0 || rows > w.n_out || (rows < w.n_out && rows % row_alignment(w) != 0))
      return error(Code::kInvalidArgument, "{}: the plan pins {} rows of {}; it has {}, and a part is a multiple of {}",
                   file_.path, rows, w.name, w.n_out, row_alignment(w));
    if (rows < w.n_out && !can_stream(file_, w))
      return error(Code::kInvalidArgument, "{}: the plan streams {}, which does not lie in one run of the file; pin it",
                   file_.path, w.name);
    w.pinned_rows = rows;
  }
  return {};
}

std::optional<FileRun> file_run(const ModelFile& file, const Weight& weight, int64_t plane, int64_t row_begin,
                                int64_t row_end) {
  const TensorInfo& info = *weight.info;
  if (!info.as_stored()) return std::nullopt;
  const int64_t first = plane * weight.file_plane_rows + weight.file_row;
  uint64_t begin = static_cast<uint64_t>(first + row_begin) * weight.row_bytes;
  const uint64_t bytes = static_cast<uint64_t>(row_end - row_begin) * weight.row_bytes;
  for (const TensorSegment& segment : info.segments) {
    if (begin >= segment.bytes) {
      begin -= segment.bytes;
      continue;
    }
    if (segment.file == kMadeFile || begin + bytes > segment.bytes) return std::nullopt;
    return FileRun{segment.file, segment.offset + begin, bytes};
  }
  return std::nullopt;
}

uint64_t WeightCatalog::staging_bytes() const {
  uint64_t total = 0;
  for (const auto& w : matrices_) total += w->file_bytes();
  uint64_t largest = std::min(kStagingBytes, total / 16);  // little for a small model
  for (const auto& w : matrices_) largest = std::max(largest, w->row_bytes * kGroupRows);
  // Direct reads bring the blocks that cover what is wanted.
  return Buffer::held_bytes(largest + 2 * kDiskAlign);
}

Result<const uint8_t*> WeightCatalog::read_rows(const Weight& weight, int64_t plane, int64_t row_begin, int64_t row_end,
                                               DiskReader* disk, Buffer& staging, uint8_t* out) const {
  const int64_t rows = row_end - row_begin, file_row = plane * weight.file_plane_rows + weight.file_row + row_begin;
  const uint64_t bytes = static_cast<uint64_t>(rows) * weight.row_bytes;
  uint8_t* to = out ? out : staging.data();
  if (!weight.info->as_stored()) {
    // Through f32 and back; these are float codecs, and only positions change.
    std::vector<float> values(static_cast<size_t>(rows * weight.n_in));
    TRY(file_.read_rows_f32(*weight.info, file_row, values));
    weight.codec->encode(values.data(), nullptr, to, rows * weight.n_in);
    return to;
  }
  const auto run = disk ? file_run(file_, weight, plane, row_begin, row_end) : std::nullopt;
  if (!run) {
    TRY(file_.read(*weight.info, static_cast<uint64_t>(file_row) * weight.row_bytes, {to, bytes}));
    return to;
  }
  TRY(disk->read(run->file, run->offset, run->bytes, staging.data()));
  const uint8_t* from = staging.data() + run->offset % kDiskAlign;
  if (!out) return from;
  std::memcpy(out, from, bytes);
  return out;
}

Status WeightCatalog::load_matrix(Weight& weight, uint8_t* out, ThreadPool& pool, std::vector<Buffer>& staging,
                                  DiskReader* disk, const std::function<void(uint64_t)>& advance) const {
  // Work items are runs of whole groups that fit a staging buffer.
  const int64_t groups = ceil_div(weight.pinned_rows, kGroupRows);
  const uint64_t room = staging[0].size() - 2 * kDiskAlign;
  const int64_t run = std::max<int64_t>(1, static_cast<int64_t>(room / (weight.row_bytes * kGroupRows)));
  const int64_t runs = ceil_div(groups, run);
  std::mutex mutex;
  Status status;
  std::atomic<bool> failed{false};
  pool.parallel_for(runs * weight.n_planes, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t item = begin; item < end && !failed.load(std::memory_order_relaxed); ++item) {
      const int64_t plane = item / runs;
      const int64_t row0 = item % runs * run * kGroupRows;
      const int64_t rows = std::min(run * kGroupRows, weight.pinned_rows - row0);
      uint8_t* plane_out = out + plane * weight.plane_bytes;
      uint8_t* target = weight.packed ? nullptr : plane_out + row0 * weight.row_bytes;
      auto read = read_rows(weight, plane, row0, row0 + rows, disk, staging[worker], target);
      if (!read) {
        failed = true;
        std::lock_guard lock(mutex);
        status = std::move(read).error();
        return;
      }
      if (weight.packed)
        for (int64_t r = 0; r < rows; r += kGroupRows)
          pack_group(*weight.codec->layout, *read + r * weight.row_bytes, static_cast<int64_t>(weight.row_bytes),
                     static_cast<int>(std::min<int64_t>(kGroupRows, rows - r)), weight.n_in,
                     (row0 + r) / kGroupRows, plane_out);
      advance(static_cast<uint64_t>(rows) * weight.row_bytes);
    }
  });
  return status;
}

Status WeightCatalog::load(Ledger& ledger, ThreadPool& pool, const LoadOptions& options) {
  uint64_t total = 0;
  for (auto& w : matrices_) {
    w->packed = options.repack && w->codec->layout;
    w->plane_bytes = w->held_bytes(w->pinned_rows, options.repack);
    total += round_up(w->plane_bytes * w->n_planes, kAlign);
  }
  memory_ = TRY(Buffer::allocate(ledger, total, "weights"));
  vector_lease_ = TRY(ledger.acquire(vector_bytes(), "weights"));
  std::vector<Buffer> staging;
  for (int i = 0; i < pool.size(); ++i)
    staging.push_back(TRY(Buffer::allocate(ledger, staging_bytes(), "load staging")));

  std::atomic<uint64_t> done{0};
  std::mutex progress_mutex;
  const auto advance = [&](uint64_t bytes) {
    const uint64_t now = done.fetch_add(bytes) + bytes;
    if (!options.progress) return;
    std::unique_lock lock(progress_mutex, std::try_to_lock);
    if (lock) options.progress(now, total);
  };
  // In file order: a disk, and the page cache's read-ahead, like it so.
  std::vector<Weight*> order;
  for (auto& w : matrices_) order.push_back(w.get());
  std::sort(order.begin(), order.end(), [](const Weight* a, const Weight* b) { return a->info < b->info; });
  uint8_t* at = memory_.data();
  for (Weight* w : order) {
    if (auto status = load_matrix(*w, at, pool, staging, options.disk, advance); !status) return status;
    w->data = at;
    at += round_up(w->plane_bytes * w->n_planes, kAlign);
  }
  for (auto& v : vectors_) {
    v->values.resize(v->n);
    if (auto status = file_.read_rows_f32(*v->info, 0, v->values); !status) return status;
  }
  return {};
}

}  // namespace venturi
