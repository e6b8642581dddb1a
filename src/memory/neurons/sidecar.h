// The prepared file beside a model (MODEL.venturi): bundles of its feed-forwards (bundle.h).
//
// Written once by write_sidecar() under another name, synced, renamed: it is whole or not there. Numbers
// are little-endian, a string is a u64 length and its bytes:
//   0   "VENTURI-SIDECAR\0"
//   16  u32 version (1), u32 bytes of the header, a multiple of 4096
//   24  u64 FNV-1a of the header with these 8 bytes zero
//   32  u64 bytes of the file, u64 bytes of the model's files, u64 fingerprint of the model
//   56  u32 layers, and for each: strings gate ("": none), up, down, type of up, type of down; u64
//       neurons, column offset, bundle bytes, scale bytes, offset of the scales, offset of the bundles
//   …   per layer, in order, each on 4096: scales f16 [blocks][outputs rounded up], then the bundles
// The fingerprint is FNV-1a over the tensor table and samples of the tensors that the bundles hold. A
// sidecar of another model, or of one that was changed since, is refused. What follows the header is
// trusted as a model's weights are: its size is checked, its values are not.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "memory/neurons/bundle.h"

namespace venturi {

struct SidecarEntry {
  std::string gate, up, down, up_type, down_type;
  uint64_t n_neurons = 0, column_offset = 0, bundle_bytes = 0, scale_bytes = 0;
  uint64_t scale_offset = 0, bundle_offset = 0;
  bool operator==(const SidecarEntry&) const = default;
};

struct SidecarHeader {
  uint64_t header_bytes = 0, file_bytes = 0, model_bytes = 0, fingerprint = 0;
  std::vector<SidecarEntry> entries;
};

// Checks what can be checked without the model: magic, version, checksum, sizes, that everything lies in
// the file. Code::kCorrupt or kUnsupported naming file and field.
Result<SidecarHeader> read_sidecar_header(const File& file);

// A sidecar that belongs to a model.
class Sidecar {
 public:
  // Code::kCorrupt when the file is not what a sidecar of these layers of this model would be; the
  // message says to prepare it again.
  static Result<std::unique_ptr<Sidecar>> open(const std::string& path, const ModelFile& model,
                                               const std::vector<NeuronLayer>& layers);

  const File& file() const { return file_; }
  const SidecarHeader& header() const { return header_; }
  const std::vector<std::unique_ptr<BundledLayer>>& layers() const { return layers_; }

 private:
  Sidecar() = default;
  File file_;
  SidecarHeader header_;
  std::vector<std::unique_ptr<BundledLayer>> layers_;
};

// "MODEL.venturi", beside the file or folder.
std::string sidecar_path(const std::string& model_path);

struct PrepareProgress {
  uint64_t done = 0, total = 0;  // bytes
};
// Holds one layer's down and a strip of its up in memory at a time. Returns the bytes written.
Result<uint64_t> write_sidecar(const std::string& path, const ModelFile& model, const std::vector<NeuronLayer>& layers,
                               ThreadPool& pool, const std::function<void(const PrepareProgress&)>& progress = {});

}  // namespace venturi
