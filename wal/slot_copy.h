// A temporary copy of a logical slot, and the backlog taken from it by SQL, range by range. A
// walsender sends and receives once per change; here the master decodes a whole range and sends it
// in one piece. The slot itself stays where it is, so that nothing is lost with the copy, which
// goes with its connection. Source:
// https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/lsn.h"
#include "wal/master_connection.h"
#include "wal/plugin_options.h"
#include "wal/publication_watch.h"

namespace bitacora::wal {

struct CopyPosition {
  MasterLsn read;     // everything that was committed up to here has been taken
  MasterLsn restart;  // where the WAL begins that the next range has to read
  MasterLsn wal_end;
  std::int64_t master_clock_usec = 0;  // since 1970
};

// One thread owns it. Errors are kMaster; connected() tells whether it can go on after one.
class SlotCopy {
 public:
  // The connection is in replication mode, where SQL works as well. Takes one of
  // max_replication_slots.
  static Result<SlotCopy> make(MasterConnection connection, const std::string& slot);

  int server_version() const { return PQserverVersion(connection_.get()); }
  bool connected() const { return PQstatus(connection_.get()) == CONNECTION_OK; }

  // Between ranges:
  Result<CopyPosition> position();
  // Leaves out what was committed before, without decoding it.
  Result<void> skip_to(MasterLsn lsn);
  // Moves the slot itself: what the master may forget (rule I1).
  Result<void> confirm_slot(MasterLsn lsn);
  // Begins to take what is committed up to `upto`, or the end of the record that this one lies in.
  Result<void> begin_range(MasterLsn upto, const PluginOptions& options);

  // In a range: the next pgoutput message, valid until the next call; empty when none has arrived
  // yet, or the range is over.
  Result<std::optional<std::string_view>> receive();
  bool in_range() const { return stage_ != Stage::kBetween; }
  // Blocks until bytes arrive or the time is over.
  void wait(std::chrono::milliseconds timeout);
  // Asks the master to give the range up; the copy is of no more use.
  void abandon();

 private:
  enum class Stage { kBetween, kDecoding, kHeader, kRows };

  SlotCopy(MasterConnection connection, std::string slot);
  Result<void> advance(const std::string& slot, MasterLsn lsn);
  Result<bool> decoded();
  Result<std::optional<std::string_view>> take_row(std::string_view bytes);
  Result<void> finish_range();

  struct FreeMemory {
    void operator()(char* memory) const noexcept { PQfreemem(memory); }
  };

  MasterConnection connection_;
  PublicationWatch publication_;
  std::string slot_;
  std::string copy_;
  std::unique_ptr<char, FreeMemory> buffer_;
  Stage stage_ = Stage::kBetween;
};

}  // namespace bitacora::wal
