// What the standby knows of tables that are copied from the master rather than followed from the
// beginning: bitacora.copied_tables and bitacora.copied_parts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apply/empty_table.h"
#include "apply/standby_session.h"
#include "base/error.h"
#include "base/lsn.h"

namespace bitacora::apply {

struct CopiedTable {
  std::string schema;  // as on the master
  std::string name;
  bool copied = false;     // all of its rows are here; else parts are missing
  std::string snapshot;    // the sender's name of it; empty: none was begun
  MasterLsn snapshot_lsn;  // what was committed up to here is in the snapshot
  MasterLsn hold_lsn;      // changes of it that begin here or later must be kept until it is copied
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;  // of COPY's output
};

// Pages [begin_page, end_page) of a piece, see CopyPart in the protocol; end_page 0: to the end.
struct CopiedPart {
  std::uint32_t piece = 0;
  std::uint64_t begin_page = 0;
  std::uint64_t end_page = 0;
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;
};

// Makes both tables when they are absent; the schema bitacora has to be there, or the right to make
// it.
Result<void> ensure_copied_tables(StandbySession& standby);

// Empty too when nothing was ever copied to this standby. In the order of their names.
Result<std::vector<CopiedTable>> load_copied_tables(StandbySession& standby,
                                                    const std::string& subscription);
Result<std::vector<CopiedPart>> load_copied_parts(StandbySession& standby,
                                                  const std::string& subscription,
                                                  const CopiedTable& table);

// Notes that these are to be copied, whatever was noted of them before. Inside the caller's
// transaction when there is one.
Result<void> add_copied_tables(StandbySession& standby, const std::string& subscription,
                               const std::vector<CopiedTable>& tables);

// In one transaction: empties the standby's table (TRUNCATE, or DELETE where a foreign key or a
// missing right forbids that), forgets its parts and notes the new snapshot.
Result<void> restart_copied_table(StandbySession& standby, const std::string& subscription,
                                  const CopiedTable& table, const TargetRows& target);

// The same, in one statement, of tables that are copied as a whole: PartWriter empties them.
Result<void> restart_whole_tables(StandbySession& standby, const std::string& subscription,
                                  const std::vector<CopiedTable>& tables);

// All parts are there. Adds up their rows and bytes and forgets them.
Result<void> finish_copied_table(StandbySession& standby, const std::string& subscription,
                                 const CopiedTable& table);

// The first copy is over: the progress row, which stood at 0/0 so that nobody takes rows for
// visible that are not there yet, begins at `from`, and the tables need the spool no more.
Result<void> end_first_copy(StandbySession& standby, const std::string& subscription,
                            MasterLsn from);

// They need nothing any more of what the spool holds for them: hold_lsn is 0/0 from here on. With
// `replay`, in the same transaction that progress row goes, under which they were brought up.
Result<void> release_copied_tables(StandbySession& standby, const std::string& subscription,
                                   const std::vector<CopiedTable>& tables,
                                   const std::string& replay = {});

// The master has nothing of it to copy any more: as of its snapshot it counts as copied, without
// rows. What the standby has of it stays.
Result<void> give_up_copied_table(StandbySession& standby, const std::string& subscription,
                                  const CopiedTable& table);

}  // namespace bitacora::apply
