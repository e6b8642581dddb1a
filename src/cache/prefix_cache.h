// The prefix cache: pages of sequences that were computed before, for those that begin alike.
//
// A tree of blocks for each kind of computing (the model alone, or an adapter's). A block is found by the block before it and by its tokens, which are compared,
// so that two prefixes are never taken for each other. Full blocks are shared where they lie; of a
// block that is not full, or that a sequence leaves in its middle, a copy is taken. What no
// sequence holds is given back when the pool is short, the least recently used first, leaves before
// what they grow from. With a file, such a block is written there first and read back when it is
// wanted; a request that gives way leaves its state so (move_out), and nothing that it needs is
// dropped until it is back.
//
// The disk works beside steps. What is read comes in while others compute: begin_…() takes pages for it and asks for it,
// finish() hands it over. clean() has blocks written ahead of the time when their pages are wanted, by a thread of the
// cache's; a page for what is to be read may have to wait for that, which holds up nobody else. Pages on their way are
// held by the cache.
//
// For models whose state is shared pages and nothing else (StatePool::shares_prefixes). Threads:
// one at a time, that of the pool. Failure: a file that cannot be written makes the cache forget;
// one that cannot be read is Code::kIo.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/disk.h"
#include "base/scratch_file.h"
#include "cache/block_writer.h"
#include "cache/state.h"

namespace venturi {

struct PrefixCacheOptions {
  std::optional<std::string> place = {};  // of the file (ScratchFile); none: in memory only
  int64_t file_blocks = 0;  // at most; 0: four times those of memory, if the disk has room
  DiskOptions disk = {};
};

struct PrefixCacheCounters {
  uint64_t read_bytes = 0, written_bytes = 0;
  double file_seconds = 0;               // of reading and writing
  uint64_t blocks = 0, file_blocks = 0;  // there at the moment: in memory; in the file
};

class PrefixCache {
 public:
  // The pool must share prefixes and outlive the cache.
  static Result<std::unique_ptr<PrefixCache>> create(std::shared_ptr<StatePool> pool,
                                                     const PrefixCacheOptions& options = {});
  ~PrefixCache();

  // How far the blocks of a sequence are in the tree.
  struct Cursor {
    uint64_t entry = 0;  // 0: none
    int64_t blocks = 0;
    uint64_t kind = 0;  // what computes the sequence; set before attach() or publish()
  };
  // What a sequence has computed of `tokens`: its full blocks, and, if it is `ending`, the last
  // one.
  void publish(const SequenceState& sequence, std::span<const int32_t> tokens, Cursor& cursor,
               bool ending);
  // An empty sequence takes what is known of the first `most` tokens; how many it has now. Fewer
  // than are known where there are too few pages or the file cannot be read.
  int64_t attach(SequenceState& sequence, std::span<const int32_t> tokens, int64_t most,
                 Cursor& cursor);

  // The blocks of a sequence, all written to the file and kept there; none where that has no room
  // or fails. The sequence may end then. Waits for what clean() has not written before.
  struct Moved {
    std::vector<uint64_t> entries;
    int64_t tokens = 0;
  };
  std::optional<Moved> move_out(const SequenceState& sequence, std::span<const int32_t> tokens,
                                Cursor& cursor);
  // Into an empty sequence. False: there are too few pages, and nothing changed. Code::kIo: it is
  // lost.
  Result<bool> move_in(SequenceState& sequence, const Moved& moved, Cursor& cursor);
  void let_go(const Moved& moved);  // after move_in(), or instead

  // attach() and move_in() in two parts, between which others may compute. Null: nothing is known of it, or there are too
  // few pages.
  class Arriving;
  std::shared_ptr<Arriving> begin_attach(std::span<const int32_t> tokens, int64_t most, const Cursor& cursor);
  std::shared_ptr<Arriving> begin_move_in(const Moved& moved, const Cursor& cursor);
  static int64_t tokens(const Arriving& arriving);  // that it will have
  static bool here(const Arriving& arriving);
  // Waits where it is not here. Code::kIo: the sequence stays empty, and what could not be read is forgotten.
  Status finish(const std::shared_ptr<Arriving>& arriving, SequenceState& sequence, Cursor& cursor);
  // Instead of finish(): its pages come back when the disk is done with them.
  void abandon(std::shared_ptr<Arriving> arriving);

  // After a step: takes note of what has been written, and has more written where few pages could be had at once. A page
  // that is being written can be had, too: whoever needs it waits for that.
  void clean();
  bool busy() const { return writing_ > 0 || !abandoned_.empty(); }  // with the disk, for nobody who waits
  void wait();  // for that, and takes note

  bool has_file() const { return file_.has_value(); }
  PrefixCacheCounters counters() const;

 private:
  struct Entry {
    uint64_t id = 0, parent = 0;
    std::vector<int32_t> tokens;
    int32_t page = -1;  // -1: in the file only, or on its way there from a page that has another use
    int64_t file = -1;  // block of the file
    int pins = 0;       // by those who moved out, or are being attached or written
    bool writing = false;     // beside: its page keeps its content until that is over
    bool unreadable = false;  // in the file
    std::list<uint64_t>::iterator age = {};
  };
  // Entries of blocks [0, n), the last in its first `tail` tokens only (0: whole).
  struct Path {
    std::vector<uint64_t> entries;
    int64_t tail = 0;
    int64_t tokens() const {
      const auto n = static_cast<int64_t>(entries.size());
      return tail > 0 ? (n - 1) * kPageTokens + tail : n * kPageTokens;
    }
  };

  struct Room {
    int32_t page = -1;
    uint64_t after = 0;  // the entry that has to be written first; 0: none
  };

  struct Late {  // reads into a page whose block is written first
    std::shared_ptr<Arriving> arriving;
    std::vector<DiskRead> reads;
  };

  explicit PrefixCache(std::shared_ptr<StatePool> pool) : pool_(std::move(pool)) {}
  Entry* find(uint64_t id);
  Entry* child(uint64_t parent, std::span<const int32_t> tokens);
  Entry& add(uint64_t parent, std::span<const int32_t> tokens, int32_t page);
  void drop_beginnings(const Entry& whole);
  void erase(Entry& entry);
  void touch(uint64_t leaf);
  void pin(const std::vector<uint64_t>& entries, int by);
  // The parent of first blocks: no entry's id.
  static uint64_t root(uint64_t kind) { return kind == 0 ? 0 : ~kind; }
  Path path(std::span<const int32_t> tokens, int64_t most, uint64_t kind);
  Result<std::shared_ptr<Arriving>> begin(Path path, uint64_t kind);
  int64_t ready_pages() const;
  std::optional<Room> find_room(bool at_once);
  void give_back(Arriving& arriving);
  int64_t kept_in_memory(std::span<const int32_t> tokens, int64_t most, uint64_t kind);
  bool reclaim();
  Status write(Entry& entry);
  Entry* oldest_in_file();
  int64_t file_block();
  BlockWriter::Pieces pieces(const Entry& entry) const;
  void start_writing(Entry& entry);
  void take_note();
  void wait_for_writer();
  void sweep();
  void keep(Entry& entry, int32_t page);
  void forget_page(Entry& entry);

  std::shared_ptr<StatePool> pool_;
  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, Entry> entries_;
  std::unordered_map<uint64_t, std::vector<uint64_t>> children_;  // [parent], or root(kind)
  std::list<uint64_t> ages_;                                      // least recently used first

  std::optional<ScratchFile> file_;
  std::unique_ptr<DiskReader> disk_;
  int64_t file_limit_ = 0, file_end_ = 0;  // blocks
  std::vector<int64_t> free_file_;
  uint64_t block_bytes_ = 0;
  PrefixCacheCounters counters_;
  std::vector<std::shared_ptr<Arriving>> abandoned_;
  std::unordered_map<uint64_t, Late> behind_;  // [entry]
  int writing_ = 0;                      // blocks, beside
  bool writes_fail_ = false;             // the last did: none ahead of its time until one that must be succeeds
  std::unique_ptr<BlockWriter> writer_;  // last: its thread ends before the file goes
};

}  // namespace venturi
