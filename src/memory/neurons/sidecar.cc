#include "memory/neurons/sidecar.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/disk.h"
#include "formats/byte_cursor.h"

namespace venturi {

namespace {

constexpr std::string_view kMagic{"VENTURI-SIDECAR", 16};
constexpr uint32_t kVersion = 1;
constexpr uint64_t kChecksumAt = 24;
constexpr uint64_t kMaxHeader = 64u << 20, kMaxName = 1 << 16, kMaxLayers = 1 << 16;

class Fnv1a {
 public:
  void add(const void* bytes, size_t n) {
    for (size_t i = 0; i < n; ++i) hash_ = (hash_ ^ static_cast<const uint8_t*>(bytes)[i]) * 0x100000001b3u;
  }
  void add(uint64_t value) { add(&value, sizeof value); }
  void add(std::string_view text) {
    add(text.size());
    add(text.data(), text.size());
  }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325u;
};

// Its checksum, which the field itself has no part in.
uint64_t checksum_of(std::vector<uint8_t> header) {
  std::memset(header.data() + kChecksumAt, 0, 8);
  Fnv1a hash;
  hash.add(header.data(), header.size());
  return hash.value();
}

// A few bytes here and there of the tensors whose contents the sidecar has.
Result<uint64_t> fingerprint_of(const ModelFile& model, const std::vector<NeuronLayer>& layers) {
  constexpr uint64_t kSample = 256, kSamples = 4;
  Fnv1a hash;
  for (const TensorInfo& t : model.tensors) {
    hash.add(t.name);
    hash.add(t.codec->name);
    for (const int64_t d : t.dims) hash.add(static_cast<uint64_t>(d));
    for (const TensorSegment& s : t.segments) {
      hash.add(static_cast<uint64_t>(s.file));
      hash.add(s.offset);
    }
  }
  for (const NeuronLayer& layer : layers)
    for (const Weight* w : {layer.up, layer.down}) {
      uint8_t sample[kSample];
      const uint64_t bytes = w->info->bytes(), n = std::min(kSample, bytes);
      for (uint64_t i = 0; i < kSamples; ++i) {
        TRY(model.read(*w->info, (bytes - n) / (kSamples - 1) * i, {sample, n}));
        hash.add(sample, n);
      }
    }
  return hash.value();
}

uint64_t next_block(uint64_t offset) { return (offset + kDiskAlign - 1) / kDiskAlign * kDiskAlign; }

void put(std::vector<uint8_t>& out, const auto& value) {
  out.resize(out.size() + sizeof value);
  std::memcpy(out.data() + out.size() - sizeof value, &value, sizeof value);
}

std::vector<uint8_t> encode(const SidecarHeader& h) {
  std::vector<uint8_t> out(kMagic.begin(), kMagic.end());
  put(out, kVersion);
  put(out, static_cast<uint32_t>(h.header_bytes));
  put(out, uint64_t{0});
  put(out, h.file_bytes);
  put(out, h.model_bytes);
  put(out, h.fingerprint);
  put(out, static_cast<uint32_t>(h.entries.size()));
  for (const SidecarEntry& e : h.entries) {
    for (const std::string* s : {&e.gate, &e.up, &e.down, &e.up_type, &e.down_type}) {
      put(out, static_cast<uint64_t>(s->size()));
      out.insert(out.end(), s->begin(), s->end());
    }
    for (const uint64_t v : {e.n_neurons, e.column_offset, e.bundle_bytes, e.scale_bytes, e.scale_offset, e.bundle_offset})
      put(out, v);
  }
  out.resize(next_block(out.size()));
  const uint64_t checksum = checksum_of(out);
  std::memcpy(out.data() + kChecksumAt, &checksum, 8);
  return out;
}

// What the sidecar of these layers has to say.
Result<SidecarHeader> header_of(const ModelFile& model, const std::vector<NeuronLayer>& layers) {
  SidecarHeader h;
  for (const File& file : model.files) h.model_bytes += file.size();
  h.fingerprint = TRY(fingerprint_of(model, layers));
  for (const NeuronLayer& layer : layers) {
    const BundleLayout b = TRY(bundle_layout(model, layer));
    h.entries.push_back({.gate = layer.gate ? layer.gate->name : "",
                         .up = layer.up->name,
                         .down = layer.down->name,
                         .up_type = std::string(layer.up->codec->name),
                         .down_type = std::string(layer.down->codec->name),
                         .n_neurons = b.n_neurons,
                         .column_offset = b.column_offset,
                         .bundle_bytes = b.bytes,
                         .scale_bytes = b.scale_bytes});
  }
  h.header_bytes = encode(h).size();
  uint64_t at = h.header_bytes;
  for (SidecarEntry& e : h.entries) {
    e.scale_offset = at;
    e.bundle_offset = next_block(at + e.scale_bytes);
    at = next_block(e.bundle_offset + e.n_neurons * e.bundle_bytes);
  }
  h.file_bytes = at;
  return h;
}

// [offset, offset + count * bytes) lies in the file, on a block.
bool inside(uint64_t offset, uint64_t count, uint64_t bytes, uint64_t file_bytes) {
  const auto size = checked_mul(count, bytes);
  const auto end = size ? checked_add(offset, *size) : std::nullopt;
  return end && *end <= file_bytes && offset % kDiskAlign == 0;
}

Result<SidecarEntry> read_entry(ByteCursor& cursor) {
  SidecarEntry e;
  for (std::string* s : {&e.gate, &e.up, &e.down, &e.up_type, &e.down_type})
    TRY(cursor.append_string(0, kMaxName, false, "a name", *s));
  for (uint64_t* v : {&e.n_neurons, &e.column_offset, &e.bundle_bytes, &e.scale_bytes, &e.scale_offset, &e.bundle_offset})
    *v = TRY(cursor.number<uint64_t>("a layer"));
  return e;
}

}  // namespace

std::string sidecar_path(const std::string& model_path) {
  std::string path = model_path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path + ".venturi";
}

Result<SidecarHeader> read_sidecar_header(const File& file) {
  const auto corrupt = [&](std::string_view field, const auto& expected, const auto& found) {
    return error(Code::kCorrupt, "{}: {}: expected {}, found {}; write it again with venturi prepare", file.path(), field,
                 expected, found);
  };
  ByteCursor cursor(file, std::min(file.size(), kMaxHeader));
  std::string magic;
  TRY(cursor.append(kMagic.size(), "the magic", magic));
  if (magic != kMagic) return error(Code::kCorrupt, "{} is not a sidecar of venturi prepare", file.path());
  const uint32_t version = TRY(cursor.number<uint32_t>("the version"));
  if (version != kVersion)
    return error(Code::kUnsupported, "{}: version {} of the sidecar, this program knows {}; write it again with venturi prepare",
                 file.path(), version, kVersion);
  SidecarHeader h;
  h.header_bytes = TRY(cursor.number<uint32_t>("the header's length"));
  if (h.header_bytes % kDiskAlign != 0 || h.header_bytes < kDiskAlign || h.header_bytes > std::min(file.size(), kMaxHeader))
    return corrupt("the header's length", fmt::format("whole blocks of {} within the file", kDiskAlign), h.header_bytes);
  const uint64_t checksum = TRY(cursor.number<uint64_t>("the checksum"));
  std::vector<uint8_t> bytes(h.header_bytes);
  TRY(file.read_exact(0, bytes));
  const uint64_t found = checksum_of(std::move(bytes));
  if (found != checksum) return corrupt("the header's checksum", checksum, found);
  h.file_bytes = TRY(cursor.number<uint64_t>("the file's length"));
  if (h.file_bytes != file.size()) return corrupt("the file's length", h.file_bytes, file.size());
  h.model_bytes = TRY(cursor.number<uint64_t>("the model's length"));
  h.fingerprint = TRY(cursor.number<uint64_t>("the model's fingerprint"));
  const uint32_t n = TRY(cursor.number<uint32_t>("the number of layers"));
  if (n > kMaxLayers) return corrupt("the number of layers", fmt::format("at most {}", kMaxLayers), n);
  for (uint32_t i = 0; i < n; ++i) {
    const SidecarEntry e = TRY(read_entry(cursor));
    if (!inside(e.bundle_offset, e.n_neurons, e.bundle_bytes, h.file_bytes) ||
        !inside(e.scale_offset, 1, e.scale_bytes, h.file_bytes))
      return corrupt(fmt::format("layer {}", i), "bundles and scales inside the file", e.bundle_offset);
    h.entries.push_back(e);
  }
  if (cursor.offset() > h.header_bytes) return corrupt("the header's length", cursor.offset(), h.header_bytes);
  return h;
}

Result<std::unique_ptr<Sidecar>> Sidecar::open(const std::string& path, const ModelFile& model,
                                               const std::vector<NeuronLayer>& layers) {
  std::unique_ptr<Sidecar> self(new Sidecar);
  self->file_ = TRY(File::open(path));
  self->header_ = TRY(read_sidecar_header(self->file_));
  const SidecarHeader& h = self->header_;
  const auto other = [&](std::string_view what) {
    return error(Code::kCorrupt, "{} belongs to another model than {}, or to an earlier state of it ({} differ); write it "
                 "again with venturi prepare", path, model.path, what);
  };
  const SidecarHeader expected = TRY(header_of(model, layers));
  if (h.model_bytes != expected.model_bytes) return other("the sizes of the files");
  if (h.fingerprint != expected.fingerprint) return other("the tensors");
  if (h.entries != expected.entries || h.header_bytes != expected.header_bytes || h.file_bytes != expected.file_bytes)
    return other("the layers");
  for (size_t i = 0; i < layers.size(); ++i) {
    auto layout = TRY(bundle_layout(model, layers[i]));
    self->layers_.push_back(std::make_unique<BundledLayer>(
        BundledLayer{layers[i], std::move(layout), static_cast<int>(i), nullptr}));
  }
  return self;
}

namespace {

// Neurons of a strip of up that is in memory at a time.
constexpr int64_t kStripNeurons = 1024;

class Writer {
 public:
  Writer(AtomicFile& out, const ModelFile& model, ThreadPool& pool) : out_(out), model_(model), pool_(pool) {}

  Status layer(const NeuronLayer& layer, const SidecarEntry& e, const std::function<void(uint64_t)>& advance) {
    const BundleLayout b = TRY(bundle_layout(model_, layer));
    std::vector<uint8_t> down(layer.down->info->bytes());
    TRY(model_.read(*layer.down->info, 0, down));
    std::vector<uint8_t> scales(b.scale_bytes), up, strip;
    const uint64_t block_scales = b.scale_bytes / b.n_blocks();
    for (int64_t begin = 0; begin < static_cast<int64_t>(b.n_neurons); begin += kStripNeurons) {
      const int64_t n = std::min(kStripNeurons, static_cast<int64_t>(b.n_neurons) - begin);
      strip.assign(static_cast<size_t>(n) * b.bytes, 0);
      if (layer.gate) {
        up.resize(static_cast<size_t>(n) * layer.up->row_bytes);
        TRY(model_.read(*layer.up->info, static_cast<uint64_t>(begin) * layer.up->row_bytes, up));
      }
      pool_.parallel_for(ceil_div(n, kColumnBlock), 1, [&](int64_t from, int64_t to, int) {
        for (int64_t block = from; block < to; ++block) {
          const int64_t first = block * kColumnBlock, count = std::min(kColumnBlock, n - first);
          uint8_t* at = strip.data() + static_cast<uint64_t>(first) * b.bytes;
          const int64_t global = begin / kColumnBlock + block;
          split_columns(b.kernel, down.data(), static_cast<int64_t>(layer.down->row_bytes), layer.down->n_out, global, count,
                        at + b.column_offset, static_cast<int64_t>(b.bytes),
                        reinterpret_cast<uint16_t*>(scales.data() + static_cast<uint64_t>(global) * block_scales));
          if (layer.gate)
            for (int64_t i = 0; i < count; ++i)
              std::memcpy(at + static_cast<uint64_t>(i) * b.bytes,
                          up.data() + static_cast<uint64_t>(first + i) * layer.up->row_bytes, layer.up->row_bytes);
        }
      });
      TRY(out_.write_at(e.bundle_offset + static_cast<uint64_t>(begin) * b.bytes, strip));
      advance(strip.size());
    }
    return out_.write_at(e.scale_offset, scales);
  }

 private:
  AtomicFile& out_;
  const ModelFile& model_;
  ThreadPool& pool_;
};

}  // namespace

Result<uint64_t> write_sidecar(const std::string& path, const ModelFile& model, const std::vector<NeuronLayer>& layers,
                               ThreadPool& pool, const std::function<void(const PrepareProgress&)>& progress) {
  const SidecarHeader header = TRY(header_of(model, layers));
  AtomicFile out = TRY(AtomicFile::create(path));
  PrepareProgress state{.total = header.file_bytes};
  Writer writer(out, model, pool);
  for (size_t i = 0; i < layers.size(); ++i)
    TRY(writer.layer(layers[i], header.entries[i], [&](uint64_t bytes) {
      state.done += bytes;
      if (progress) progress(state);
    }));
  TRY(out.write_at(0, encode(header)));
  // Whole blocks to the end.
  if (out.size() < header.file_bytes) {
    const std::vector<uint8_t> zeros(header.file_bytes - out.size());
    TRY(out.write_at(out.size(), zeros));
  }
  TRY(out.commit());
  return header.file_bytes;
}

}  // namespace venturi
