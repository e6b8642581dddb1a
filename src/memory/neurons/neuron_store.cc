#include "memory/neurons/neuron_store.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "base/checked.h"
#include "base/clock.h"

namespace venturi {

namespace {

// A layer's missing bundles are computed with in so many runs at least, for reads and compute to overlap.
constexpr uint64_t kRunsOfLayer = 4;
constexpr uint64_t kLeastRunBytes = 128u << 10;

uint64_t slot_bytes(const BundledLayer& layer) { return layer.layout.bytes; }

uint64_t largest_block(const Sidecar& sidecar) {
  uint64_t block = 0;
  for (const auto& layer : sidecar.layers()) block = std::max(block, layer->layout.bytes * static_cast<uint64_t>(kColumnBlock));
  return block;
}

// At least one bundle, at most a block of them.
uint64_t request_bytes(const Sidecar& sidecar, const NeuronPlan& plan) {
  const uint64_t block = largest_block(sidecar);
  return std::clamp(plan.request_bytes, block / static_cast<uint64_t>(kColumnBlock), block);
}

// The same share of each layer.
int64_t slots_of(const Sidecar& sidecar, const BundledLayer& layer, uint64_t window_bytes) {
  double all = 0;
  for (const auto& l : sidecar.layers()) all += static_cast<double>(l->layout.n_neurons * slot_bytes(*l));
  const double share = std::min(1.0, static_cast<double>(window_bytes) / all);
  return static_cast<int64_t>(share * static_cast<double>(layer.layout.n_neurons));
}

uint64_t all_scale_bytes(const Sidecar& sidecar) {
  uint64_t bytes = 0;
  for (const auto& layer : sidecar.layers()) bytes += disk_cover(0, layer->layout.scale_bytes);
  return bytes;
}

uint64_t table_bytes(const Sidecar& sidecar, const NeuronPlan& plan) {
  uint64_t bytes = 0, most = 0;
  for (const auto& layer : sidecar.layers()) {
    bytes += NeuronWindow::table_bytes(static_cast<int64_t>(layer->layout.n_neurons), slots_of(sidecar, *layer, plan.window_bytes));
    most = std::max(most, layer->layout.n_neurons);
  }
  // Neurons, their requests and bundles, and, in the op, their order.
  return bytes + most * (3 * sizeof(int32_t) + sizeof(uint8_t*) + 96);
}

}  // namespace

NeuronCounters NeuronCounters::operator-(const NeuronCounters& o) const {
  return {rows - o.rows, asked - o.asked, active - o.active, used - o.used, newcomers - o.newcomers,
          newcomer_bytes - o.newcomer_bytes, bundle_bytes - o.bundle_bytes, disk_bytes - o.disk_bytes,
          requests - o.requests, stalls - o.stalls, stall_seconds - o.stall_seconds};
}

uint64_t least_neuron_ring(const Sidecar& sidecar, const NeuronPlan& plan) {
  // A block of neurons and a request that reaches into it on either side, and as much again on its way.
  const uint64_t blocks = 2 * static_cast<uint64_t>(kColumnBlock) * kDiskAlign;  // that come along with each
  return 2 * (disk_cover(0, largest_block(sidecar) + 2 * request_bytes(sidecar, plan)) + blocks);
}

uint64_t neuron_memory(const Sidecar& sidecar, const NeuronPlan& plan) {
  return Buffer::held_bytes(all_scale_bytes(sidecar)) + Buffer::held_bytes(plan.window_bytes) +
         Buffer::held_bytes(plan.ring_bytes) + table_bytes(sidecar, plan);
}

Result<std::unique_ptr<NeuronStore>> NeuronStore::create(Ledger& ledger, Sidecar& sidecar, const NeuronPlan& plan,
                                                         const DiskOptions& disk) {
  NeuronPlan p = plan;
  p.request_bytes = request_bytes(sidecar, plan);
  std::unique_ptr<NeuronStore> self(new NeuronStore(p));
  self->sidecar_ = &sidecar;
  DiskOptions options = disk;
  options.request_bytes = 1u << 20;
  options.depth = plan.depth;
  // What is read is small: the smaller the blocks, the less comes along.
  options.align = self->align_ = disk.direct ? small_block_size(sidecar.file()) : kDiskAlign;
  self->scales_ = TRY(Buffer::allocate(ledger, all_scale_bytes(sidecar), "neuron scales"));
  self->slots_ = TRY(Buffer::allocate(ledger, plan.window_bytes, "neurons"));
  self->ring_ = TRY(Buffer::allocate(ledger, plan.ring_bytes, "neuron ring"));
  self->tables_ = TRY(ledger.acquire(table_bytes(sidecar, plan), "neurons"));
  self->disk_ = TRY(DiskReader::create(options));
  TRY(self->disk_->add(sidecar.file()));
  uint64_t scale_at = 0, slot_at = 0;
  for (const auto& layer : sidecar.layers()) {
    const SidecarEntry& entry = sidecar.header().entries[static_cast<size_t>(layer->index)];
    self->scale_at_.push_back(scale_at);
    self->slots_at_.push_back(slot_at);
    if (entry.scale_bytes > 0) TRY(self->disk_->read(0, entry.scale_offset, entry.scale_bytes, self->scales_.data() + scale_at));
    scale_at += disk_cover(0, layer->layout.scale_bytes);
    self->windows_.emplace_back(static_cast<int64_t>(layer->layout.n_neurons), slots_of(sidecar, *layer, plan.window_bytes));
    slot_at += static_cast<uint64_t>(self->windows_.back().n_slots()) * slot_bytes(*layer);
    layer->store = self.get();
  }
  assert(slot_at <= plan.window_bytes);
  const DiskCounters before = self->disk_->counters();  // the scales are not the neurons'
  self->counters_.disk_bytes -= before.bytes;
  self->counters_.requests -= before.requests;
  return self;
}

const uint16_t* NeuronStore::scales(const BundledLayer& layer, int64_t block) const {
  if (layer.layout.scale_bytes == 0) return nullptr;
  return reinterpret_cast<const uint16_t*>(scales_.data() + scale_at_[static_cast<size_t>(layer.index)]) +
         block * padded_outputs(layer.weights.down->n_out);
}

NeuronCounters NeuronStore::counters() const {
  NeuronCounters c = counters_;
  const DiskCounters disk = disk_->counters();
  c.disk_bytes += disk.bytes;
  c.requests += disk.requests;
  return c;
}

double NeuronStore::active_share() const {
  return counters_.asked == 0 ? 1.0 : static_cast<double>(counters_.active) / static_cast<double>(counters_.asked);
}

void NeuronStore::begin(const BundledLayer& layer, std::span<const int32_t> neurons, std::span<const int32_t> order,
                        int64_t rows, int64_t active) {
  abandon();
  layer_ = &layer;
  neurons_.assign(neurons.begin(), neurons.end());
  position_ = 0;
  windows_[static_cast<size_t>(layer.index)].use(order);
  plan_requests(sidecar_->header().entries[static_cast<size_t>(layer.index)]);
  counters_.rows += static_cast<uint64_t>(rows);
  counters_.asked += static_cast<uint64_t>(rows) * layer.layout.n_neurons;
  counters_.active += static_cast<uint64_t>(active);
  counters_.used += neurons.size();
  counters_.bundle_bytes += static_cast<uint64_t>(rows) * layer.layout.n_neurons * layer.layout.bytes;
  send();
}

// Neighbours that are missing, and those with no more than a gap between them, are one request.
void NeuronStore::plan_requests(const SidecarEntry& entry) {
  const NeuronWindow& window = windows_[static_cast<size_t>(layer_->index)];
  const uint64_t bytes = layer_->layout.bytes;
  requests_.clear();
  released_ = sent_ = 0;
  missing_bytes_ = 0;
  request_of_.assign(neurons_.size(), -1);
  for (size_t i = 0; i < neurons_.size(); ++i) {
    const int32_t neuron = neurons_[i];
    if (window.holds(neuron)) continue;
    ++counters_.newcomers;
    counters_.newcomer_bytes += bytes;
    const uint64_t offset = entry.bundle_offset + static_cast<uint64_t>(neuron) * bytes;
    Request* last = requests_.empty() ? nullptr : &requests_.back();
    if (last && offset - (last->offset + last->bytes) <= plan_.gap_bytes &&
        offset + bytes - last->offset <= plan_.request_bytes) {
      last->bytes = offset + bytes - last->offset;
      last->last = static_cast<int64_t>(i);
    } else {
      requests_.push_back({.first = static_cast<int64_t>(i), .last = static_cast<int64_t>(i), .offset = offset, .bytes = bytes});
    }
    request_of_[i] = static_cast<int32_t>(requests_.size() - 1);
  }
  for (const Request& r : requests_) missing_bytes_ += cover(r);
}

// As many requests as the ring has room for, in order.
void NeuronStore::send() {
  std::vector<DiskRead> reads;
  for (; sent_ < requests_.size(); ++sent_) {
    Request& r = requests_[sent_];
    if (!room(cover(r), r.memory)) break;
    r.sent = true;
    reads.push_back({.file = 0, .offset = r.offset, .bytes = r.bytes, .buffer = ring_.data() + r.memory,
                     .done = [this, &r](Status status) {
                       std::lock_guard lock(mutex_);
                       r.status = std::move(status);
                       r.done = true;
                       --in_flight_;
                       changed_.notify_all();
                     }});
  }
  if (reads.empty()) return;
  {
    std::lock_guard lock(mutex_);
    in_flight_ += static_cast<int64_t>(reads.size());
  }
  disk_->submit(std::move(reads));
}

// Space is taken and given back in order, around the end of the memory; sent_ is the next to take it.
bool NeuronStore::room(uint64_t bytes, uint64_t& begin) const {
  if (released_ == sent_) {
    begin = 0;
    return bytes <= ring_.size();
  }
  const Request& front = requests_[released_];
  const Request& back = requests_[sent_ - 1];
  const uint64_t head = front.memory, tail = back.memory + cover(back);
  if (back.memory < head) {  // around the end
    begin = tail;
    return head - tail >= bytes;
  }
  begin = ring_.size() - tail >= bytes ? tail : 0;
  return begin == tail || head >= bytes;
}

// Whole blocks: as the caller has room for, and of what is read no more than a share of the ring and of the
// layer; at least one.
int64_t NeuronStore::run_end(int64_t max_blocks, int64_t max_neurons) const {
  const int64_t n = static_cast<int64_t>(neurons_.size());
  const uint64_t share = std::min(ring_.size() / 2, std::max(missing_bytes_ / kRunsOfLayer, kLeastRunBytes));
  int64_t end = position_, blocks = 0;
  uint64_t bytes = 0;
  int32_t counted = -1;
  while (end < n) {
    const int64_t block = neurons_[static_cast<size_t>(end)] / kColumnBlock;
    int64_t after = end;
    uint64_t more = 0;
    int32_t last = counted;
    for (; after < n && neurons_[static_cast<size_t>(after)] / kColumnBlock == block; ++after) {
      const int32_t request = request_of_[static_cast<size_t>(after)];
      if (request <= last) continue;
      more += cover(requests_[static_cast<size_t>(request)]);
      last = request;
    }
    if (end > position_ && (blocks == max_blocks || after - position_ > max_neurons || bytes + more > share)) break;
    end = after;
    bytes += more;
    counted = last;
    ++blocks;
  }
  return end;
}

Result<NeuronStore::Run> NeuronStore::next(int64_t max_blocks, int64_t max_neurons) {
  release_until(position_);
  send();
  const int64_t begin = position_, end = run_end(max_blocks, max_neurons);
  int32_t last = -1;
  for (int64_t i = begin; i < end; ++i) last = std::max(last, request_of_[static_cast<size_t>(i)]);
  if (last >= 0) TRY(wait(static_cast<size_t>(last)));
  NeuronWindow& window = windows_[static_cast<size_t>(layer_->index)];
  uint8_t* slots = slots_.data() + slots_at_[static_cast<size_t>(layer_->index)];
  const uint64_t bytes = layer_->layout.bytes;
  bundles_.resize(static_cast<size_t>(end - begin));
  for (int64_t i = begin; i < end; ++i) {
    const int32_t neuron = neurons_[static_cast<size_t>(i)], slot = window.slot_of(neuron);
    uint8_t* held = slot == NeuronWindow::kNone ? nullptr : slots + static_cast<uint64_t>(slot) * slot_bytes(*layer_);
    const uint8_t*& at = bundles_[static_cast<size_t>(i - begin)];
    if (const int32_t request = request_of_[static_cast<size_t>(i)]; request >= 0) {
      const Request& r = requests_[static_cast<size_t>(request)];
      const auto step = static_cast<uint64_t>(neuron - neurons_[static_cast<size_t>(r.first)]);
      at = ring_.data() + r.memory + r.offset % align_ + step * bytes;
      if (!held) continue;
      std::memcpy(held, at, bytes);
      window.fill(neuron);
    }
    at = held;
  }
  position_ = end;
  return Run{.neurons = {neurons_.data() + begin, static_cast<size_t>(end - begin)}, .bundles = bundles_};
}

Status NeuronStore::wait(size_t last) {
  std::unique_lock lock(mutex_);
  double since = 0;
  for (size_t i = released_; i <= last; ++i) {
    Request& r = requests_[i];
    // run_end() keeps a run to what the ring holds.
    assert(r.sent);
    while (!r.done) {
      if (since == 0) {
        since = now_seconds();
        ++counters_.stalls;
      }
      changed_.wait(lock);
    }
    if (!r.status) {
      Status status = r.status;
      lock.unlock();
      abandon();
      return status;
    }
  }
  if (since > 0) counters_.stall_seconds += now_seconds() - since;
  return {};
}

// Requests whose neurons all lie before `item` are over.
void NeuronStore::release_until(int64_t item) {
  while (released_ < sent_ && requests_[released_].last < item) ++released_;
}

// What is on its way arrives, and nobody wants it: slots that were not filled are free again.
void NeuronStore::abandon() {
  if (!layer_) return;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return in_flight_ == 0; });
  }
  NeuronWindow& window = windows_[static_cast<size_t>(layer_->index)];
  for (const int32_t neuron : neurons_)
    if (window.slot_of(neuron) != NeuronWindow::kNone && !window.holds(neuron)) window.drop(neuron);
  neurons_.clear();
  request_of_.clear();
  requests_.clear();
  released_ = sent_ = 0;
  position_ = 0;
  layer_ = nullptr;
}

}  // namespace venturi
