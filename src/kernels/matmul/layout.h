// Names the interleaved weight layouts that hand-tuned kernels read. (Filled in with the kernels.)
#pragma once

namespace venturi {

struct PackedLayout;

}  // namespace venturi
