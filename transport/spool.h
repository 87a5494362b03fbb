// What arrived and is not yet durably applied, on disk: frames as they were received, in segments
// (transport/FORMAT.md). Written first and acknowledged then, so that the master may forget its WAL
// while the standby is slow or down.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/lsn.h"
#include "proto/replication.pb.h"
#include "transport/frame_codec.h"
#include "transport/message_decoder.h"
#include "transport/spool_recovery.h"
#include "transport/spool_segment.h"
#include "transport/storage.h"
#include "transport/streamed_files.h"

namespace bitacora::transport {

class SpoolReader;

struct SpoolOptions {
  std::optional<pb::Identity> identity = {};  // whose changes it must hold, when that is known
  std::uint64_t bytes_max = 64ull << 30;      // of all segments
  std::uint64_t disk_reserve_bytes = 512ull << 20;  // left free for the others on the file system
  // What is applied is kept so long, and at most so much of it: a standby that is restored from a
  // backup younger than that catches up by itself.
  std::chrono::seconds keep_time{3600};
  std::uint64_t keep_bytes = 1ull << 30;
  bool sync = true;  // false: a crash of the machine may damage the spool; for measuring only
  FrameLimits frames = {};  // what readers decode with
};

// A place behind a record, of this process's life: a reader can continue there.
struct SpoolPlace {
  std::uint64_t segment = 0;  // its number
  std::uint64_t bytes = 0;    // of its file
  std::uint64_t life = 0;     // a number is given again when a connection cut its segment off
  MasterLsn reached;          // everything up to here is complete before this place
};

struct Appended {
  enum Outcome {
    kAppended,
    kFull,  // nothing was appended: wait for trim() or the disk, then append the same frame again
  };
  Outcome outcome = kFull;
  SpoolPlace place;  // behind the frame, when kAppended
};

// Thread-safe: the network thread begins connections, describes and appends, another syncs, the
// apply thread reads and trims. Its readers must not outlive it. When storage fails the spool is
// broken: every call answers an error that heals, until reopen().
class Spool {
 public:
  // Recovers what the directory holds, see recover_spool(). `synced` is what synced_mark() said
  // when the checkpoint was last written.
  static Result<std::unique_ptr<Spool>> open(std::unique_ptr<Storage> storage, SpoolOptions options,
                                             const std::optional<SyncedMark>& synced);

  std::optional<pb::Identity> identity() const;  // absent until the first connection
  MasterLsn begin_lsn() const;                   // a reader can start here or later
  MasterLsn end_lsn() const;                     // everything up to here is in the spool
  std::uint32_t timeline() const;                // of the master, there; 0: not known
  std::uint64_t bytes() const;

  // A connection to the sender goes on at `start_lsn`. From end_lsn(): what lies after the last cut
  // point is cut off, the sender sends that transaction again. From elsewhere, or when the spool is
  // empty: everything is removed and it begins anew there; the old segments leave the disk once the
  // new one is durable. The next frame must reset the context. `timeline`: the master's, 0 when it
  // is not known. kState: a foreign identity.
  Result<void> begin_connection(const pb::Identity& identity, MasterLsn start_lsn,
                                std::uint32_t timeline = 0);

  // What the connection's frames appended so far have described, for the next segment's header.
  // Before the frame it came in is appended, it would come too early for that segment's first rows.
  void describe(const pb::Relation& relation);
  void describe(const pb::Type& type);

  // Appends one frame as it was received. Not durable until sync(). `in_transaction_after`: a
  // transaction is open behind it. A frame that resets the context begins a segment, after a
  // sync(). Before it answers kFull it drops segments that are only kept. A transaction larger than
  // bytes_max passes once all before it is applied: waiting would free nothing. kNetwork, healing
  // by a new connection: a frame that breaks a rule of the wire.
  Result<Appended> append(const pb::Frame& frame, bool in_transaction_after, std::int64_t now_usec);

  // Keeps a frame of a transaction in progress, which is no part of the spool yet. Before it
  // answers kFull it drops segments that are only kept; `place` has no meaning.
  Result<Appended> append_streamed(const StreamedFrame& streamed);
  // Takes the next of a transaction's frames, in order: to append() them inside of it. Empty: no
  // more.
  Result<std::optional<pb::Frame>> take_streamed(std::uint32_t xid);
  // Its transaction was rolled back. A new connection drops all of them.
  Result<void> drop_streamed(std::uint32_t xid);

  // Makes what was appended durable; appending and reading go on meanwhile. Returns synced_lsn().
  Result<MasterLsn> sync();
  MasterLsn synced_lsn() const;  // may be acknowledged as flushed
  // For the checkpoint; absent while nothing of this spool is durable.
  std::optional<SyncedMark> synced_mark() const;

  // The standby has flushed everything up to `durable_applied` to disk: what lies wholly before it
  // is only kept, within keep_time and keep_bytes. Everything from there on stays (rule I2).
  Result<void> trim(MasterLsn durable_applied, std::int64_t now_usec);

  // After an error: cuts back to what was durable; the connection must begin again. Otherwise
  // nothing.
  Result<void> reopen();
  bool broken() const;

  // Begins at or before `position`, where a segment begins; what the applier has it passes over.
  // kState with the missing range when the spool begins later.
  Result<std::unique_ptr<SpoolReader>> read_from(MasterLsn position);
  // Goes on behind a record whose changes were already consumed.
  Result<std::unique_ptr<SpoolReader>> read_after(const SpoolPlace& place);

 private:
  friend class SpoolReader;

  // Shared with the readers that are in it. Guarded by mutex_, but for what never changes.
  struct Segment {
    SegmentFacts facts;      // only facts.bytes changes: it grows, or is cut off
    std::uint64_t life = 0;  // ascending in the order of making, never given again
  };
  using SharedSegment = std::shared_ptr<Segment>;

  // What a reader finds where it is. At most one of these holds; none: it is at the tail.
  struct Outlook {
    std::uint64_t readable = 0;  // there is more in its segment: up to here
    bool cut_off = false;        // less than it has consumed is left of its segment
    SharedSegment next;          // its segment is at the end, this one follows
    std::shared_ptr<const StorageFile> next_file;
  };

  Spool(std::unique_ptr<Storage> storage, SpoolOptions options, RecoveredSpool recovered);

  // All of these want mutex_ held, but look() and end_of(), which the readers call.
  Result<void> usable() const;
  template <class Value>
  Result<Value> noting_failure(Result<Value> result) {  // an error breaks the spool
    if (!result.ok()) broken_ = result.error();
    return result;
  }

  Result<void> check_frame(const pb::Frame& frame, bool in_transaction_after) const;
  Result<Appended::Outcome> store(const pb::Frame& frame, std::int64_t now_usec);
  Result<bool> has_room(std::uint64_t bytes) const;
  Result<bool> free_some();
  Result<WriteOutcome> continue_segment(const std::string& record);
  Result<WriteOutcome> begin_segment(const std::string& record, std::int64_t now_usec);
  Result<void> make_durable(StorageFile& file);
  pb::SpoolHeader next_header(std::int64_t now_usec) const;
  void note_appended(const pb::Frame& frame, bool in_transaction_after);

  void begin_anew(MasterLsn start_lsn);
  Result<void> cut_back(const SyncedMark& end);
  Result<void> remove_leftovers();
  void cut_off(Segment& segment, std::uint64_t bytes);
  void note_applied(MasterLsn durable_applied);
  bool only_kept(const Segment& segment) const;
  std::vector<SegmentFacts> drop_oldest();
  Result<std::unique_ptr<SpoolReader>> reader_at(const SharedSegment& segment, MasterLsn held,
                                                 std::uint64_t silent_until) const;
  Result<Outlook> look(const SharedSegment& segment, std::uint64_t life, std::uint64_t offset,
                       std::uint64_t consumed) const;
  MasterLsn end_of(const Segment& segment) const;

  const std::unique_ptr<Storage> storage_;
  const SpoolOptions options_;

  std::mutex sync_mutex_;  // one fdatasync at a time: the system tells a failure only once
  mutable std::mutex mutex_;

  // Guarded by mutex_.
  std::optional<Error> broken_;
  std::optional<pb::Identity> identity_;
  std::uint32_t timeline_ = 0;
  std::deque<SharedSegment> segments_;  // numbered without a hole
  std::vector<std::uint64_t> doomed_;   // on disk until a segment of the new beginning is durable
  std::uint64_t bytes_ = 0;             // of segments_
  std::uint64_t next_number_ = 1;
  std::uint64_t next_life_ = 1;
  std::uint64_t needed_from_ = 0;  // number of the segment from which on all must stay
  MasterLsn begun_;                // where begin_anew() began, while there is no segment
  MasterLsn applied_;              // durable on the standby, as last heard
  SyncedMark end_;                 // the last cut point; segment 0: there is no segment
  SyncedMark synced_;              // the last cut point that is durable; segment 0: none
  StreamedFiles streamed_;

  // The connection's, guarded by mutex_.
  std::shared_ptr<StorageFile> file_;  // the last segment's, when something was written to it
  bool segment_due_ = true;            // the next frame must begin one
  bool connected_ = false;
  bool batch_open_ = false;
  bool in_transaction_ = false;
  std::map<std::uint32_t, pb::Relation> relations_;  // by OID
  std::map<std::uint32_t, pb::Type> types_;          // by OID

  std::uint64_t changes_ = 0;         // to files, ever; guarded by mutex_
  std::uint64_t synced_changes_ = 0;  // those that are durable; guarded by mutex_
  std::uint64_t beginnings_ = 0;      // begin_anew() and cut_back(), ever; guarded by mutex_
};

}  // namespace bitacora::transport
