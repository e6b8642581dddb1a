// GGUF back to a Hugging Face directory.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/convert.h"
#include "formats/hf_config_write.h"
#include "formats/hf_restore.h"
#include "formats/hf_vocabulary.h"
#include "formats/overwrite.h"

namespace venturi {

namespace {

using nlohmann::json;

constexpr std::string_view kIndex = "model.safetensors.index.json";

Result<json> generation_json(const Metadata& metadata, const json& config) {
  json generation = json::object();
  for (const char* name : {"bos_token_id", "eos_token_id", "pad_token_id"})
    if (config.contains(name)) generation[name] = config[name];
  const std::pair<const char*, const char*> numbers[] = {
      {"temperature", "temp"}, {"top_p", "top_p"}, {"min_p", "min_p"}};
  for (const auto& [field, key] : numbers)
    if (const std::string name = fmt::format("general.sampling.{}", key); metadata.contains(name))
      generation[field] = shortest(TRY(metadata.get_float(name)));
  if (metadata.contains("general.sampling.top_k"))
    generation["top_k"] = TRY(metadata.get_uint("general.sampling.top_k"));
  return generation;
}

// Another model's files would be read with the new ones, or in their place.
Status check_nothing_left_over(const std::string& folder, const std::vector<std::string>& ours) {
  for (const char* name :
       {"model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer.model",
        "chat_template.jinja", "added_tokens.json", "1_Pooling/config.json"}) {
    const std::string path = fmt::format("{}/{}", folder, name);
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored) &&
        std::find(ours.begin(), ours.end(), path) == ours.end())
      return error(Code::kInvalidArgument,
                   "{} is another model's; write to a folder of its own, or remove it", path);
  }
  return {};
}

Status make_folder(const std::filesystem::path& folder) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed)
    return error(Code::kIo, "cannot make the folder {}: {}", folder.string(), failed.message());
  return {};
}

class HfConversion {
 public:
  HfConversion(const ModelFile& model, std::string folder, const ConvertOptions& options,
               ThreadPool& pool)
      : model_(model), folder_(std::move(folder)), options_(options), pool_(pool) {}

  Result<ConvertReport> run() {
    const bool known = options_.type == "F32" || options_.type == "F16" || options_.type == "BF16";
    if (!known)
      return error(Code::kInvalidArgument, "safetensors are written as F32, F16 or BF16, not '{}'",
                   options_.type);
    const HfArchitecture& architecture =
        *TRY(find_hf_family(TRY(model_.metadata.get_string("general.architecture"))));
    const HfClass its_class = architecture.class_of
                                  ? TRY(architecture.class_of(model_))
                                  : HfClass{architecture.classes[0], architecture.model_type};
    const json config = TRY(hf_config_json(model_, architecture, its_class, options_.type));
    outputs_ = TRY(plan_hf_outputs(model_, architecture, *find_codec(options_.type)));
    std::vector<HfFile> others;
    if (architecture.more_files) others = TRY(architecture.more_files(model_.metadata));
    json generation = TRY(generation_json(model_.metadata, config));
    others.push_back({"generation_config.json", std::move(generation)});
    // Last: a folder with a config is one that can be opened.
    others.push_back({"config.json", config});
    TRY(write(others));
    add_warnings();
    return std::move(report_);
  }

 private:
  Status write(const std::vector<HfFile>& others) {
    std::vector<SafeTensor> tensors;
    for (const HfOutput& output : outputs_) {
      tensors.push_back(output.stored);
      TypeTotal& total = report_.by_type[output.stored.dtype];
      ++total.tensors;
      total.bytes += output.bytes();
      report_.bytes += output.bytes();
    }
    const auto parts = cut_safetensors(folder_, tensors, options_.part_bytes);
    std::vector<HfFile> more = others;
    if (parts.size() > 1)
      more.insert(more.begin(), HfFile{std::string(kIndex), safetensors_index(parts, tensors)});
    std::vector<std::string> ours;
    for (const HfFile& file : more) ours.push_back(fmt::format("{}/{}", folder_, file.path));
    for (const SafetensorsPart& part : parts) ours.push_back(part.path);
    for (const std::string& path : ours) TRY(refuse_overwrite(model_, path));
    for (const char* name :
         {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja"})
      TRY(refuse_overwrite(model_, fmt::format("{}/{}", folder_, name)));

    TRY(make_folder(folder_));
    files_ = TRY(write_hf_vocabulary(model_.metadata, folder_));
    for (const AtomicFile& file : files_) ours.push_back(file.path());
    TRY(check_nothing_left_over(folder_, ours));
    auto weights = TRY(write_safetensors(
        parts, tensors, {{"format", "pt"}},
        [this](size_t index, const ByteSink& sink) { return give(index, sink); }));
    std::move(weights.begin(), weights.end(), std::back_inserter(files_));
    for (const HfFile& file : more) TRY(add_json(file.path, file.content));
    TRY(commit_all(files_));
    for (const AtomicFile& file : files_) report_.paths.push_back(file.path());
    return {};
  }

  Status add_json(const std::string& name, const json& value) {
    const std::filesystem::path path = fmt::format("{}/{}", folder_, name);
    TRY(make_folder(path.parent_path()));
    files_.push_back(TRY(AtomicFile::create(path.string())));
    return files_.back().append(value.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
  }

  Status give(size_t index, const ByteSink& sink) {
    const ByteSink counted = [&](std::span<const uint8_t> piece) -> Status {
      TRY(sink(piece));
      done_ += piece.size();
      const std::string_view name = outputs_[index].tensor->name;
      if (options_.progress &&
          !options_.progress({index, outputs_.size(), done_, report_.bytes, name}))
        return error(Code::kCancelled, "stopped at tensor '{}'", name);
      return {};
    };
    return write_hf_output(model_, outputs_[index], pool_, counted, losses_);
  }

  void add_warnings() {
    if (losses_.overflows > 0)
      report_.warnings.push_back(fmt::format(
          "{} values are too large for F16 and became infinite; use BF16", losses_.overflows));
    if (losses_.rounded > 0)
      report_.warnings.push_back(
          fmt::format("{} values that are stored less 1 or as logarithms are rounded in {}: read "
                      "again, they differ in the last digit",
                      losses_.rounded, options_.type));
  }

  const ModelFile& model_;
  const std::string folder_;
  const ConvertOptions& options_;
  ThreadPool& pool_;
  std::vector<HfOutput> outputs_;
  std::vector<AtomicFile> files_;
  ConvertReport report_;
  HfLosses losses_;
  uint64_t done_ = 0;
};

}  // namespace

Result<ConvertReport> convert_to_hf(const ModelFile& model, const std::string& folder,
                                    const ConvertOptions& options, ThreadPool& pool) {
  return HfConversion(model, folder, options, pool).run();
}

}  // namespace venturi
