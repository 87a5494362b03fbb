// Writes groups of whole transactions on one connection, each as one of the standby's with the
// progress row in it: a few rows by the exact path with their COMMIT in one round trip, many by the
// fast path.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "apply/applier_options.h"
#include "apply/careful_path.h"
#include "apply/exact_path.h"
#include "apply/exchange.h"
#include "apply/fast_path.h"
#include "apply/group.h"
#include "apply/standby_session.h"
#include "apply/table_map.h"
#include "base/error.h"
#include "base/lsn.h"

namespace bitacora::apply {

// An error that may be the path's own, or of several groups in flight: what to take a slower path
// with, from the progress row on. That one then does it, or says what is wrong.
struct PathRefusal {
  MasterLsn through;
  std::string table;     // schema.table; empty: unknown
  bool careful = false;  // the careful path for this table; else the exact one
};

struct WalPosition {
  StandbyLsn inserted;
  StandbyLsn flushed;
};

// Turns are numbers of groups that are in flight at the same time: 1, 2, 3, ... A writer holds the
// turn of the next group that it will write, as an advisory lock, from before anybody can wait for
// it until that group is committed. A group whose writer fails is never passed: the lock goes with
// the connection, and the progress row is not where the next group wants it.
struct GroupStart {
  bool one_trip = false;    // its COMMIT follows in the same trip
  bool exact_only = false;  // no set-wise writing
  std::uint64_t after = 0;  // its rows wait for this turn's end; 0: for none
};

struct GroupEnd {
  MasterLsn from;  // where the progress row stands
  MasterLsn to;
  std::int64_t commit_time_usec = 0;  // of the last transaction; 0: none
  std::uint64_t after = 0;            // its progress waits for this turn's end; 0: for none
  std::uint64_t turn = 0;             // its own, which ends; 0: none
  std::uint64_t next_turn = 0;        // this writer's next
};

// One thread at a time. After any error the object is used up, and the connection with it.
class GroupWriter {
 public:
  GroupWriter(StandbySession& session, const ApplierOptions& options);
  GroupWriter(const GroupWriter&) = delete;
  GroupWriter& operator=(const GroupWriter&) = delete;

  // `turn`: the first one to hold; 0 for a writer that is alone.
  Result<void> start(std::uint64_t turn);

  Result<void> begin(const GroupStart& start);
  // `table` is planned, and stays as it is as long as the writer lives.
  Result<void> write(const GroupRows& rows);
  Result<void> truncate(const Truncation& truncation);
  Result<void> settle();  // nothing is held back any more
  Result<void> commit(const GroupEnd& end);

  // Outside of groups; commit() asks by itself.
  Result<void> ask_position();
  // Whether the standby's database has a sender's slot. Asks for the position too.
  Result<bool> is_a_master_too();
  const WalPosition& position() const { return position_; }

  // The rows of this transaction for this table are written with care, one group after the other.
  bool careful(const MappedTable& table, MasterLsn begun) const {
    return careful_.covers(table, begun);
  }
  std::uint64_t conflicts() const { return conflicts_; }  // resolved in committed groups

  // After an error that does not heal: whether a slower path may do better. `through` is the last
  // transaction; `concurrent`: other groups were in flight.
  std::optional<PathRefusal> refusal(MasterLsn through, bool concurrent) const;
  bool connected() const { return PQstatus(session_.connection()) == CONNECTION_OK; }
  // Thread-safe.
  void cancel() { session_.cancel(); }

 private:
  MappedTable& own(const MappedTable& table);
  Result<void> write_row(const GroupRows& rows, const RowOrigin& origin, MappedTable& table,
                         const proto::Row& row);
  bool may_be_fast(const MappedTable& table, MasterLsn begun) const;
  Result<void> send(Sent sent, const char* statement);
  Result<void> send_turns(const char* statement, const std::vector<std::uint64_t>& turns);
  Result<void> send_progress(const GroupEnd& end);

  Result<void> on_reply(const Expected& expected, const PGresult* reply);
  Error failure(const Expected& expected, const PGresult* reply);
  void read_position(const PGresult* reply);

  StandbySession& session_;
  const ApplierOptions& options_;
  Exchange exchange_;
  ExactPath exact_;
  FastPath fast_;
  CarefulPath careful_;
  // What is prepared for a table is prepared on this connection.
  std::unordered_map<const MappedTable*, std::unique_ptr<MappedTable>> tables_;

  GroupStart start_;
  bool is_a_master_ = false;
  WalPosition position_;
  const MappedTable* blamed_ = nullptr;
  std::uint64_t conflicts_ = 0;
  Parameters parameters_;  // reused
};

}  // namespace bitacora::apply
