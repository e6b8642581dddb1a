#include "cache/prefix_cache.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <mutex>

#include "base/clock.h"

namespace venturi {

namespace {

// Blocks that clean() has under way at most: who needs one of their pages waits for all of them. So
// many pages are left to those who need one at once, too.
constexpr int kMostWriting = 4;
// Of all pages, the part that it would have ready: 1/kReadyShare.
constexpr int64_t kReadyShare = 8;

int64_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto end = a.begin() + static_cast<int64_t>(std::min(a.size(), b.size()));
  return std::mismatch(a.begin(), end, b.begin()).first - a.begin();
}

std::span<const int32_t> block_of(std::span<const int32_t> tokens, int64_t block) {
  const auto begin = static_cast<size_t>(block * kPageTokens);
  return tokens.subspan(begin, std::min<size_t>(kPageTokens, tokens.size() - begin));
}

}  // namespace

Result<std::unique_ptr<PrefixCache>> PrefixCache::create(std::shared_ptr<StatePool> pool,
                                                         const PrefixCacheOptions& options) {
  assert(pool->shares_prefixes());
  std::unique_ptr<PrefixCache> cache(new PrefixCache(std::move(pool)));
  StatePool& p = *cache->pool_;
  for (size_t slot = 0; slot < p.slots().size(); ++slot)
    cache->block_bytes_ += p.page(slot, 0).size();
  if (options.place) {
    cache->file_.emplace(TRY(ScratchFile::create(*options.place)));
    const uint64_t room = cache->file_->room() / 4 * 3 / cache->block_bytes_;
    const int64_t wanted = options.file_blocks > 0 ? options.file_blocks : 4 * p.shared_pages();
    cache->file_limit_ =
        static_cast<int64_t>(std::min<uint64_t>(room, static_cast<uint64_t>(wanted)));
    cache->disk_ = TRY(DiskReader::create(options.disk));
    TRY(cache->disk_->add(cache->file_->file()));
    cache->writer_ = std::make_unique<BlockWriter>(*cache->file_);
  }
  p.set_reclaim([c = cache.get()] { return c->reclaim(); });
  return cache;
}

PrefixCache::~PrefixCache() {
  wait();
  pool_->set_reclaim({});
  for (auto& [id, entry] : entries_)
    if (entry.page >= 0) pool_->forget(entry.page);
}

PrefixCacheCounters PrefixCache::counters() const {
  PrefixCacheCounters c = counters_;
  c.file_blocks = static_cast<uint64_t>(file_end_) - free_file_.size();
  return c;
}

// ---- the tree -----------------------------------------------------------------------------------

PrefixCache::Entry* PrefixCache::find(uint64_t id) {
  const auto at = entries_.find(id);
  return at == entries_.end() ? nullptr : &at->second;
}

// The one of exactly these tokens.
PrefixCache::Entry* PrefixCache::child(uint64_t parent, std::span<const int32_t> tokens) {
  const auto at = children_.find(parent);
  if (at == children_.end()) return nullptr;
  for (const uint64_t id : at->second) {
    Entry& entry = entries_.at(id);
    if (std::equal(entry.tokens.begin(), entry.tokens.end(), tokens.begin(), tokens.end()))
      return &entry;
  }
  return nullptr;
}

PrefixCache::Entry& PrefixCache::add(uint64_t parent, std::span<const int32_t> tokens,
                                     int32_t page) {
  const uint64_t id = next_id_++;
  Entry& entry = entries_[id];
  entry.id = id;
  entry.parent = parent;
  entry.tokens.assign(tokens.begin(), tokens.end());
  entry.age = ages_.insert(ages_.end(), id);
  keep(entry, page);
  children_[parent].push_back(id);
  return entry;
}

void PrefixCache::keep(Entry& entry, int32_t page) {
  pool_->keep(entry.page = page);
  ++counters_.blocks;
}

void PrefixCache::forget_page(Entry& entry) {
  pool_->forget(std::exchange(entry.page, -1));
  --counters_.blocks;
}

// Blocks beside it that hold less of the same.
void PrefixCache::drop_beginnings(const Entry& whole) {
  const std::vector<uint64_t> beside = children_[whole.parent];
  for (const uint64_t id : beside) {
    Entry& entry = entries_.at(id);
    if (entry.tokens.size() >= whole.tokens.size() || entry.pins > 0) continue;
    if (common_prefix(entry.tokens, whole.tokens) == static_cast<int64_t>(entry.tokens.size()))
      erase(entry);
  }
}

void PrefixCache::erase(Entry& entry) {
  if (entry.page >= 0) forget_page(entry);
  if (entry.file >= 0) free_file_.push_back(entry.file);
  std::vector<uint64_t>& siblings = children_[entry.parent];
  std::erase(siblings, entry.id);
  if (siblings.empty()) children_.erase(entry.parent);
  ages_.erase(entry.age);
  entries_.erase(entry.id);
}

// From the leaf up, so that leaves go before what they grow from.
void PrefixCache::touch(uint64_t leaf) {
  for (Entry* entry = find(leaf); entry; entry = find(entry->parent))
    ages_.splice(ages_.end(), ages_, entry->age);
}

void PrefixCache::pin(const std::vector<uint64_t>& entries, int by) {
  for (const uint64_t id : entries)
    if (Entry* entry = find(id)) entry->pins += by;
}

void PrefixCache::publish(const SequenceState& sequence, std::span<const int32_t> tokens,
                          Cursor& cursor, bool ending) {
  tokens = tokens.first(static_cast<size_t>(sequence.length()));
  if (cursor.entry != 0 && !find(cursor.entry)) cursor = {.kind = cursor.kind};
  uint64_t parent = cursor.entry != 0 ? cursor.entry : root(cursor.kind);
  const int64_t end = sequence.length() / kPageTokens;
  for (; cursor.blocks < end; ++cursor.blocks) {
    const auto part = block_of(tokens, cursor.blocks);
    const int32_t page = sequence.shared_page(cursor.blocks);
    Entry* entry = child(parent, part);
    if (!entry) {
      entry = &add(parent, part, page);
      drop_beginnings(*entry);
    } else if (entry->page < 0) {
      keep(*entry, page);
    }
    cursor.entry = parent = entry->id;
  }
  if (!ending) return;
  uint64_t leaf = cursor.entry;
  if (sequence.length() % kPageTokens > 0) {
    const auto part = block_of(tokens, end);
    Entry* known = nullptr;
    for (const uint64_t id : children_[parent]) {
      Entry& entry = entries_.at(id);
      if (entry.page < 0 && (entry.file < 0 || entry.unreadable)) continue;
      if (common_prefix(entry.tokens, part) == static_cast<int64_t>(part.size())) known = &entry;
    }
    if (!known) {
      known = &add(parent, part, sequence.shared_page(end));
      drop_beginnings(*known);
    }
    leaf = known->id;
  }
  touch(leaf);
}

PrefixCache::Path PrefixCache::path(std::span<const int32_t> tokens, int64_t most, uint64_t kind) {
  Path path;
  tokens = tokens.first(static_cast<size_t>(most));
  uint64_t parent = root(kind);
  for (int64_t block = 0; block * kPageTokens < most; ++block) {
    const auto part = block_of(tokens, block);
    if (part.size() == kPageTokens)
      if (const Entry* entry = child(parent, part)) {
        if (entry->page < 0 && (entry->file < 0 || entry->unreadable)) break;
        path.entries.push_back(parent = entry->id);
        continue;
      }
    const Entry* best = nullptr;
    const auto at = children_.find(parent);
    for (const uint64_t id : at == children_.end() ? std::vector<uint64_t>() : at->second) {
      const Entry& entry = entries_.at(id);
      if (entry.page < 0 && (entry.file < 0 || entry.unreadable)) continue;
      const int64_t alike = common_prefix(entry.tokens, part);
      if (alike > path.tail) path.tail = alike, best = &entry;
    }
    if (best) path.entries.push_back(best->id);
    break;
  }
  return path;
}

// ---- to and from sequences ----------------------------------------------------------------------

// What is on its way into pages of its own.
class PrefixCache::Arriving {
 public:
  Path path;
  uint64_t kind = 0;
  size_t shared = 0;           // entries whose page the sequence shares; of the others, a copy
  std::vector<int32_t> pages;  // [entry], each held for the sequence
  uint64_t read_bytes = 0;

  bool here() const { return left_.load(std::memory_order_acquire) == 0; }
  void wait() {
    for (int left; (left = left_.load(std::memory_order_acquire)) > 0;)
      left_.wait(left, std::memory_order_acquire);
  }
  // Of here().
  const Status& status() const { return status_; }
  double seconds() const { return read_bytes > 0 ? ended_ - begun_ : 0; }
  void set_out() {
    begun_ = now_seconds();
  }  // again, for the rest of it: seconds are the disk's alone

  void expect(int reads) { left_ = reads; }
  void read(Status status) {
    const std::lock_guard lock(mutex_);
    if (!status && status_) status_ = std::move(status);
    if (left_.load(std::memory_order_relaxed) == 1) ended_ = now_seconds();
    left_.fetch_sub(1, std::memory_order_release);
    left_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::atomic<int> left_ = 0;
  Status status_;
  double begun_ = now_seconds(), ended_ = 0;
};

int64_t PrefixCache::tokens(const Arriving& arriving) { return arriving.path.tokens(); }
bool PrefixCache::here(const Arriving& arriving) { return arriving.here(); }

// Code::kOutOfBudget, and nothing changed, when there are too few pages.
Result<std::shared_ptr<PrefixCache::Arriving>> PrefixCache::begin(Path path, uint64_t kind) {
  const size_t n = path.entries.size(), shared = path.tail > 0 ? n - 1 : n;
  int64_t needed = 0;
  for (size_t i = 0; i < n; ++i) {
    const Entry& entry = entries_.at(path.entries[i]);
    // What is taken and what the cache alone has now both lessen what there is to have.
    needed += i >= shared || entry.page < 0;
    needed += entry.page >= 0 && pool_->held_by_cache_alone(entry.page);
  }
  if (needed > pool_->pages_to_have())
    return error(Code::kOutOfBudget, "no free page of sequence state is left");
  auto arriving = std::make_shared<Arriving>();
  arriving->path = std::move(path);
  arriving->kind = kind;
  arriving->shared = shared;
  const std::vector<uint64_t>& entries = arriving->path.entries;
  std::vector<int32_t>& pages = arriving->pages;
  pages.assign(n, -1);
  pin(entries, 1);
  for (size_t i = 0; i < n; ++i)
    if (const Entry& entry = entries_.at(entries[i]); entry.page >= 0)
      pool_->hold(pages[i] = entry.page);
  std::vector<DiskRead> reads, late;
  std::vector<uint64_t> after;  // [late]
  int64_t at_once = file_ ? ready_pages() - kMostWriting : 0;
  for (size_t i = 0; i < n; ++i) {
    const Entry& entry = entries_.at(entries[i]);
    const bool copies = pages[i] >= 0;
    if (i < shared && copies) continue;
    const auto room = find_room(copies || at_once-- > 0);
    if (!room) {
      if (!late.empty()) wait_for_writer();
      give_back(*arriving);
      return error(Code::kOutOfBudget, "no free page of sequence state is left");
    }
    if (copies) {
      pool_->copy_page(pages[i], room->page);
      pool_->let_go(pages[i]);
    } else {
      uint64_t offset = static_cast<uint64_t>(entry.file) * block_bytes_;
      for (size_t slot = 0; slot < pool_->slots().size(); ++slot) {
        const auto to = pool_->page(slot, room->page);
        (room->after ? late : reads)
            .push_back({.file = 0,
                        .offset = offset,
                        .bytes = to.size(),
                        .buffer = to.data(),
                        .done = [arriving](Status one) { arriving->read(std::move(one)); }});
        if (room->after) after.push_back(room->after);
        offset += to.size();
      }
      arriving->read_bytes += block_bytes_;
    }
    pages[i] = room->page;
  }
  arriving->expect(static_cast<int>(reads.size() + late.size()));
  for (size_t i = 0; i < late.size(); ++i) {
    const Entry* first = find(after[i]);  // may have been written since
    if (first && first->writing) {
      Late& behind = behind_[after[i]];
      behind.arriving = arriving;
      behind.reads.push_back(std::move(late[i]));
    } else {
      reads.push_back(std::move(late[i]));
    }
  }
  if (!reads.empty()) disk_->submit(std::move(reads));
  return arriving;
}

// To be had without a wait.
int64_t PrefixCache::ready_pages() const {
  int64_t ready = pool_->free_pages();
  for (const auto& [id, entry] : entries_)
    ready += entry.page >= 0 && entry.file >= 0 && pool_->held_by_cache_alone(entry.page);
  return ready;
}

// A page; if not `at_once`, rather of a block that has to be written first than one of those that
// others may soon need.
std::optional<PrefixCache::Room> PrefixCache::find_room(bool at_once) {
  if (!at_once && !writes_fail_)
    for (const uint64_t id : ages_) {
      Entry& entry = entries_.at(id);
      if (entry.page < 0 || entry.file >= 0 || !pool_->held_by_cache_alone(entry.page)) continue;
      if (!entry.writing) start_writing(entry);
      if (!entry.writing) break;  // the file is full
      const int32_t page = entry.page;
      pool_->hold(page);
      forget_page(entry);
      return Room{page, id};
    }
  const auto page = pool_->take_page();
  return page ? std::optional(Room{*page}) : std::nullopt;
}

void PrefixCache::give_back(Arriving& arriving) {
  pin(arriving.path.entries, -1);
  for (const int32_t page : arriving.pages)
    if (page >= 0) pool_->let_go(page);
  arriving.pages.clear();
}

Status PrefixCache::finish(const std::shared_ptr<Arriving>& arriving, SequenceState& sequence,
                           Cursor& cursor) {
  Arriving& a = *arriving;
  if (!a.here()) wait_for_writer();
  a.wait();
  counters_.file_seconds += a.seconds();
  counters_.read_bytes += a.read_bytes;
  if (!a.status()) {
    const Path path = a.path;
    give_back(a);
    // What lies in the file from the first such block on is of no use.
    for (const uint64_t id : path.entries)
      if (Entry* lost = find(id); lost && lost->page < 0) {
        lost->unreadable = true;  // also for those who wait for it now
        if (lost->pins == 0) erase(*lost);
        break;
      }
    return a.status();
  }
  pin(a.path.entries, -1);
  for (size_t i = 0; i < a.shared; ++i)
    if (Entry& entry = entries_.at(a.path.entries[i]); entry.page < 0) keep(entry, a.pages[i]);
  touch(a.path.entries.back());
  sequence.adopt(std::move(a.pages), a.path.tokens());
  if (a.path.tail > 0) a.path.entries.pop_back();
  cursor = {.entry = a.path.entries.empty() ? 0 : a.path.entries.back(),
            .blocks = static_cast<int64_t>(a.path.entries.size()),
            .kind = a.kind};
  return {};
}

void PrefixCache::abandon(std::shared_ptr<Arriving> arriving) {
  abandoned_.push_back(std::move(arriving));
  sweep();
}

// Pages of what was abandoned and is here.
void PrefixCache::sweep() {
  std::erase_if(abandoned_, [&](const auto& arriving) {
    if (!arriving->here()) return false;
    give_back(*arriving);
    return true;
  });
}

std::shared_ptr<PrefixCache::Arriving> PrefixCache::begin_attach(std::span<const int32_t> tokens,
                                                                 int64_t most,
                                                                 const Cursor& cursor) {
  sweep();
  // Of what there are too few pages for, a part.
  for (Path found = path(tokens, most, cursor.kind); !found.entries.empty();
       found.entries.pop_back(), found.tail = 0)
    if (auto arriving = begin(found, cursor.kind)) return *arriving;
  return nullptr;
}

std::shared_ptr<PrefixCache::Arriving> PrefixCache::begin_move_in(const Moved& moved,
                                                                  const Cursor& cursor) {
  sweep();
  auto arriving = begin({moved.entries, moved.tokens % kPageTokens}, cursor.kind);
  return arriving ? *arriving : nullptr;
}

int64_t PrefixCache::attach(SequenceState& sequence, std::span<const int32_t> tokens, int64_t most,
                            Cursor& cursor) {
  // Each failure forgets a block that somebody would have to read.
  while (const auto arriving = begin_attach(tokens, most, cursor)) {
    if (finish(arriving, sequence, cursor)) return sequence.length();
    most = std::min(most, kept_in_memory(tokens, most, cursor.kind));
  }
  return 0;
}

// Of the first `most` tokens, those that are known and need no disk.
int64_t PrefixCache::kept_in_memory(std::span<const int32_t> tokens, int64_t most, uint64_t kind) {
  int64_t blocks = 0;
  for (const uint64_t id : path(tokens, most, kind).entries) {
    if (entries_.at(id).page < 0) break;
    ++blocks;
  }
  return std::min(most, blocks * kPageTokens);
}

std::optional<PrefixCache::Moved> PrefixCache::move_out(const SequenceState& sequence,
                                                        std::span<const int32_t> tokens,
                                                        Cursor& cursor) {
  if (!file_) return std::nullopt;
  publish(sequence, tokens, cursor, true);
  const Path all = path(tokens, sequence.length(), cursor.kind);
  if (all.tokens() != sequence.length()) return std::nullopt;
  Moved moved{all.entries, sequence.length()};
  if (std::any_of(moved.entries.begin(), moved.entries.end(),
                  [&](uint64_t id) { return entries_.at(id).writing; }))
    wait_for_writer();
  pin(moved.entries, 1);
  for (const uint64_t id : moved.entries)
    if (Entry& entry = entries_.at(id); entry.file < 0 && !write(entry)) {
      pin(moved.entries, -1);
      return std::nullopt;
    }
  return moved;
}

Result<bool> PrefixCache::move_in(SequenceState& sequence, const Moved& moved, Cursor& cursor) {
  const auto arriving = begin_move_in(moved, cursor);
  if (!arriving) return false;
  TRY(finish(arriving, sequence, cursor));
  return true;
}

void PrefixCache::let_go(const Moved& moved) { pin(moved.entries, -1); }

// ---- memory and file ----------------------------------------------------------------------------

bool PrefixCache::reclaim() {
  // What the file has, too, goes at once; who needs a page should not wait for the disk.
  bool comes = false;
  for (const uint64_t id : ages_) {
    if (!file_) break;
    Entry& entry = entries_.at(id);
    if (entry.page < 0 || !pool_->held_by_cache_alone(entry.page)) continue;
    if (entry.file >= 0) {
      forget_page(entry);
      return true;
    }
    comes |= entry.writing;
  }
  if (comes) {
    wait_for_writer();
    return reclaim();
  }
  for (const uint64_t id : ages_) {
    Entry& entry = entries_.at(id);
    if (entry.page < 0 || !pool_->held_by_cache_alone(entry.page)) continue;
    if (file_ && write(entry)) {
      forget_page(entry);
    } else if (entry.pins == 0) {
      erase(entry);
    } else {
      continue;
    }
    return true;
  }
  return false;
}

PrefixCache::Entry* PrefixCache::oldest_in_file() {
  for (const uint64_t id : ages_)
    if (Entry& entry = entries_.at(id); entry.file >= 0 && entry.pins == 0) return &entry;
  return nullptr;
}

// Free, new, or of the entry that was used longest ago and nobody waits for; -1: there is none.
int64_t PrefixCache::file_block() {
  if (free_file_.empty() && file_end_ < file_limit_) return file_end_++;
  if (free_file_.empty())
    if (Entry* oldest = oldest_in_file()) {
      if (oldest->page < 0) {
        erase(*oldest);
      } else {
        free_file_.push_back(std::exchange(oldest->file, -1));
      }
    }
  if (free_file_.empty()) return -1;
  const int64_t block = free_file_.back();
  free_file_.pop_back();
  return block;
}

BlockWriter::Pieces PrefixCache::pieces(const Entry& entry) const {
  BlockWriter::Pieces pieces;
  for (size_t slot = 0; slot < pool_->slots().size(); ++slot)
    pieces.push_back(pool_->page(slot, entry.page));
  return pieces;
}

Status PrefixCache::write(Entry& entry) {
  ++entry.pins;  // not for itself
  const int64_t block = file_block();
  --entry.pins;
  if (block < 0) return error(Code::kIo, "the file of the prefix cache is full");
  const double begin = now_seconds();
  if (Status status =
          writer_->write_now(static_cast<uint64_t>(block) * block_bytes_, pieces(entry));
      !status) {
    free_file_.push_back(block);
    writes_fail_ = true;
    return status;
  }
  writes_fail_ = false;
  counters_.file_seconds += now_seconds() - begin;
  counters_.written_bytes += block_bytes_;
  entry.file = block;
  return {};
}

void PrefixCache::start_writing(Entry& entry) {
  ++entry.pins;
  const int64_t block = file_block();
  if (block < 0) {
    --entry.pins;
    return;
  }
  entry.writing = true;
  ++writing_;
  writer_->write(entry.id, block, static_cast<uint64_t>(block) * block_bytes_, pieces(entry));
}

void PrefixCache::take_note() {
  if (writing_ == 0) return;
  for (const BlockWriter::Written& w : writer_->take_written()) {
    Entry& entry = entries_.at(w.id);
    entry.writing = false;
    --entry.pins;
    --writing_;
    counters_.file_seconds += w.seconds;
    if (w.status) {
      counters_.written_bytes += block_bytes_;
      entry.file = w.block;
    } else {
      free_file_.push_back(w.block);
      writes_fail_ = true;
      assert(entry.page >= 0 || entry.pins == 0);
      if (entry.page < 0) erase(entry);
    }
    if (auto late = behind_.extract(w.id)) {
      late.mapped().arriving->set_out();
      disk_->submit(std::move(late.mapped().reads));
    }
  }
}

void PrefixCache::clean() {
  sweep();
  if (!file_) return;
  take_note();
  if (writes_fail_ || writing_ >= kMostWriting) return;
  // Could be had at once: free, or there in the file, too.
  int64_t ready = pool_->free_pages();
  const int64_t enough = std::max<int64_t>(kMostWriting, pool_->shared_pages() / kReadyShare);
  std::vector<Entry*> idle, held;
  for (const uint64_t id : ages_) {
    if (ready >= enough) return;
    Entry& entry = entries_.at(id);
    if (entry.page < 0 || entry.writing) continue;
    const bool alone = pool_->held_by_cache_alone(entry.page);
    if (entry.file >= 0) {
      ready += alone;
    } else if (alone) {
      idle.push_back(&entry);
    } else if (entry.tokens.size() == kPageTokens) {
      held.push_back(&entry);
    }
  }
  const auto has_room = [&] { return !free_file_.empty() || file_end_ < file_limit_; };
  // What is in the file alone and older gives way; of what is in memory, one would be written for
  // the other for ever.
  const auto has_older = [&] {
    const Entry* oldest = oldest_in_file();
    return oldest && oldest->page < 0;
  };
  for (Entry* entry : idle)
    if (writing_ < kMostWriting && (has_room() || has_older())) start_writing(*entry);
  // What runs may have to give way: most of it is there then. Nothing leaves the file for that.
  for (Entry* entry : held)
    if (writing_ < kMostWriting && has_room()) start_writing(*entry);
}

void PrefixCache::wait_for_writer() {
  if (writer_) writer_->wait();
  take_note();
}

void PrefixCache::wait() {
  wait_for_writer();
  for (const auto& arriving : abandoned_) arriving->wait();
  sweep();
}

}  // namespace venturi
