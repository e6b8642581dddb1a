#include "engine/adapters.h"

#include <algorithm>
#include <cmath>

#include "formats/byte_cursor.h"

namespace venturi {

Result<AdapterSet> declare_adapters(std::span<const AdapterSource> sources, const ModelFile& file, const WeightCatalog& catalog) {
  AdapterSet set;
  for (const AdapterSource& source : sources) {
    if (source.name.empty()) return error(Code::kInvalidArgument, "{}: an adapter needs a name", source.path);
    if (set.find(source.name)) return error(Code::kInvalidArgument, "two adapters are called {}", shown(source.name));
    if (!std::isfinite(source.scale)) return error(Code::kInvalidArgument, "{}: its scale is no number", source.path);
    AdapterFile stored = TRY(open_adapter(source.path, file));
    set.add(TRY(Adapter::declare(std::move(stored), source.name, set.all().size() + 1, source.scale, catalog)));
  }
  return set;
}

Status check_adapters_used(const AdapterSet& adapters, std::span<const WeightUse> uses) {
  for (const auto& adapter : adapters.all())
    for (const Weight* weight : adapter->weights()) {
      const auto is_product = [&](const WeightUse& use) { return use.weight == weight && use.use == Use::kProduct && !weight->bundles; };
      if (std::none_of(uses.begin(), uses.end(), is_product))
        return error(Code::kUnsupported, "{}: it changes {}, which this architecture does not use as a plain product",
                     adapter->path(), weight->name);
    }
  return {};
}

}  // namespace venturi
