// venturi inspect: what is in a file.
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/text.h"
#include "formats/model_file.h"

#include <nlohmann/json.hpp>

namespace venturi {

namespace {

struct Options {
  std::string model;
  bool json = false, tensors = false;
};

constexpr uint64_t kShownElements = 8;

// Long arrays are shown by type, length and their first elements.
nlohmann::json value_json(const Metadata& metadata, const std::string& key, const MetaValue& value) {
  if (value.type == MetaType::kArray) {
    const auto& array = std::get<MetaArray>(value.value);
    nlohmann::json first = nlohmann::json::array();
    if (array.element == MetaType::kString) {
      if (auto strings = metadata.get_strings(key))
        for (size_t i = 0; i < strings->size() && i < kShownElements; ++i) first.push_back(std::string((*strings)[i]));
    } else if (array.element == MetaType::kF32 || array.element == MetaType::kF64) {
      if (auto floats = metadata.get_floats(key))
        for (size_t i = 0; i < floats->size() && i < kShownElements; ++i) first.push_back((*floats)[i]);
    } else if (auto ints = metadata.get_ints(key)) {
      for (size_t i = 0; i < ints->size() && i < kShownElements; ++i) first.push_back((*ints)[i]);
    }
    return {{"count", array.count}, {"first", first}};
  }
  return std::visit(
      [](const auto& v) -> nlohmann::json {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, MetaArray>) {
          return nullptr;
        } else {
          return v;
        }
      },
      value.value);
}

Status run(const Options& o) {
  const auto file = TRY(open_model(o.model.empty() ? default_model() : o.model));
  std::map<std::string, std::pair<uint64_t, uint64_t>> by_type;  // type -> tensors, bytes
  uint64_t bytes = 0, parameters = 0;
  for (const TensorInfo& t : file->tensors) {
    auto& [count, size] = by_type[std::string(t.codec->name)];
    ++count;
    size += t.bytes();
    bytes += t.bytes();
    parameters += static_cast<uint64_t>(t.n_values());
  }
  nlohmann::ordered_json json;
  json["file"] = file->path;
  json["parameters"] = parameters;
  json["tensor_bytes"] = bytes;
  for (const auto& [type, totals] : by_type) json["types"][type] = {{"tensors", totals.first}, {"bytes", totals.second}};
  for (const auto& [key, value] : file->metadata.entries()) json["metadata"][key] = value_json(file->metadata, key, value);
  json["tensors"] = nlohmann::json::array();
  for (const TensorInfo& t : file->tensors) {
    nlohmann::ordered_json row;
    row["name"] = t.name;
    row["type"] = std::string(t.codec->name);
    row["dims"] = t.dims;
    row["bytes"] = t.bytes();
    json["tensors"].push_back(std::move(row));
  }
  const auto dump = [](const nlohmann::ordered_json& j, int indent) {
    return j.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  if (o.json) {
    print_out(dump(json, 1) + "\n");
    return {};
  }
  std::string out = fmt::format("{}: {} tensors, {:.1f} M parameters, {}\n", file->path, file->tensors.size(),
                                parameters / 1e6, format_bytes(bytes));
  std::vector<std::vector<std::string>> rows = {{"type", "tensors", "bytes", "bits per weight"}};
  for (const auto& [type, totals] : by_type)
    rows.push_back({type, std::to_string(totals.first), format_bytes(totals.second),
                    fmt::format("{:.4g}", find_codec(type)->bits_per_weight())});
  out += markdown_table(rows) + "\n";
  for (const auto& [key, value] : file->metadata.entries()) {
    std::string text = dump(value_json(file->metadata, key, value), -1);
    if (text.size() > 120) text = text.substr(0, 117) + "...";
    out += fmt::format("{} = {}\n", key, text);
  }
  if (o.tensors) {
    rows = {{"tensor", "type", "dims", "bytes"}};
    for (const TensorInfo& t : file->tensors) {
      std::string dims;
      for (const int64_t d : t.dims) dims += fmt::format("{}{}", dims.empty() ? "" : " x ", d);
      rows.push_back({t.name, std::string(t.codec->name), dims, format_bytes(t.bytes())});
    }
    out += "\n" + markdown_table(rows);
  }
  print_out(out);
  return {};
}

}  // namespace

extern const Command command_inspect;
const Command command_inspect{"inspect", "Show what is in a model file: metadata, tensors, bytes by type",
                              [](CLI::App& app) -> std::function<Status()> {
  auto o = std::make_shared<Options>();
  app.add_option("-m,--model", o->model, "GGUF file or Hugging Face directory");
  app.add_flag("--json", o->json, "JSON, tensors included");
  app.add_flag("--tensors", o->tensors, "list every tensor");
  return [o] { return run(*o); };
}};

}  // namespace venturi
