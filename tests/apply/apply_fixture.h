// A played master and a standby database with everything that applies to it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "apply/applier.h"
#include "apply/progress.h"
#include "tests/apply/played_master.h"
#include "tests/postgres/database.h"

namespace bitacora::apply {

inline constexpr const char* kSubscription = "prueba";

// One life of the apply side: made from the progress row, used up by the first error.
class ApplySession {
 public:
  explicit ApplySession(const std::string& conninfo, ApplierOptions options = {},
                        TablePatterns tables = {}, unsigned workers = 1);

  Applier& applier() { return applier_; }
  Result<void> take(const Applier::Batch& batch, bool more_waiting = false) {
    return applier_.take(batch, more_waiting);
  }
  int backend_pid() { return PQbackendPID(session_.connection()); }

 private:
  MasterLsn from();

  StandbySession session_;
  StandbyCatalog catalog_;
  TableMap tables_;
  std::vector<StandbySession> others_;
  Applier applier_;
};

// Two databases of one server, so that types have different OIDs.
class ApplyTest : public testing::Test {
 protected:
  ApplyTest();

  const std::string& standby() const { return standby_; }
  const std::string& master() const { return master_; }
  void on_standby(const std::string& sql) const { harness::execute(standby_, sql); }
  void on_both(PlayedMaster& master, const std::string& sql) const;
  std::string standby_value(const std::string& sql) const;
  std::string content(const std::string& table) const;
  // Both schemas public are empty again, and the progress row is gone.
  void clear() const;
  std::string progress() const;
  static std::string lsn(const PlayedMaster& master) { return to_string(master.end()); }

 private:
  std::string master_;
  std::string standby_;
};

}  // namespace bitacora::apply
