#include <algorithm>
#include <unordered_map>

#include "base/checked.h"
#include "base/disk.h"
#include "memory/experts/expert_layout.h"
#include "memory/residency.h"

namespace venturi {

namespace {

constexpr uint64_t kAlign = 64;  // of a weight in memory
// Segments are halved from the default down to this where the budget is small, and below it a segment
// is as few rows as can stand alone.
constexpr uint64_t kSmallSegment = 64u << 10;
// More of a window than this evens out nothing more.
constexpr uint64_t kMostWindow = 128u << 20;

struct Candidate {
  const Weight* weight;
  Use use;
  int64_t pinned_rows = 0;
};

// Every matrix once, those in use in order of use, with the use that binds it most.
std::vector<Candidate> candidates_of(const WeightCatalog& catalog, std::span<const WeightUse> uses) {
  const auto rank = [](Use use) {
    return use == Use::kResident ? 3 : use == Use::kRouted ? 2 : use == Use::kProduct ? 1 : 0;
  };
  std::vector<Candidate> list;
  std::unordered_map<const Weight*, size_t> index;
  const auto note = [&](const Weight* weight, Use use) {
    if (weight->bundles) return;
    if (!can_stream(catalog.file(), *weight)) use = Use::kResident;
    const auto [at, fresh] = index.try_emplace(weight, list.size());
    if (fresh) list.push_back({weight, use});
    if (rank(use) > rank(list[at->second].use)) list[at->second].use = use;
  };
  for (const WeightUse& use : uses) note(use.weight, use.use);
  for (const auto& weight : catalog.matrices()) note(weight.get(), Use::kRows);  // declared, never used
  for (Candidate& c : list)
    if (c.use == Use::kResident) c.pinned_rows = c.weight->n_out;
  return list;
}

uint64_t bytes_of(const Weight& w, int64_t rows, bool repack) {
  return static_cast<uint64_t>(round_up(static_cast<int64_t>(w.held_bytes(rows, repack)) * w.n_planes, kAlign));
}

// Memory of what is pinned, vectors too.
uint64_t pinned_bytes(const WeightCatalog& catalog, const std::vector<Candidate>& list, bool repack) {
  uint64_t total = 0;
  for (const Candidate& c : list) total += bytes_of(*c.weight, c.pinned_rows, repack);
  return Buffer::held_bytes(total) + catalog.vector_bytes();
}

// Of the largest streamed piece in a window.
uint64_t largest_cover(const std::vector<Candidate>& list, Use use, uint64_t segment_bytes) {
  uint64_t largest = 0;
  for (const Candidate& c : list)
    if (c.use == use && c.pinned_rows < c.weight->n_out) {
      const uint64_t bytes = static_cast<uint64_t>(segment_rows(*c.weight, c.pinned_rows, segment_bytes)) * c.weight->row_bytes;
      largest = std::max(largest, disk_cover(kDiskAlign - 1, bytes));
    }
  return largest;
}

// One piece in use and one being read.
void smallest_windows(const std::vector<Candidate>& list, ResidencyPlan& plan) {
  plan.window_bytes = 2 * largest_cover(list, Use::kProduct, plan.segment_bytes);
  plan.routed_bytes = 2 * largest_cover(list, Use::kRouted, plan.segment_bytes);
}

uint64_t windows_of(const ResidencyPlan& plan) {
  return Buffer::held_bytes(plan.window_bytes) + Buffer::held_bytes(plan.routed_bytes);
}

// Segments and windows that suit a budget, a quarter of it at most; else the smallest.
void choose_windows(const std::vector<Candidate>& list, uint64_t budget, const ResidencyWishes& wishes,
                    ResidencyPlan& plan) {
  uint64_t all = 0;  // a window need not hold more than there is
  for (const Candidate& c : list) all += c.use == Use::kResident ? 0 : c.weight->file_bytes();
  const uint64_t wish = std::min(wishes.window_bytes, all);
  // One piece in use and three that are read, so that the disk has something to do in between; in a window that was asked
  // for, two are better than none.
  for (const uint64_t pieces : {4, 2}) {
    if (pieces < 4 && wish == 0) break;
    for (plan.segment_bytes = ResidencyPlan().segment_bytes; plan.segment_bytes >= kSmallSegment; plan.segment_bytes /= 2) {
      const uint64_t wanted = wish ? wish : std::min({budget / 20, kMostWindow, all});
      const uint64_t product = largest_cover(list, Use::kProduct, plan.segment_bytes);
      const uint64_t routed = largest_cover(list, Use::kRouted, plan.segment_bytes);
      plan.window_bytes = product ? std::max(wanted, pieces * product) : 0;
      plan.routed_bytes = routed ? std::max(wanted / 2, 4 * routed) : 0;
      if (wish ? plan.window_bytes == wish : windows_of(plan) <= budget / 4) return;
    }
  }
  plan.segment_bytes = 1;
  smallest_windows(list, plan);
}

// A window that was asked for and has no room, with the largest that has.
Error window_refusal(const std::vector<Candidate>& list, uint64_t budget, uint64_t least, ResidencyWishes wishes) {
  constexpr uint64_t kUnit = 1000;
  const uint64_t asked = wishes.window_bytes;
  uint64_t low = 0, high = asked / kUnit + 1;
  while (high - low > 1) {
    const uint64_t middle = low + (high - low) / 2;
    wishes.window_bytes = middle * kUnit;
    ResidencyPlan plan;
    choose_windows(list, budget, wishes, plan);
    (least + windows_of(plan) <= budget ? low : high) = middle;
  }
  return error(Code::kOutOfBudget, "a window of {} has no room: {} are left for it and for weights, of which {} cannot be streamed; the "
               "largest is --window {}k", format_bytes(asked), format_bytes(budget), format_bytes(least), low);
}

// What a window need not exceed: all that goes through it in a step.
uint64_t streamed_cover(const std::vector<Candidate>& list, Use use, const ResidencyPlan& plan) {
  uint64_t total = 0;
  for (const Candidate& c : list) {
    const Weight& w = *c.weight;
    if (c.use != use) continue;
    const int64_t rows = segment_rows(w, c.pinned_rows, plan.segment_bytes);
    for (int64_t row = c.pinned_rows; row < w.n_out; row += rows)
      total += static_cast<uint64_t>(w.n_planes) *
               disk_cover(kDiskAlign - 1, static_cast<uint64_t>(std::min(rows, w.n_out - row)) * w.row_bytes);
  }
  return total;
}

// Pins the same share of every candidate of a use, in whole segments: each adds its share to a credit,
// and a segment is pinned when the credit pays for it.
uint64_t pin_share(std::vector<Candidate>& list, uint64_t room, const ResidencyPlan& plan, bool repack) {
  double total = 0;
  for (const Candidate& c : list)
    if (c.use == Use::kProduct || c.use == Use::kRouted)
      total += static_cast<double>(bytes_of(*c.weight, c.weight->n_out, repack) - bytes_of(*c.weight, c.pinned_rows, repack));
  if (total == 0) return room;
  const double share = std::min(1.0, static_cast<double>(room) / total);
  double credit = 0;
  for (Candidate& c : list) {
    if (c.use != Use::kProduct && c.use != Use::kRouted) continue;
    const Weight& w = *c.weight;
    // An expert is a plane of many: there the finest step is taken.
    const int64_t rows = c.use == Use::kRouted ? row_alignment(w) : segment_rows(w, c.pinned_rows, plan.segment_bytes);
    const int64_t first = c.pinned_rows;
    for (int64_t row = first; row < w.n_out; row += rows) {
      const int64_t end = std::min(w.n_out, row + rows), to = std::min(w.n_out, c.pinned_rows + rows);
      credit += share * static_cast<double>(bytes_of(w, end, repack) - bytes_of(w, row, repack));
      const uint64_t cost = bytes_of(w, to, repack) - bytes_of(w, c.pinned_rows, repack);
      if (static_cast<double>(cost) > credit || cost > room) continue;
      c.pinned_rows = to;
      credit -= static_cast<double>(cost);
      room -= cost;
    }
  }
  return room;
}

ResidencyPlan finish(const WeightCatalog& catalog, const std::vector<Candidate>& list, ResidencyPlan plan) {
  std::unordered_map<const Weight*, int64_t> pinned;
  for (const Candidate& c : list) pinned[c.weight] = c.pinned_rows;
  for (const auto& w : catalog.matrices())
    if (!w->bundles && pinned[w.get()] < w->n_out) plan.weights.push_back({w->name, pinned[w.get()]});
  return plan;
}

// Experts that one row uses at a layer.
int64_t experts_of_a_row(const ExpertStack& stack, std::span<const WeightUse> uses) {
  return std::count_if(uses.begin(), uses.end(), [&](const WeightUse& use) { return use.weight == stack.gate; });
}

// All but the experts pinned, the rest of the budget slots for them. Nothing when that is not to be, or when there is
// not room for the experts of two rows: then a share of each expert's rows serves better.
std::optional<ResidencyPlan> plan_expert_cache(const WeightCatalog& catalog, std::span<const WeightUse> uses,
                                               std::vector<Candidate> list, uint64_t budget, const ResidencyWishes& wishes) {
  if (wishes.expert_policy.empty() || wishes.pinned_bytes != UINT64_MAX) return std::nullopt;
  const auto layout = ExpertLayout::of(catalog);
  if (!layout) return std::nullopt;
  for (Candidate& c : list) {
    const bool expert = std::any_of(catalog.experts().begin(), catalog.experts().end(), [&](const ExpertStack& stack) {
      return c.weight == stack.gate || c.weight == stack.up || c.weight == stack.down;
    });
    if (expert && c.use == Use::kResident) return std::nullopt;
    c.pinned_rows = expert ? 0 : c.weight->n_out;
  }
  const uint64_t pinned = pinned_bytes(catalog, list, wishes.repack);
  const uint64_t slack = budget < (8u << 20) ? 4096 : 2u << 20;  // of rounding to pages
  if (pinned + slack >= budget) return std::nullopt;
  int64_t slots = std::min(layout->slots_in(budget - pinned - slack), layout->units());
  if (wishes.expert_slots > 0) slots = std::min(slots, wishes.expert_slots);
  const bool as_wished = wishes.expert_slots > 0 && slots == wishes.expert_slots;
  if (slots < 2 * experts_of_a_row(catalog.experts()[0], uses) && !as_wished) return std::nullopt;
  ResidencyPlan plan;
  plan.expert_cache_bytes = layout->cache_bytes(slots);
  // Planes are read whole, and no more of them at once than keep the disk busy: requests in flight share the disk, so
  // with all of a layer's out at once the first would arrive with the last, and nothing could be computed meanwhile.
  constexpr uint64_t kInFlight = 4u << 20;
  const uint64_t part = layout->slot_bytes / kExpertParts;
  plan.request_bytes = std::clamp<uint64_t>(2 * part, 1u << 20, 4u << 20);
  plan.depth = static_cast<int>(std::clamp<uint64_t>(kInFlight / part, 3, 32));
  plan.expert_policy = wishes.expert_policy;
  // What is known before the attention need not be guessed before that.
  plan.expert_guesses = wishes.expert_guesses &&
                        !std::all_of(catalog.experts().begin(), catalog.experts().end(),
                                     [](const ExpertStack& stack) { return stack.chosen_early; });
  return finish(catalog, list, plan);
}

}  // namespace

int64_t row_alignment(const Weight& w) {
  return int64_t{kGroupRows} * (w.codec->layout ? interleaved_groups(*w.codec->layout) : 1);
}

uint64_t row_staging_bytes(const Weight& w) { return disk_cover(kDiskAlign - 1, w.row_bytes); }

int64_t segment_rows(const Weight& w, int64_t pinned_rows, uint64_t segment_bytes) {
  const int64_t unit = row_alignment(w), rows = w.n_out - pinned_rows;
  const int64_t most = std::max<int64_t>(unit, static_cast<int64_t>(segment_bytes / w.row_bytes) / unit * unit);
  return std::max(unit, round_up(ceil_div(rows, ceil_div(std::max<int64_t>(rows, 1), most)), unit));
}

bool can_stream(const ModelFile& file, const Weight& w) {
  for (int64_t plane = 0; plane < w.n_planes; ++plane)
    if (!file_run(file, w, plane, 0, w.n_out)) return false;
  return true;
}

uint64_t least_residency_bytes(const WeightCatalog& catalog, std::span<const WeightUse> uses, bool repack) {
  const std::vector<Candidate> list = candidates_of(catalog, uses);
  ResidencyPlan plan{.weights = {}, .segment_bytes = 1};
  smallest_windows(list, plan);
  return pinned_bytes(catalog, list, repack) + windows_of(plan);
}

Result<ResidencyPlan> plan_residency(const WeightCatalog& catalog, std::span<const WeightUse> uses,
                                     uint64_t budget, const ResidencyWishes& wishes) {
  std::vector<Candidate> list = candidates_of(catalog, uses);
  // Perhaps only tables stay outside, which need no window.
  if (wishes.pinned_bytes == UINT64_MAX && wishes.expert_slots == 0) {
    std::vector<Candidate> most = list;
    for (Candidate& c : most)
      if (c.use != Use::kRows) c.pinned_rows = c.weight->n_out;
    if (pinned_bytes(catalog, most, wishes.repack) <= budget) {
      for (Candidate& c : most) {
        if (c.use != Use::kRows) continue;
        c.pinned_rows = c.weight->n_out;
        if (pinned_bytes(catalog, most, wishes.repack) > budget) c.pinned_rows = 0;
      }
      return finish(catalog, most, {});
    }
  }
  if (auto cached = plan_expert_cache(catalog, uses, list, budget, wishes)) return *cached;
  ResidencyPlan plan;
  choose_windows(list, budget, wishes, plan);
  const uint64_t least = pinned_bytes(catalog, list, wishes.repack);
  if (wishes.window_bytes > 0 && least + windows_of(plan) > budget) return window_refusal(list, budget, least, wishes);
  if (least + windows_of(plan) > budget) {
    plan.segment_bytes = 1;
    smallest_windows(list, plan);
  }
  if (least + windows_of(plan) > budget)
    return error(Code::kOutOfBudget, "weights and the windows to stream them take {} at least, {} are left for them",
                 format_bytes(least + windows_of(plan)), format_bytes(budget));
  // Rounding to whole pages, which are huge once there is much to hold, is paid once.
  const uint64_t slack = budget < (8u << 20) ? 4096 : 2u << 20;
  uint64_t room = budget - least - windows_of(plan);
  room = std::min(room - std::min(room, slack), wishes.pinned_bytes - std::min(wishes.pinned_bytes, least));
  Candidate* head = nullptr;
  for (Candidate& c : list)
    if (c.use == Use::kProduct) head = &c;
  if (head) {
    const uint64_t bytes = bytes_of(*head->weight, head->weight->n_out, wishes.repack);
    if (bytes <= room / 2) {
      head->pinned_rows = head->weight->n_out;
      room -= bytes;
    }
  }
  pin_share(list, room, plan, wishes.repack);
  if (wishes.window_bytes > 0) {
    plan.window_bytes = std::min(plan.window_bytes, streamed_cover(list, Use::kProduct, plan));
    plan.routed_bytes = std::min(plan.routed_bytes, streamed_cover(list, Use::kRouted, plan));
  }
  return finish(catalog, list, plan);
}

ResidencyForecast forecast_residency(const WeightCatalog& catalog, std::span<const WeightUse> uses,
                                     const ResidencyPlan& plan, bool repack) {
  std::vector<Candidate> list = candidates_of(catalog, uses);
  ResidencyForecast f;
  for (Candidate& c : list) {
    c.pinned_rows = c.weight->n_out;
    for (const WeightPlan& w : plan.weights)
      if (w.name == c.weight->name) c.pinned_rows = w.pinned_rows;
    const uint64_t outside = static_cast<uint64_t>(c.weight->n_out - c.pinned_rows) * c.weight->row_bytes;
    if (c.use == Use::kRouted) f.routed_bytes += outside * static_cast<uint64_t>(c.weight->n_planes);
  }
  for (const WeightUse& use : uses)
    for (const Candidate& c : list)
      if (c.weight == use.weight && use.use == Use::kProduct)
        f.cycle_bytes += static_cast<uint64_t>(c.weight->n_out - c.pinned_rows) * c.weight->row_bytes;
  f.pinned_bytes = pinned_bytes(catalog, list, repack);
  f.window_bytes = windows_of(plan) + Buffer::held_bytes(plan.expert_cache_bytes);
  return f;
}

}  // namespace venturi
