#include "engine/plan_probe.h"

#include <algorithm>
#include <map>

#include "planner/disk_probe.h"
#include "planner/probe.h"

namespace venturi {

namespace {

constexpr uint64_t kMostMemory = 640u << 20, kBriefMemory = 128u << 20, kLeastMemory = 24u << 20;
// Codecs with less than this share of a model's bytes are taken to be as fast as the bounds say.
constexpr double kMatters = 0.02;

uint64_t probe_memory(const Planner& planner, const PlanProbeOptions& o) {
  uint64_t weights = planner.catalog().bytes();
  // A model that fits the caches is measured in the caches.
  weights = std::clamp(weights, kLeastMemory / 4, o.brief ? kBriefMemory : kMostMemory);
  return std::min(weights, std::max(o.memory / 2, kLeastMemory));
}

// The model's codecs that matter, each with the shape of the matrix in the middle of its bytes.
std::vector<KernelCase> cases_of(const WeightCatalog& catalog) {
  std::map<const Codec*, std::vector<const Weight*>> by_codec;
  uint64_t total = 0;
  for (const auto& w : catalog.matrices()) {
    by_codec[w->codec].push_back(w.get());
    total += w->file_bytes();
  }
  std::vector<KernelCase> cases;
  for (auto& [codec, weights] : by_codec) {
    uint64_t bytes = 0, seen = 0;
    for (const Weight* w : weights) bytes += w->file_bytes();
    if (static_cast<double>(bytes) < kMatters * static_cast<double>(total)) continue;
    std::sort(weights.begin(), weights.end(), [](const Weight* a, const Weight* b) {
      return std::pair(a->n_in * a->n_out, a->n_in) < std::pair(b->n_in * b->n_out, b->n_in);
    });
    for (const Weight* w : weights) {
      seen += w->file_bytes();
      if (seen * 2 < bytes) continue;
      // Of a vocabulary a part tells as much.
      cases.push_back({.codec = codec, .n_in = w->n_in, .n_out = std::min<int64_t>(w->n_out, 16384)});
      break;
    }
  }
  return cases;
}

// What a step streams, piece by piece in order; where only neurons or state are read, the model file stands for what they lie in.
std::vector<DiskRange> streamed_ranges(const WeightCatalog& catalog, const ResidencyPlan& residency, bool other_reads) {
  std::vector<DiskRange> ranges;
  for (const auto& w : catalog.matrices()) {
    if (w->pinned_rows >= w->n_out) continue;
    // Experts of a cache are read whole.
    const int64_t rows = residency.window_bytes == 0 ? w->n_out : segment_rows(*w, w->pinned_rows, residency.segment_bytes);
    for (int64_t plane = 0; plane < w->n_planes; ++plane)
      for (int64_t row = w->pinned_rows; row < w->n_out; row += rows)
        if (const auto run = file_run(catalog.file(), *w, plane, row, std::min(w->n_out, row + rows)))
          ranges.push_back({run->file, run->offset, run->bytes});
  }
  if (!ranges.empty() || !other_reads) return ranges;
  for (const auto& w : catalog.matrices())
    for (int64_t plane = 0; plane < w->n_planes; ++plane)
      if (const auto run = file_run(catalog.file(), *w, plane, 0, w->n_out)) ranges.push_back({run->file, run->offset, run->bytes});
  return ranges;
}

Result<DiskProfile> probe_streamed(Ledger& ledger, const Planner& planner, const Plan& plan, bool brief) {
  const std::vector<DiskRange> ranges = streamed_ranges(planner.catalog(), plan.residency, plan.reads_disk());
  if (ranges.empty()) return DiskProfile{};
  const ResidencyPlan& r = plan.residency;
  uint64_t piece = 0;
  for (const DiskRange& range : ranges) piece = std::max(piece, range.bytes);
  DiskPattern pattern{.request_bytes = r.request_bytes, .depth = r.depth,
                      .piece_bytes = std::clamp<uint64_t>(piece, 64u << 10, 4u << 20),
                      .seconds = brief ? 0.3 : 2.5};
  if (r.window_bytes > 0) pattern.in_flight_bytes = in_flight_bytes(r);
  const ModelFile& file = planner.file();
  DiskProfile disk{.path = file.path, .backend = {}, .rates = {}, .device = device_of(file.files.empty() ? file.path : file.files[0].path())};
  // Whoever streams goes round: what lies in a cache behind the disk by then is read from there.
  if (!brief) {
    pattern.most_passes = 1;
    TRY(probe_disk(ledger, planner.file().files, ranges, pattern));
    pattern.most_passes = 1e9;
    pattern.seconds = 1.5;
  }
  disk.rates.push_back(TRY(probe_disk(ledger, planner.file().files, ranges, pattern, &disk.backend)));
  return disk;
}

}  // namespace

Result<MachineProfile> probe_for_plan(const Planner& planner, const Plan& plan, const PlanProbeOptions& o) {
  const auto ledger = Ledger::create();
  auto pool = std::make_shared<ThreadPool>(o.threads > 0 ? o.threads : default_thread_count());
  const uint64_t memory = probe_memory(planner, o);
  MachineProfile profile = TRY(probe_machine(
      *ledger, *pool, {.repetitions = 3, .memory_bytes = std::max<uint64_t>(memory, kLeastMemory), .by_threads = false}));
  profile.brief = o.brief;
  KernelProbeOptions kernels{.repetitions = o.brief ? 2 : 7, .seconds = o.brief ? 0.004 : 0.02, .memory_bytes = memory,
                             .packed = plan.options.repack, .as_stored = !o.brief || !plan.options.repack || plan.residency.streams()};
  if (o.brief) kernels.rows = {1, 64};
  TRY(probe_kernels(ledger, pool, cases_of(planner.catalog()), kernels, profile));
  profile.disk = TRY(probe_streamed(*ledger, planner, plan, o.brief));
  return profile;
}

Status probe_missing_codecs(const Planner& planner, const PlanProbeOptions& o, MachineProfile& profile) {
  std::vector<KernelCase> cases = cases_of(planner.catalog());
  std::erase_if(cases, [&](const KernelCase& c) { return profile.knows(c.codec->name); });
  if (cases.empty()) return {};
  const double region_seconds = profile.region_seconds;
  TRY(probe_kernels(Ledger::create(), std::make_shared<ThreadPool>(profile.threads), cases,
                    {.repetitions = 2, .seconds = 0.004, .memory_bytes = probe_memory(planner, o), .rows = {1, 64}}, profile));
  if (region_seconds > 0) profile.region_seconds = region_seconds;
  return {};
}

}  // namespace venturi
