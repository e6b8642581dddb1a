#include "formats/convert.h"

#include <algorithm>
#include <map>

#include "formats/convert_stream.h"
#include "formats/convert_types.h"
#include "formats/gguf_write.h"
#include "formats/overwrite.h"

namespace venturi {

namespace {

constexpr uint64_t kQuantizationVersion = 2;  // of the block layouts, unchanged since 2023
constexpr uint64_t kCopyBytes = 4 << 20;

Status copy_bytes(const ModelFile& model, const TensorInfo& tensor, const ByteSink& sink) {
  std::vector<uint8_t> buffer(std::min(kCopyBytes, tensor.bytes()));
  for (uint64_t at = 0; at < tensor.bytes(); at += buffer.size()) {
    const std::span piece(buffer.data(), std::min<uint64_t>(buffer.size(), tensor.bytes() - at));
    TRY(model.read(tensor, at, piece));
    TRY(sink(piece));
  }
  return {};
}

Result<const std::vector<float>*> importance_of(const ConvertOptions& options,
                                                const TensorInfo& tensor) {
  if (!options.importance) return nullptr;
  const auto it = options.importance->find(tensor.name);
  if (it == options.importance->end()) return nullptr;
  const auto n_in = static_cast<uint64_t>(tensor.n_in());
  const uint64_t experts = tensor.dims.size() > 2 ? static_cast<uint64_t>(tensor.dims[2]) : 1;
  if (it->second.size() != n_in && it->second.size() != n_in * experts)
    return error(Code::kInvalidArgument, "importance of tensor '{}': expected {} values, found {}",
                 tensor.name, n_in * experts, it->second.size());
  for (const float value : it->second)
    if (!(value >= 0) || value > std::numeric_limits<float>::max())
      return error(Code::kInvalidArgument,
                   "importance of tensor '{}': {} is not a finite number >= 0", tensor.name, value);
  return &it->second;
}

// Whether encoding loses what an earlier quantisation left: worth a word.
bool loses_twice(const TensorInfo& from, const Codec& to) {
  return from.codec->block_elems > 1 && &to != from.codec && to.block_elems > 1;
}

class GgufConversion {
 public:
  GgufConversion(const ModelFile& model, const ConvertOptions& options, ThreadPool& pool)
      : model_(model), options_(options), pool_(pool) {}

  Result<ConvertReport> run(const std::string& path) {
    const TypeRules rules = TRY(
        TypeRules::create(options_.type, model_, options_.pure, options_.importance != nullptr));
    plan(rules);
    Metadata metadata = model_.metadata;
    metadata.set_uint("general.file_type", rules.file_type());
    metadata.set_uint("general.quantization_version", kQuantizationVersion);
    report_.paths =
        TRY(write_gguf(path, metadata, tensors_,
                       [this](size_t index, const ByteSink& sink) { return give(index, sink); },
                       {.part_bytes = options_.part_bytes,
                        .check = [this](const std::string& output) { return refuse_overwrite(model_, output); }}));
    if (overflows_ > 0)
      report_.warnings.push_back(fmt::format(
          "{} values are too large for F16 and became infinite; use BF16 or F32", overflows_));
    return std::move(report_);
  }

 private:
  void plan(const TypeRules& rules) {
    size_t twice = 0;
    std::map<std::string, std::pair<std::string, size_t>> odd;  // why -> the first tensor, how many
    for (const TensorInfo& tensor : model_.tensors) {
      TypeChoice choice = rules.choose(tensor);
      if (!choice.warning.empty())
        ++odd.try_emplace(std::move(choice.warning), tensor.name, 0).first->second.second;
      twice += loses_twice(tensor, *choice.codec);
      tensors_.push_back({tensor.name, choice.codec, tensor.dims});
      const uint64_t bytes = tensors_.back().bytes();
      TypeTotal& total = report_.by_type[std::string(choice.codec->name)];
      ++total.tensors;
      total.bytes += bytes;
      report_.bytes += bytes;
    }
    for (const auto& [why, tensors] : odd)
      report_.warnings.push_back(tensors.second == 1
                                     ? fmt::format("{}: {}", tensors.first, why)
                                     : fmt::format("{} tensors, {} the first: {}", tensors.second,
                                                   tensors.first, why));
    if (twice > 0)
      report_.warnings.push_back(fmt::format(
          "{} tensors were quantised before and lose a second time; convert from F16 if you can",
          twice));
  }

  Status give(size_t index, const ByteSink& sink) {
    const TensorInfo& tensor = model_.tensors[index];
    const Codec& codec = *tensors_[index].codec;
    const ByteSink counted = [&](std::span<const uint8_t> piece) -> Status {
      TRY(sink(piece));
      done_ += piece.size();
      if (options_.progress &&
          !options_.progress({index, tensors_.size(), done_, report_.bytes, tensor.name}))
        return error(Code::kCancelled, "stopped at tensor '{}'; nothing was written", tensor.name);
      return {};
    };
    if (tensor.codec == &codec && tensor.as_stored()) return copy_bytes(model_, tensor, counted);
    const auto importance = TRY(importance_of(options_, tensor));
    const EncodeJob job{.model = model_,
                        .tensor = tensor,
                        .codec = codec,
                        .importance = importance,
                        .row_of = nullptr,
                        .first_row = 0,
                        .n_rows = tensor.n_rows()};
    return encode_rows(job, pool_, counted, overflows_);
  }

  const ModelFile& model_;
  const ConvertOptions& options_;
  ThreadPool& pool_;
  std::vector<GgufTensor> tensors_;
  ConvertReport report_;
  uint64_t done_ = 0, overflows_ = 0;
};

}  // namespace

Result<ConvertReport> convert_to_gguf(const ModelFile& model, const std::string& path,
                                      const ConvertOptions& options, ThreadPool& pool) {
  return GgufConversion(model, options, pool).run(path);
}

}  // namespace venturi
