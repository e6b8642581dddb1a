// A model on disk, whatever its format: metadata, a list of tensors, and where their bytes lie.
//
// open_model() accepts a GGUF file (any part of a split one), or a Hugging Face directory with
// safetensors, and reads headers only: a 40 GB file takes milliseconds. Tensor names and metadata
// keys are GGUF's in both cases. Everything is checked against the file's size before anything is
// allocated. Threads: a ModelFile is immutable after opening.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "codecs/codec.h"
#include "formats/metadata.h"

namespace venturi {

// The "file" of tensors that no file holds: their bytes are ModelFile::made.
inline constexpr int kMadeFile = -1;

struct TensorSegment {
  int file;         // index into ModelFile::files, or kMadeFile
  uint64_t offset;  // of the first byte in that file
  uint64_t bytes;
};

struct TensorInfo {
  std::string name;  // GGUF's: "blk.0.attn_q.weight"
  const Codec* codec;
  // As GGUF writes them, fastest first: {n_in}, {n_in, n_out} or {n_in, n_out, n_experts}. 1 to 4.
  std::vector<int64_t> dims;
  // The tensor's bytes are the segments one after another (one, except for experts that a
  // Hugging Face directory keeps as separate tensors).
  std::vector<TensorSegment> segments;

  // What turns the stored values into GGUF's (Hugging Face directories only), in this order. A zero
  // or false changes nothing.
  bool transposed = false;  // the one segment is stored [n_in, n_rows], not [n_rows, n_in] (GPT-2)
  int rope_heads = 0;       // rows of each of this many heads go from halves to interleaved pairs
  bool negative_exp = false;  // x -> -exp(x) (Mamba's A_log)
  float add = 0;              // x -> x + add (Gemma's norms are stored less 1)

  // Whether the stored bytes are the tensor, with no transform: then they may be used as they are.
  bool as_stored() const { return !transposed && rope_heads == 0 && !negative_exp && add == 0; }

  int64_t n_in() const { return dims[0]; }
  int64_t n_rows() const;  // product of all dims but the first
  int64_t n_values() const;
  uint64_t bytes() const { return codec->bytes(static_cast<uint64_t>(n_values())); }
};

struct ModelFile {
  std::string path;
  Metadata metadata;
  std::vector<TensorInfo> tensors;  // in file order
  std::vector<File> files;
  std::vector<uint8_t> made;  // bytes of tensors that no file holds (Llama 3's rope_freqs)

  const TensorInfo* find(std::string_view name) const;  // null if absent
  // Bytes [begin, begin + out.size()) of the tensor, across segments, as stored.
  Status read(const TensorInfo& tensor, uint64_t begin, std::span<uint8_t> out) const;
  // Row `row` in f32, transforms applied.
  Status read_row_f32(const TensorInfo& tensor, int64_t row, std::span<float> out) const;
  // Rows [begin, begin + out.size() / n_in) likewise. Far cheaper than row by row for transposed
  // tensors, whose rows are columns in the file.
  Status read_rows_f32(const TensorInfo& tensor, int64_t begin, std::span<float> out) const;

  std::unordered_map<std::string, size_t> by_name;  // filled by the readers
};

Result<std::unique_ptr<ModelFile>> open_model(const std::string& path);
Result<std::unique_ptr<ModelFile>> open_gguf(const std::string& path);
Result<std::unique_ptr<ModelFile>> open_hf_directory(const std::string& path);

}  // namespace venturi
