// The spool's fdatasync does not come back: what arrives meanwhile is applied and visible, and
// still the master is not told that it may forget it (rule I1).
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

constexpr std::chrono::seconds kHeldFor{4};  // several acknowledgements and feedbacks

PairOptions with_fault_points() {
  PairOptions options;
  options.binary = BITACORA_FAULTS_BINARY;
  return options;
}

class HeldSync : public testing::Test {
 protected:
  bool confirmed_beyond(const std::string& lsn) const {
    return query_value(pair_.master(), "SELECT confirmed_flush_lsn > '" + lsn +
                                           "' FROM pg_replication_slots WHERE slot_name = "
                                           "'bitacora_" +
                                           pair_.name() + "'") == "t";
  }
  void insert_visibly(int first, int last) const {
    for (int id = first; id <= last; ++id) {
      pair_.on_master("INSERT INTO t VALUES (" + std::to_string(id) + ")");
      ASSERT_TRUE(eventually([&] {
        return query_value(pair_.standby(), "SELECT max(id) FROM t") == std::to_string(id);
      })) << pair_.story();
    }
  }

  Pair pair_{with_fault_points()};
};

TEST_F(HeldSync, TheSlotStaysBelowWhatIsNotOnDisk) {
  pair_.on_both("CREATE TABLE t (id int PRIMARY KEY)");
  pair_.start();
  pair_.on_master("INSERT INTO t VALUES (0)");
  pair_.wait_applied();
  EXPECT_EQ(pair_.stop_receiver(), 0);

  // The first sync is the intake's own, before it begins a segment.
  pair_.start_receiver({"BITACORA_FAULT=spool.before_sync:2:hold"});
  insert_visibly(1, 20);  // the hold is reached
  const auto before = query_value(pair_.master(), "SELECT pg_current_wal_lsn()");
  insert_visibly(21, 40);
  const auto until = std::chrono::steady_clock::now() + kHeldFor;
  while (std::chrono::steady_clock::now() < until) {
    ASSERT_FALSE(confirmed_beyond(before));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }

  // Nothing of the spool is left: all of it comes from the master again.
  pair_.kill_receiver();
  std::filesystem::remove_all(pair_.data_dir());
  pair_.start_receiver();
  insert_visibly(41, 42);
  EXPECT_TRUE(pair_.same_content("public.t"));
  EXPECT_TRUE(eventually([&] { return confirmed_beyond(before); }));
}

}  // namespace
}  // namespace bitacora::harness
