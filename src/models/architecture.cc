#include "models/architecture.h"

#include "architecture_registry.inc"

namespace venturi {

std::span<const Architecture* const> all_architectures() { return kAll_Architecture; }

Result<std::unique_ptr<Model>> create_model(const ModelFile& file, WeightCatalog& catalog) {
  const std::string name = TRY(file.metadata.get_string("general.architecture"));
  std::string known;
  for (const Architecture* architecture : kAll_Architecture) {
    if (architecture->name == name) {
      auto model = architecture->create(file.metadata, catalog);
      if (!model) return std::move(model).error().within(file.path);
      return model;
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", architecture->name);
  }
  return error(Code::kUnsupported, "{}: the architecture '{}' is not known; known are {}", file.path, name, known);
}

}  // namespace venturi
