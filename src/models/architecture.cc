#include "models/architecture.h"

#include "architecture_registry.inc"

namespace venturi {

std::span<const Architecture* const> all_architectures() { return kAll_Architecture; }

Result<std::unique_ptr<Model>> create_model(const ModelFile& file, WeightCatalog& catalog) {
  const auto naming = [&](Error error) {
    return error.message.starts_with(file.path) ? std::move(error) : std::move(error).within(file.path);
  };
  auto stated = file.metadata.get_string("general.architecture");
  if (!stated) return naming(std::move(stated).error());
  const std::string& name = *stated;
  std::string known;
  for (const Architecture* architecture : kAll_Architecture) {
    if (architecture->name == name) {
      auto model = architecture->create(file.metadata, catalog);
      if (!model) return naming(std::move(model).error());
      return model;
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", architecture->name);
  }
  return error(Code::kUnsupported, "{}: the architecture '{}' is not known; known are {}", file.path, name, known);
}

}  // namespace venturi
