// Weights: what an architecture asks for, and the bytes behind it.
//
// An architecture declares the tensors it needs from a WeightCatalog, with their exact shapes;
// nothing is loaded then, so shape mode and the planner run on the declaration. load() fills them
// from the file into memory drawn from the ledger, interleaved for the kernels (layout.h) where the
// codec has a layout and repacking is on. Weights never execute from a file mapping. What a plan does
// not pin (residency.h) is not loaded.
// Threads: declare and load from one thread; loaded weights are immutable.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/ledger.h"
#include "base/thread_pool.h"
#include "formats/model_file.h"

namespace venturi {

class DiskReader;
class Residency;
struct BundledLayer;
struct Piece;
struct ResidencyPlan;

// A matrix (or a stack of them, for experts): n_out rows of n_in values each, per plane.
struct Weight {
  std::string name;
  const TensorInfo* info = nullptr;
  const Codec* codec = nullptr;
  int64_t n_in = 0, n_out = 0, n_planes = 1;
  bool packed = false;              // in groups of 16 rows, codec->layout
  const uint8_t* data = nullptr;    // plane 0; null until loaded
  uint64_t row_bytes = 0, plane_bytes = 0;  // plane_bytes as held: rows padded to 16 when packed
  // Rows [0, pinned_rows) of every plane are in memory once loaded, all of them unless a plan says less;
  // those behind come from `residency`.
  int64_t pinned_rows = INT64_MAX;
  Residency* residency = nullptr;
  // Of an up or a down whose neurons come in bundles (neurons/bundle.h): no row is pinned or streamed.
  BundledLayer* bundles = nullptr;
  // Where the rows lie in the file: plane p from row p * file_plane_rows + file_row on.
  int64_t file_plane_rows = 0, file_row = 0;

  uint64_t file_bytes() const { return row_bytes * static_cast<uint64_t>(n_out * n_planes); }
  bool pinned() const { return pinned_rows >= n_out; }
  // Rows [0, pinned_rows) of a plane. (Piece: residency.h)
  Piece pinned_piece(int64_t plane) const;
  // Bytes of a plane of which `rows` rows are held.
  uint64_t held_bytes(int64_t rows, bool repack) const;
  // A pinned row of a plane in f32.
  void decode_row(int64_t row, float* out, int64_t plane = 0) const;
};

// Norm gains, biases, frequencies: f32 whatever the file has.
struct VectorWeight {
  std::string name;
  const TensorInfo* info = nullptr;
  std::vector<float> values;  // empty until loaded
  int64_t n = 0;
  const float* data() const { return values.data(); }
};

// The experts of one layer: planes of the same number are one expert.
struct ExpertStack {
  const Weight *gate = nullptr, *up = nullptr, *down = nullptr;
  bool chosen_early = false;  // before the layer's attention, beside which they can be read
};

// Where rows of a plane lie: one run of bytes of one file (an index into ModelFile::files).
struct FileRun {
  int file = 0;
  uint64_t offset = 0, bytes = 0;
};
// Nothing when they do not lie so: transformed on loading, in several parts, or in no file.
std::optional<FileRun> file_run(const ModelFile& file, const Weight& weight, int64_t plane, int64_t row_begin,
                                int64_t row_end);

struct LoadOptions {
  bool repack = true;
  // Read through it, past the page cache; null: buffered, which is quicker for what the cache has.
  DiskReader* disk = nullptr;
  std::function<void(uint64_t done, uint64_t total)> progress;
};

class WeightCatalog {
 public:
  explicit WeightCatalog(const ModelFile& file) : file_(file) {}

  // Code::kNotFound or Code::kCorrupt, naming the tensor, expected and found shape.
  Result<Weight*> matrix(const std::string& name, int64_t n_in, int64_t n_out, int64_t n_planes = 1);
  Result<VectorWeight*> vector(const std::string& name, int64_t n);
  // Part of a matrix whose rows are n_planes runs of plane_rows (heads, say): rows [row, row + n_out)
  // of each run, as a stack of planes.
  Result<Weight*> slice(const std::string& name, int64_t n_in, int64_t n_planes, int64_t plane_rows, int64_t row,
                        int64_t n_out);
  // Null when the file has no such tensor; an error when it has it in another shape.
  Result<Weight*> optional_matrix(const std::string& name, int64_t n_in, int64_t n_out, int64_t n_planes = 1);
  Result<VectorWeight*> optional_vector(const std::string& name, int64_t n);
  bool has(std::string_view name) const { return file_.find(name) != nullptr; }
  // Says that three declared matrices are the experts of a layer; in order of layers.
  void add_experts(const ExpertStack& stack) { experts_.push_back(stack); }
  const std::vector<ExpertStack>& experts() const { return experts_; }

  // Takes which rows to pin from the plan; everything without. Code::kInvalidArgument naming a weight
  // that the plan names wrongly.
  Status pin(const ResidencyPlan& plan);
  void pin_all();

  // Bytes that load() will draw from the ledger.
  uint64_t bytes(bool repack = true) const;
  uint64_t vector_bytes() const;  // of them, what is not matrices
  uint64_t staging_bytes() const;  // per thread, while loading
  Status load(Ledger& ledger, ThreadPool& pool, const LoadOptions& options = {});

  const std::vector<std::unique_ptr<Weight>>& matrices() const { return matrices_; }
  const ModelFile& file() const { return file_; }
  const Buffer& memory() const { return memory_; }  // of all matrices

 private:
  // Shape already compared.
  Result<Weight*> add_matrix(const std::string& name, const TensorInfo* info, int64_t n_in, int64_t n_out,
                             int64_t n_planes);
  Status load_matrix(Weight& weight, uint8_t* out, ThreadPool& pool, std::vector<Buffer>& staging,
                     DiskReader* disk, const std::function<void(uint64_t)>& advance) const;
  // Rows as in the file, in `out`, or, where that is null, somewhere in the staging.
  Result<const uint8_t*> read_rows(const Weight& weight, int64_t plane, int64_t row_begin, int64_t row_end,
                                   DiskReader* disk, Buffer& staging, uint8_t* out) const;

  const ModelFile& file_;
  std::vector<std::unique_ptr<Weight>> matrices_;
  std::vector<std::unique_ptr<VectorWeight>> vectors_;
  std::vector<ExpertStack> experts_;
  Buffer memory_;
  Lease vector_lease_;
};

}  // namespace venturi
