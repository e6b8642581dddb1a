// The adapters of an engine, from what its options name.
#pragma once

#include <span>
#include <string>

#include "memory/adapter.h"
#include "memory/residency.h"

namespace venturi {

// A peft directory or a GGUF adapter; `scale` is over the file's own.
struct AdapterSource {
  std::string name, path;
  float scale = 1;
};

// From headers; nothing is loaded. Code::kInvalidArgument for two of one name.
Result<AdapterSet> declare_adapters(std::span<const AdapterSource> sources, const ModelFile& file, const WeightCatalog& catalog);

// That every weight an adapter changes is used in a step as a product that add_adapters() sees; Code::kUnsupported
// naming one that is not, whose change would be lost.
Status check_adapters_used(const AdapterSet& adapters, std::span<const WeightUse> uses);

}  // namespace venturi
