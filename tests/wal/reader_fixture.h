// The table, publication and slot that every reader of a slot is tried on, and the options of one
// that reads them.
#pragma once

#include "tests/wal/every_version.h"
#include "wal/replication_slot.h"

namespace bitacora::wal {

// Both readers are told in the same words whom they read.
template <class Options>
Options reader_options(const std::string& conninfo) {
  Options options;
  options.conninfo = conninfo;
  options.slot = "main";
  options.publication = "the p";
  options.application_name = "reader";
  return options;
}

class ReaderFixture : public EveryVersion {
 protected:
  void SetUp() override {
    EveryVersion::SetUp();
    if (IsSkipped()) return;
    sql("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION \"the p\" FOR ALL TABLES");
    const auto created = create_slot(conninfo(), "main");
    ASSERT_TRUE(succeeded(created));
    start_ = *created;
  }

  MasterLsn confirmed() {
    const auto slot = find_slot(master(), "main");
    EXPECT_TRUE(succeeded(slot));
    return slot.ok() && *slot ? (*slot)->confirmed_flush_lsn : MasterLsn{};
  }

  MasterLsn start_;  // from where on the slot has changes
};

}  // namespace bitacora::wal
