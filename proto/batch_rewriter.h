// A serialized pb::ChangeBatch without some of its parts. It is copied from the first one on that
// is left out, and not before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "proto/differences.h"
#include "proto/part_walker.h"
#include "proto/replication.pb.h"

namespace bitacora::proto {

// A part that goes where something follows it, as Begin does. Outlives the batch that it came in.
using HeldPart = std::optional<pb::Part>;

// For the parts of one batch, in their order. Not thread-safe.
class BatchRewriter {
 public:
  // Both must outlive it. What is held already stood in an earlier batch.
  BatchRewriter(std::string_view bytes, HeldPart& held)
      : bytes_(bytes), held_(held), held_at_(kNowhere) {}

  // False: the part does not parse.
  bool keep(const RawPart& part);
  bool leave_out(const RawPart& part);
  // The part is kept if something behind it is; before that there is another one of its kind, or
  // none.
  bool hold(const RawPart& part);
  // Other must be without numbers that are differences.
  void keep_as(const RawPart& part, const pb::Part& other);
  // In front of the part that is kept next.
  void insert_before(const RawPart& part, std::string_view whole);

  void keep_held() { write_held(bytes_.size()); }
  void leave_out_held();
  // It stays held: for what follows in the next batch.
  void take_held_along();

  // Behind everything.
  void add_idle_position(std::uint64_t lsn);

  bool changed() const { return changed_; }
  bool anything_left() const { return changed_ ? !out_.empty() : !bytes_.empty(); }
  // What the last Commit or IdlePosition said that was kept; 0: none was.
  std::uint64_t said_lsn() const { return said_lsn_; }
  std::string take() { return std::move(out_); }

 private:
  static constexpr std::size_t kNowhere = SIZE_MAX;

  void begin_change(std::size_t at);
  bool parse(const RawPart& part, pb::Part& into);
  void append(pb::Part& part);
  void write_held(std::size_t at);

  const std::string_view bytes_;
  HeldPart& held_;
  std::size_t held_at_;  // kNowhere: in an earlier batch
  Differences before_held_;
  Differences read_;     // behind the parts so far
  Differences written_;  // behind those in out_
  bool changed_ = false;
  std::string out_;
  std::uint64_t said_lsn_ = 0;
  pb::Part part_;  // reused, for its memory
};

}  // namespace bitacora::proto
