#include "memory/neurons/bundle.h"

#include "base/checked.h"

namespace venturi {

Result<BundleLayout> bundle_layout(const ModelFile& file, const NeuronLayer& layer) {
  const Weight& down = *layer.down;
  BundleLayout b;
  b.kernel = column_kernel(down.codec->layout);
  if (b.kernel == ColumnKernel::kNone)
    return error(Code::kUnsupported, "{}: {} is {}; columns are kept apart of F32, F16, BF16, Q8_0 and Q4_0", file.path,
                 down.name, down.codec->name);
  for (const Weight* w : {layer.up, layer.down})
    if (w->n_planes != 1 || !file_run(file, *w, 0, 0, w->n_out))
      return error(Code::kUnsupported, "{}: {} does not lie in one run of the file as it is used", file.path, w->name);
  b.n_neurons = static_cast<uint64_t>(down.n_in);
  if (layer.gate) b.column_offset = static_cast<uint64_t>(round_up(static_cast<int64_t>(layer.up->row_bytes), 64));
  b.bytes = static_cast<uint64_t>(round_up(
      static_cast<int64_t>(b.column_offset) + column_bytes(b.kernel, down.n_out), static_cast<int64_t>(kBundleAlign)));
  b.scale_bytes = static_cast<uint64_t>(column_scale_bytes(b.kernel, down.n_out, down.n_in));
  return b;
}

}  // namespace venturi
