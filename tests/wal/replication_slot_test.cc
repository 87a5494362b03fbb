#include "wal/replication_slot.h"

#include <future>
#include <pqxx/pqxx>

#include <fmt/format.h>

#include "tests/postgres/database.h"
#include "tests/wal/every_version.h"
#include "wal/replication_connection.h"

namespace bitacora::wal {
namespace {

class ReplicationSlotTest : public EveryVersion {};

TEST_P(ReplicationSlotTest, IsCreatedFoundAndDropped) {
  const auto before = master().current_wal_lsn();
  ASSERT_TRUE(succeeded(before));
  const auto none = find_slot(master(), "main");
  ASSERT_TRUE(succeeded(none));
  EXPECT_FALSE(none->has_value());

  const auto point = create_slot(conninfo(), "main");
  ASSERT_TRUE(succeeded(point));
  EXPECT_GE(*point, *before);
  const auto found = find_slot(master(), "main");
  ASSERT_TRUE(succeeded(found));
  ASSERT_TRUE(found->has_value());
  const ReplicationSlot& slot = **found;
  EXPECT_EQ(slot.plugin, "pgoutput");
  EXPECT_EQ(slot.database, value("SELECT current_database()"));
  EXPECT_EQ(slot.confirmed_flush_lsn, *point);
  EXPECT_TRUE(slot.restart_lsn.valid());
  EXPECT_LE(slot.restart_lsn, *point);
  EXPECT_EQ(slot.wal_status, "reserved");
  EXPECT_FALSE(slot.active_pid.has_value());

  EXPECT_TRUE(*drop_slot(master(), "main"));
  EXPECT_FALSE(find_slot(master(), "main")->has_value());
  const auto again = drop_slot(master(), "main");
  ASSERT_TRUE(succeeded(again)) << "dropping what is not there is no error";
  EXPECT_FALSE(*again);
}

TEST_P(ReplicationSlotTest, RetainsTheWalWrittenSince) {
  ASSERT_TRUE(succeeded(create_slot(conninfo(), "main")));
  const auto before = (*find_slot(master(), "main"))->retained_bytes;
  sql("CREATE TABLE t AS SELECT generate_series(1, 10000) AS id");
  EXPECT_GT((*find_slot(master(), "main"))->retained_bytes, before + 500'000);
}

TEST_P(ReplicationSlotTest, OneOfThatNameIsAnError) {
  ASSERT_TRUE(succeeded(create_slot(conninfo(), "main")));
  const auto again = create_slot(conninfo(), "main");
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, ErrorCode::kMaster);
  EXPECT_FALSE(again.error().heals());
  EXPECT_NE(again.error().message.find("already exists"), std::string::npos);
}

TEST_P(ReplicationSlotTest, NoneFreeSaysHowToMendIt) {
  const int slots = std::stoi(value("SHOW max_replication_slots"));
  for (int i = 0; i < slots; ++i) {
    ASSERT_TRUE(succeeded(create_slot(conninfo(), fmt::format("taken_{}", i))));
  }
  const auto refused = create_slot(conninfo(), "one_more");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kMaster);
  EXPECT_FALSE(refused.error().heals());
  EXPECT_NE(refused.error().hint.find("max_replication_slots"), std::string::npos)
      << one_line(refused.error());
  EXPECT_NE(refused.error().hint.find("pg_drop_replication_slot"), std::string::npos);
}

// A slot begins when everything has ended that is open.
TEST_P(ReplicationSlotTest, StopEndsTheWaitForOpenTransactions) {
  sql("CREATE TABLE t (id int)");
  pqxx::connection session(conninfo());
  pqxx::work open(session);
  open.exec("INSERT INTO t VALUES (1)");
  std::stop_source stop;
  auto creating = std::async(std::launch::async,
                             [&] { return create_slot(conninfo(), "main", stop.get_token()); });
  ASSERT_TRUE(harness::eventually(
      [&] { return value("SELECT count(*) FROM pg_replication_slots WHERE active") == "1"; }));
  stop.request_stop();
  ASSERT_EQ(creating.wait_for(std::chrono::seconds(3)), std::future_status::ready);
  EXPECT_FALSE(creating.get().ok());
  // The master answers before it has cleaned up.
  EXPECT_TRUE(harness::eventually(
      [&] { return value("SELECT count(*) FROM pg_replication_slots") == "0"; }));
  open.commit();
  EXPECT_TRUE(succeeded(create_slot(conninfo(), "main")));
}

TEST_P(ReplicationSlotTest, OneInUseIsNotDropped) {
  ASSERT_TRUE(succeeded(create_slot(conninfo(), "main")));
  auto connected = MasterConnector(conninfo(), "reader").connect();
  ASSERT_TRUE(succeeded(connected));
  ReplicationConnection reader(std::move(connected).value());
  ASSERT_TRUE(succeeded(
      reader.start_replication("main", {}, {{"proto_version", "1"}, {"publication_names", "p"}})));
  const auto slot = find_slot(master(), "main");
  ASSERT_TRUE(succeeded(slot));
  EXPECT_EQ(std::to_string((*slot)->active_pid.value_or(0)),
            value("SELECT pid FROM pg_stat_replication WHERE application_name = 'reader'"));
  const auto refused = drop_slot(master(), "main");
  ASSERT_FALSE(refused.ok());
  EXPECT_TRUE(refused.error().heals());
  EXPECT_TRUE(find_slot(master(), "main")->has_value());
}

// The lock that tells a second sender for the same slot to wait belongs to the session.
TEST_P(ReplicationSlotTest, IsLockedByOneSenderAtATime) {
  MasterSession other(conninfo());
  EXPECT_TRUE(*master().try_lock_slot("main"));
  EXPECT_FALSE(*other.try_lock_slot("main"));
  EXPECT_TRUE(*other.try_lock_slot("another"));
  master().disconnect();
  const auto released = [&] { return *other.try_lock_slot("main"); };
  EXPECT_TRUE(harness::eventually(released));
}

ON_EVERY_VERSION(ReplicationSlotTest);

}  // namespace
}  // namespace bitacora::wal
