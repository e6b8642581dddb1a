#include "memory/experts/expert_layout.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/disk.h"
#include "kernels/matmul/layout.h"
#include "memory/residency.h"

namespace venturi {

namespace {

constexpr uintptr_t kLine = 64;  // kernels want their groups on one

// Rows whose packed form stands alone, as stored.
uint64_t run_bytes(const Weight& w) { return static_cast<uint64_t>(row_alignment(w)) * w.row_bytes; }

}  // namespace

std::optional<ExpertLayout> ExpertLayout::of(const WeightCatalog& catalog) {
  ExpertLayout layout;
  std::array<uint64_t, kExpertParts> part_bytes{};
  for (const ExpertStack& stack : catalog.experts())
    for (int part = 0; part < kExpertParts; ++part) {
      const Weight& w = part_of(stack, part);
      layout.n_experts = std::max(layout.n_experts, w.n_planes);
      for (int64_t plane = 0; plane < w.n_planes; ++plane) {
        const auto run = file_run(catalog.file(), w, plane, 0, w.n_out);
        if (!run) return std::nullopt;
        part_bytes[part] = std::max(part_bytes[part], disk_cover(run->offset, run->bytes));
      }
      if (packs_in_place(w))
        layout.scratch_bytes = std::max(layout.scratch_bytes, kPackers * static_cast<uint64_t>(round_up(run_bytes(w), kLine)));
    }
  if (catalog.experts().empty()) return std::nullopt;
  layout.n_layers = static_cast<int64_t>(catalog.experts().size());
  for (int part = 0; part < kExpertParts; ++part) {
    layout.part_begin[part] = layout.slot_bytes;
    layout.slot_bytes += part_bytes[part];
  }
  layout.scratch_bytes = round_up(layout.scratch_bytes, kDiskAlign);
  return layout;
}

bool packs_in_place(const Weight& w) {
  return w.codec->layout && w.n_out % row_alignment(w) == 0 &&
         w.held_bytes(w.n_out, true) == w.row_bytes * static_cast<uint64_t>(w.n_out);
}

uint8_t* pack_in_place(const Weight& w, uint8_t* rows, uint8_t* scratch, ThreadPool& pool) {
  const uint64_t run = run_bytes(w), step = round_up(run, kLine);
  const int64_t n_runs = w.n_out / row_alignment(w);
  const int64_t lanes = std::min<int64_t>({ExpertLayout::kPackers, pool.size(), n_runs});
  // Everything moves to the front by less than a line, so a run is written when all before it has been read,
  // but for the beginning of a lane, which is kept until all are done.
  const uint64_t shift = reinterpret_cast<uintptr_t>(rows) % kLine;
  uint8_t kept[ExpertLayout::kPackers][kLine];
  const auto lane_begin = [&](int64_t lane) { return n_runs * lane / lanes; };
  pool.parallel_for(lanes, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t lane = begin; lane < end; ++lane) {
      uint8_t* packed = scratch + static_cast<uint64_t>(lane) * step;
      for (int64_t r = lane_begin(lane); r < lane_begin(lane + 1); ++r) {
        uint8_t* from = rows + static_cast<uint64_t>(r) * run;
        for (int64_t g = 0; g < row_alignment(w) / kGroupRows; ++g)
          pack_group(*w.codec->layout, from + static_cast<uint64_t>(g * kGroupRows) * w.row_bytes,
                     static_cast<int64_t>(w.row_bytes), kGroupRows, w.n_in, g, packed);
        const uint64_t keep = r == lane_begin(lane) ? shift : 0;
        std::memcpy(kept[lane], packed, keep);
        std::memcpy(from - shift + keep, packed + keep, run - keep);
      }
    }
  });
  for (int64_t lane = 0; lane < lanes; ++lane)
    std::memcpy(rows + static_cast<uint64_t>(lane_begin(lane)) * run - shift, kept[lane], shift);
  return rows - shift;
}

}  // namespace venturi
