// A small model of each architecture with metadata and tensors changed: it is refused, or opens within the budget
// and computes a step.
//
// The input: a byte that chooses the model, then changes of 10 bytes: what, which key or tensor, a number.
#include <cstring>
#include <vector>

#include "base/log.h"
#include "engine/engine.h"
#include "formats/gguf_write.h"
#include "memory_folder.h"

using namespace venturi;

namespace {

constexpr const char* kModels[] = {"bert-cls",       "deepseek2-v2-lite", "deepseek2-v3",    "gemma2-scale-f16",      "gemma3-plain",
                                   "gpt2-plain",     "llama-bias",        "llama-mixtral",   "llama-rope-long-short", "llama-rope-yarn",
                                   "llama-window",   "mamba2-plain",      "qwen2moe-plain",  "qwen2-plain",           "qwen3moe-plain",
                                   "qwen3-plain",    "smallthinker-plain"};

const ModelFile& base(size_t which) {
  static std::vector<std::unique_ptr<ModelFile>> opened(std::size(kModels));
  if (!opened[which]) {
    auto model = open_gguf(std::string(VENTURI_SOURCE_DIR) + "/tests/data/models/" + kModels[which] + ".gguf");
    if (!model) std::abort();
    opened[which] = std::move(model).value();
  }
  return *opened[which];
}

struct Change {
  uint8_t what, which;
  uint64_t number;
};

void change_metadata(Metadata& metadata, const Change& c) {
  const auto& entries = metadata.entries();
  if (entries.empty()) return;
  const std::string key = entries[c.which % entries.size()].first;
  const MetaValue before = entries[c.which % entries.size()].second;
  double real;
  std::memcpy(&real, &c.number, 8);
  switch (c.what % 8) {
    case 0: return metadata.set_uint(key, c.number);
    case 1: return metadata.set_int(key, static_cast<int64_t>(c.number));
    case 2: return metadata.set_float(key, static_cast<float>(real));
    case 3: return metadata.set_bool(key, c.number & 1);
    case 4: return metadata.set_string(key, std::string(reinterpret_cast<const char*>(&c.number), 8));
    case 5: return metadata.erase(key);
    case 6:  // near what it was
      if (const auto n = metadata.get_uint(key)) metadata.set_uint(key, *n + static_cast<uint64_t>(static_cast<int8_t>(c.number)));
      return;
    default:  // an array cut short
      if (const auto* array = std::get_if<MetaArray>(&before.value); array && meta_type_bytes(array->element) > 0 && array->count > 0) {
        MetaArray cut = *array;
        cut.count = c.number % array->count;
        cut.bytes.resize(cut.count * meta_type_bytes(cut.element));
        metadata.set(key, {MetaType::kArray, std::move(cut)});
      }
  }
}

struct Stored {
  GgufTensor tensor;
  size_t from;  // of the model's tensors
};

void change_tensors(std::vector<Stored>& tensors, const Change& c) {
  if (tensors.empty()) return;
  const size_t at = (c.which | (c.number & 0xff00)) % tensors.size();
  GgufTensor& t = tensors[at].tensor;
  const size_t dim = c.number % 4;
  const auto size = static_cast<int64_t>(c.number >> 16 & 0x3ff) + 1;
  switch (c.what % 4) {
    case 0:
      tensors.erase(tensors.begin() + static_cast<ptrdiff_t>(at));
      return;
    case 1:
      if (dim < t.dims.size() && (dim > 0 || size % t.codec->block_elems == 0)) t.dims[dim] = size;
      return;
    case 2:
      if (t.dims.size() > 1) t.dims.pop_back();
      return;
    default:
      if (t.dims.size() < 4) t.dims.push_back(1);
  }
}

// Bytes of the model's own tensor, as far as they go, then zeros.
Status give(const ModelFile& model, const Stored& stored, const ByteSink& sink) {
  std::vector<uint8_t> bytes(stored.tensor.bytes());
  const TensorInfo& from = model.tensors[stored.from];
  TRY(model.read(from, 0, std::span(bytes).first(std::min<size_t>(bytes.size(), from.bytes()))));
  return sink(bytes);
}

void compute(Engine& engine) {
  const auto sequence = engine.new_sequence();
  if (!sequence) return;
  Step step;
  step.tokens.assign(3, 1);
  step.spans = {{.row_begin = 0, .n_rows = 3, .position = 0, .state = sequence->get()}};
  if (engine.info().embeds) step.spans[0].mask = Mask::kFull;
  step.output_rows = {2};
  (void)engine.step(step);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  spdlog::set_level(spdlog::level::off);
  const ModelFile& model = base(data[0] % std::size(kModels));
  Metadata metadata = model.metadata;
  std::vector<Stored> tensors;
  for (size_t i = 0; i < model.tensors.size(); ++i)
    tensors.push_back({{model.tensors[i].name, model.tensors[i].codec, model.tensors[i].dims}, i});
  for (size_t at = 1; at + 10 <= size && at < 200; at += 10) {
    Change c{data[at], data[at + 1], 0};
    std::memcpy(&c.number, data + at + 2, 8);
    if (c.what & 0x80) {
      change_tensors(tensors, c);
    } else {
      change_metadata(metadata, c);
    }
  }
  std::vector<GgufTensor> listed;
  for (const Stored& s : tensors) listed.push_back(s.tensor);
  MemoryFolder folder;
  const auto written = write_gguf(folder.path() + "/model.gguf", metadata, listed,
                                  [&](size_t index, const ByteSink& sink) { return give(model, tensors[index], sink); });
  folder.adopt("model.gguf");
  if (!written) return 0;
  EngineOptions options;
  options.memory = 256u << 20;
  options.context = 64;
  options.batch = 8;
  options.threads = 1;
  const auto engine = Engine::open(folder.path() + "/model.gguf", options);
  if (engine) compute(**engine);
  return 0;
}
