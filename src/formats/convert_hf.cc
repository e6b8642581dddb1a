// GGUF back to a Hugging Face directory.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numbers>

#include "formats/convert.h"
#include "formats/convert_stream.h"
#include "formats/hf_architecture.h"
#include "formats/hf_vocabulary.h"
#include "formats/overwrite.h"
#include "formats/safetensors.h"

namespace venturi {

namespace {

using nlohmann::json;

struct Family {
  std::string_view gguf, class_name, model_type;
};
constexpr Family kFamilies[] = {{"llama", "LlamaForCausalLM", "llama"},
                                {"qwen2", "Qwen2ForCausalLM", "qwen2"},
                                {"qwen3", "Qwen3ForCausalLM", "qwen3"}};
constexpr Family kMixtral = {"llama", "MixtralForCausalLM", "mixtral"};
constexpr Family kMistral = {"llama", "MistralForCausalLM", "mistral"};

Result<Family> family_of(const Metadata& metadata) {
  const std::string arch = TRY(metadata.get_string("general.architecture"));
  if (arch == "llama" && TRY(metadata.uint_or("llama.expert_count", 0)) > 0) return kMixtral;
  if (arch == "llama" && metadata.contains("llama.attention.sliding_window")) return kMistral;
  for (const Family& family : kFamilies)
    if (family.gguf == arch) return family;
  return error(Code::kUnsupported,
               "the architecture '{}' cannot be written for Hugging Face; llama, qwen2 "
               "and qwen3 can",
               arch);
}

// --- config.json
// -------------------------------------------------------------------------------------

struct FieldName {
  const char *hf, *gguf;
};
constexpr FieldName kUints[] = {{"hidden_size", "embedding_length"},
                                {"intermediate_size", "feed_forward_length"},
                                {"num_hidden_layers", "block_count"},
                                {"num_attention_heads", "attention.head_count"},
                                {"num_key_value_heads", "attention.head_count_kv"},
                                {"head_dim", "attention.key_length"},
                                {"max_position_embeddings", "context_length"},
                                {"sliding_window", "attention.sliding_window"},
                                {"num_local_experts", "expert_count"},
                                {"num_experts_per_tok", "expert_used_count"}};
constexpr FieldName kFloats[] = {{"rms_norm_eps", "attention.layer_norm_rms_epsilon"},
                                 {"rope_theta", "rope.freq_base"}};

// The shortest decimal that is the same f32: 1e-05, not 9.99999974e-06.
double shortest(double value) { return std::stod(fmt::format("{}", static_cast<float>(value))); }

// The context that a blended factor of dimension `i` tells: the inverse of llama3_rope_factors with 1 and 4 as the
// low and the high factor. 0 if the factor is not between.
uint64_t blended_context(double factor, double largest, size_t i, size_t n_pairs, double base) {
  if (!(factor > 1.0001) || !(factor < largest * 0.9999)) return 0;
  const double smooth = (1 / factor - 1 / largest) / (1 - 1 / largest);
  const double wave = 2 * std::numbers::pi * std::pow(base, static_cast<double>(i) / static_cast<double>(n_pairs));
  const double context = wave * (1 + 3 * smooth);
  return context < 1e9 ? static_cast<uint64_t>(std::llround(context)) : 0;
}

// rope_freqs.weight is Llama 3's scaling with its parameters left out. They are the same in all
// models that were published with it, but for the factor; of others the original context is told from the
// tensor. What they give is compared with it.
Result<json> llama3_scaling(const ModelFile& model, const TensorInfo& tensor, const json& config) {
  std::vector<float> factors(static_cast<size_t>(tensor.n_values()));
  TRY(model.read_rows_f32(tensor, 0, factors));
  float largest = 1;
  for (const float factor : factors) largest = std::max(largest, factor);
  const double base = config.contains("rope_theta") ? config["rope_theta"].get<double>() : 10000;
  std::vector<uint64_t> contexts = {8192};
  for (size_t i = 0; i < factors.size() && contexts.size() < 2; ++i)
    if (const uint64_t context = blended_context(factors[i], largest, i, factors.size(), base)) contexts.push_back(context);
  for (const uint64_t context : contexts) {
    const json scaling = {{"rope_type", "llama3"},
                          {"factor", largest},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", context}};
    json with = config;
    with["rope_scaling"] = scaling;
    const auto expected = TRY(llama3_rope_factors(HfConfig(std::move(with), model.path)));
    bool same = expected.size() == factors.size();
    for (size_t i = 0; same && i < factors.size(); ++i)
      same = std::abs(expected[i] - factors[i]) <= 1e-4f * factors[i];
    if (same) return scaling;
  }
  return error(Code::kUnsupported,
               "{}: rope_freqs.weight is not Llama 3's scaling with its usual "
               "parameters, and config.json has no other way to say it",
               model.path);
}

Result<json> factor_list(const ModelFile& model, const TensorInfo& tensor) {
  std::vector<float> factors(static_cast<size_t>(tensor.n_values()));
  TRY(model.read_rows_f32(tensor, 0, factors));
  json list = json::array();
  for (const float factor : factors) list.push_back(shortest(factor));
  return list;
}

bool is_rope_tensor(std::string_view name) {
  return name == "rope_freqs.weight" || name == "rope_factors_short.weight" ||
         name == "rope_factors_long.weight";
}

// What a scaling has beside its type and its factor.
Status add_scaling_fields(const ModelFile& model, const std::string& type, json& scaling) {
  const auto key = [&](std::string_view name) { return arch_key(model.metadata, name); };
  const auto copy = [&](const char* field, std::string_view name, double times) -> Status {
    if (model.metadata.contains(key(name)))
      scaling[field] = shortest(times * TRY(model.metadata.get_float(key(name))));
    return {};
  };
  if (type == "yarn") {
    const double grown = 1 + 0.1 * std::log(scaling["factor"].get<double>());
    TRY(copy("attention_factor", "rope.scaling.yarn_attn_factor", grown));
    TRY(copy("beta_fast", "rope.scaling.yarn_beta_fast", 1));
    return copy("beta_slow", "rope.scaling.yarn_beta_slow", 1);
  }
  if (type != "longrope") return {};
  scaling.erase("factor");
  scaling["attention_factor"] = shortest(TRY(model.metadata.float_or(key("rope.scaling.attn_factor"), 1)));
  for (const char* length : {"short", "long"}) {
    const std::string name = fmt::format("rope_factors_{}.weight", length);
    const TensorInfo* tensor = model.find(name);
    if (!tensor) return error(Code::kNotFound, "{}: the tensor {} is missing", model.path, name);
    scaling[fmt::format("{}_factor", length)] = TRY(factor_list(model, *tensor));
  }
  return {};
}

Result<json> rope_scaling(const ModelFile& model, const json& config) {
  if (const TensorInfo* tensor = model.find("rope_freqs.weight"))
    return llama3_scaling(model, *tensor, config);
  const auto key = [&](std::string_view name) { return arch_key(model.metadata, name); };
  std::string type = TRY(model.metadata.string_or(key("rope.scaling.type"), "none"));
  if (model.find("rope_factors_long.weight")) type = "longrope";
  if (type == "none") return json(nullptr);
  json scaling = {
      {"rope_type", type},
      {"type", type},
      {"factor", shortest(TRY(model.metadata.float_or(key("rope.scaling.factor"), 1)))}};
  const std::string original = key("rope.scaling.original_context_length");
  if (model.metadata.contains(original))
    scaling["original_max_position_embeddings"] = TRY(model.metadata.get_uint(original));
  TRY(add_scaling_fields(model, type, scaling));
  return scaling;
}

Result<json> config_json(const ModelFile& model, const Family& family, std::string_view dtype) {
  json config = {{"architectures", json::array({family.class_name})},
                 {"model_type", family.model_type},
                 {"tie_word_embeddings", model.find("output.weight") == nullptr},
                 {"attention_bias", model.find("blk.0.attn_q.bias") != nullptr},
                 {"torch_dtype", dtype == "F32"   ? "float32"
                                 : dtype == "F16" ? "float16"
                                                  : "bfloat16"}};
  const Metadata& metadata = model.metadata;
  for (const FieldName& field : kUints)
    if (const std::string key = arch_key(metadata, field.gguf); metadata.contains(key))
      config[field.hf] = TRY(metadata.get_uint(key));
  for (const FieldName& field : kFloats)
    if (const std::string key = arch_key(metadata, field.gguf); metadata.contains(key))
      config[field.hf] = shortest(TRY(metadata.get_float(key)));
  config["hidden_act"] = TRY(metadata.string_or(arch_key(metadata, "hidden_activation"), "silu"));
  if (const TensorInfo* embedding = model.find("token_embd.weight"))
    config["vocab_size"] = embedding->n_rows();
  for (const char* name : {"bos", "eos", "padding"}) {
    const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
    if (metadata.contains(key))
      config[std::string_view(name) == "padding" ? "pad_token_id"
                                                 : fmt::format("{}_token_id", name)] =
          TRY(metadata.get_uint(key));
  }
  json scaling = TRY(rope_scaling(model, config));
  if (!scaling.is_null()) config["rope_scaling"] = std::move(scaling);
  return config;
}

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

// --- tensors
// -----------------------------------------------------------------------------------------

struct Output {
  const TensorInfo* tensor;
  HfTransform transform;
  const Codec* codec;
  int64_t first_row, n_rows;
};

// Where row `i` of a rotated tensor in halves stands in pairs.
int64_t paired_position(int64_t i, int64_t n, uint64_t heads) {
  const int64_t head_dim = n / static_cast<int64_t>(heads), half = head_dim / 2;
  const int64_t within = i % head_dim;
  return i - within + within % half * 2 + within / half;
}

// Another model's files would be read with the new ones.
Status check_nothing_left_over(const std::string& folder, const std::vector<AtomicFile>& files) {
  for (const char* name : {"model.safetensors.index.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja"}) {
    const std::string path = fmt::format("{}/{}", folder, name);
    const auto is_ours = [&](const AtomicFile& file) { return file.path() == path; };
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored) && std::none_of(files.begin(), files.end(), is_ours))
      return error(Code::kInvalidArgument, "{} is another model's; write to a folder of its own, or remove it", path);
  }
  return {};
}

class HfConversion {
 public:
  HfConversion(const ModelFile& model, const ConvertOptions& options, ThreadPool& pool)
      : model_(model), options_(options), pool_(pool) {}

  Result<ConvertReport> run(const std::string& folder) {
    const Codec* codec = options_.type == "F32" || options_.type == "F16" || options_.type == "BF16"
                             ? find_codec(options_.type)
                             : nullptr;
    if (!codec)
      return error(Code::kInvalidArgument, "safetensors are written as F32, F16 or BF16, not '{}'",
                   options_.type);
    const Family family = TRY(family_of(model_.metadata));
    const json config = TRY(config_json(model_, family, options_.type));
    TRY(plan(*find_hf_architecture(family.class_name), codec));
    for (const char* name : {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                             "tokenizer.model", "tokenizer_config.json", "chat_template.jinja"})
      TRY(refuse_overwrite(model_, fmt::format("{}/{}", folder, name)));
    std::error_code failed;
    std::filesystem::create_directories(folder, failed);
    if (failed) return error(Code::kIo, "cannot make the folder {}: {}", folder, failed.message());
    std::vector<AtomicFile> files = TRY(write_hf_vocabulary(model_.metadata, folder));
    TRY(check_nothing_left_over(folder, files));
    files.push_back(TRY(json_file(folder + "/generation_config.json",
                                  TRY(generation_json(model_.metadata, config)))));
    files.push_back(TRY(write_safetensors(
        folder + "/model.safetensors", names_, {{"format", "pt"}},
        [this](size_t index, const ByteSink& sink) { return give(index, sink); })));
    // Last: a folder with a config is one that can be opened.
    files.push_back(TRY(json_file(folder + "/config.json", config)));
    TRY(commit_all(files));
    for (const AtomicFile& file : files) report_.paths.push_back(file.path());
    if (overflows_ > 0)
      report_.warnings.push_back(
          fmt::format("{} values are too large for F16 and became infinite; use BF16", overflows_));
    return std::move(report_);
  }

 private:
  static Result<AtomicFile> json_file(const std::string& path, const json& value) {
    AtomicFile file = TRY(AtomicFile::create(path));
    TRY(file.append(value.dump(1, ' ', false, json::error_handler_t::replace) + "\n"));
    return file;
  }

  Status plan(const HfArchitecture& architecture, const Codec* codec) {
    for (const TensorInfo& tensor : model_.tensors) {
      if (is_rope_tensor(tensor.name)) continue;  // config.json says it
      const bool experts = tensor.dims.size() == 3;
      const int64_t n_parts = experts ? tensor.dims[2] : 1;
      for (int64_t part = 0; part < n_parts; ++part) {
        const HfRule* rule = nullptr;
        const std::string name =
            hf_name_of(architecture, tensor.name, static_cast<int>(part), &rule);
        if (name.empty())
          return error(Code::kUnsupported, "{}: tensor '{}' has no name in Hugging Face's {}",
                       model_.path, tensor.name, architecture.classes[0]);
        const Codec* own = tensor.dims.size() == 1 ? find_codec("F32") : codec;
        const int64_t n_rows = tensor.n_rows() / n_parts;
        std::vector<int64_t> shape(tensor.dims.rbegin() + (experts ? 1 : 0), tensor.dims.rend());
        names_.push_back(
            {.name = name, .dtype = std::string(own->name), .shape = std::move(shape)});
        outputs_.push_back({&tensor, rule->transform, own, part * n_rows, n_rows});
        const uint64_t bytes = own->bytes(static_cast<uint64_t>(n_rows * tensor.n_in()));
        TypeTotal& total = report_.by_type[std::string(own->name)];
        ++total.tensors;
        total.bytes += bytes;
        report_.bytes += bytes;
      }
    }
    return {};
  }

  // Heads whose rows have to go back from pairs to halves; 0 if none.
  Result<uint64_t> rotated_heads(const Output& output) {
    if (output.transform != HfTransform::kRopeQuery && output.transform != HfTransform::kRopeKey)
      return uint64_t{0};
    const Metadata& metadata = model_.metadata;
    const uint64_t n_heads = TRY(metadata.get_uint(arch_key(metadata, "attention.head_count")));
    const uint64_t heads =
        output.transform == HfTransform::kRopeQuery
            ? n_heads
            : TRY(metadata.uint_or(arch_key(metadata, "attention.head_count_kv"), n_heads));
    const TensorInfo& tensor = *output.tensor;
    const auto rows =
        static_cast<uint64_t>(tensor.dims.size() == 1 ? tensor.dims[0] : tensor.n_rows());
    if (heads == 0 || rows % heads != 0 || rows / heads % 2 != 0)
      return error(Code::kCorrupt, "tensor '{}': {} heads do not divide its {} rows into pairs",
                   tensor.name, heads, rows);
    return heads;
  }

  Status give(size_t index, const ByteSink& sink) {
    const Output& output = outputs_[index];
    const TensorInfo& tensor = *output.tensor;
    const ByteSink counted = [&](std::span<const uint8_t> piece) -> Status {
      TRY(sink(piece));
      done_ += piece.size();
      if (options_.progress &&
          !options_.progress({index, outputs_.size(), done_, report_.bytes, tensor.name}))
        return error(Code::kCancelled, "stopped at tensor '{}'", tensor.name);
      return {};
    };
    const uint64_t heads = TRY(rotated_heads(output));
    if (heads != 0 && tensor.dims.size() == 1) return give_bias(output, heads, counted);
    std::function<int64_t(int64_t)> row_of;
    if (heads != 0)
      row_of = [&](int64_t row) { return paired_position(row, tensor.n_rows(), heads); };
    return encode_rows({.model = model_,
                        .tensor = tensor,
                        .codec = *output.codec,
                        .importance = nullptr,
                        .row_of = std::move(row_of),
                        .first_row = output.first_row,
                        .n_rows = output.n_rows},
                       pool_, counted, overflows_);
  }

  Status give_bias(const Output& output, uint64_t heads, const ByteSink& sink) {
    const int64_t n = output.tensor->n_in();
    std::vector<float> pairs(static_cast<size_t>(n)), halves(pairs.size());
    TRY(model_.read_row_f32(*output.tensor, 0, pairs));
    for (int64_t i = 0; i < n; ++i)
      halves[static_cast<size_t>(i)] = pairs[static_cast<size_t>(paired_position(i, n, heads))];
    std::vector<uint8_t> bytes(output.codec->bytes(halves.size()));
    output.codec->encode(halves.data(), nullptr, bytes.data(), n);
    return sink(bytes);
  }

  const ModelFile& model_;
  const ConvertOptions& options_;
  ThreadPool& pool_;
  std::vector<Output> outputs_;
  std::vector<SafeTensor> names_;
  ConvertReport report_;
  uint64_t done_ = 0, overflows_ = 0;
};

}  // namespace

Result<ConvertReport> convert_to_hf(const ModelFile& model, const std::string& folder,
                                    const ConvertOptions& options, ThreadPool& pool) {
  return HfConversion(model, options, pool).run(folder);
}

}  // namespace venturi
