// A snapshot of the master that belongs to an exact position of its WAL, and stays for as long as
// somebody copies in it. Source:
// https://www.postgresql.org/docs/current/protocol-replication.html (CREATE_REPLICATION_SLOT)
#pragma once

#include <stop_token>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/lsn.h"
#include "wal/lock_watch.h"
#include "wal/master_connection.h"

namespace bitacora::wal {

// A session whose transaction sees what the snapshot `name` sees. kState when that one is gone.
Result<MasterConnection> open_in_snapshot(const std::string& conninfo, const std::string& name);

// A transaction of the master holds it: as long as this lives, rows that others delete stay.
// One thread at a time.
class CopySnapshot {
 public:
  // A temporary slot gives position and snapshot, and goes at once: no WAL is kept for the copy.
  // Takes one of max_replication_slots and of max_wal_senders for that moment. It comes when the
  // transactions that are open now have ended. Errors: kMaster, also at `stop`.
  static Result<CopySnapshot> make(const std::string& conninfo, const OnWaiting& waiting,
                                   const std::stop_token& stop = {});

  MasterLsn lsn() const { return lsn_; }
  // For SET TRANSACTION SNAPSHOT and pg_dump --snapshot.
  const std::string& name() const { return name_; }
  // The transaction is still there. A round trip.
  bool alive();
  // To ask in it. In the transaction, which an error ends.
  PGconn* connection() { return holder_.get(); }

 private:
  CopySnapshot(MasterConnection holder, MasterLsn lsn, std::string name)
      : holder_(std::move(holder)), lsn_(lsn), name_(std::move(name)) {}

  MasterConnection holder_;
  MasterLsn lsn_;
  std::string name_;
};

}  // namespace bitacora::wal
