#include "wal/copy_snapshot.h"

#include <future>
#include <pqxx/pqxx>
#include <thread>

#include <fmt/format.h>

#include "tests/engine/physical_standby.h"
#include "tests/postgres/database.h"
#include "tests/wal/copy_fixture.h"
#include "wal/replication_slot.h"

namespace bitacora::wal {
namespace {

using harness::eventually;

class CopySnapshotTest : public CopyFixture {
 protected:
  std::string seen(CopySnapshot& in, const std::string& sql) {
    const auto row = query(in.connection(), sql, "test");
    return row.ok() ? PQgetvalue(row->get(), 0, 0) : one_line(row.error());
  }
};

// What a slot decodes from the snapshot's position on, and what the snapshot shows, are together
// everything, once.
TEST_P(CopySnapshotTest, EndsExactlyWhereTheStreamGoesOn) {
  sql("CREATE TABLE t (id serial PRIMARY KEY); CREATE PUBLICATION q FOR TABLE t");
  ASSERT_TRUE(succeeded(create_slot(conninfo(), "main")));
  std::jthread writer([&](const std::stop_token& stop) {
    pqxx::connection session(conninfo());
    while (!stop.stop_requested())
      pqxx::nontransaction(session).exec("INSERT INTO t DEFAULT VALUES");
  });
  ASSERT_TRUE(eventually([&] { return std::stoi(value("SELECT count(*) FROM t")) > 50; }));
  auto made = CopySnapshot::make(conninfo(), {});
  ASSERT_TRUE(succeeded(made));
  const auto copied = std::stoi(value("SELECT count(*) FROM t"));
  ASSERT_TRUE(eventually([&] { return std::stoi(value("SELECT count(*) FROM t")) > copied + 50; }));
  writer.request_stop();
  writer.join();
  sql(fmt::format("SELECT pg_replication_slot_advance('main', '{}')", to_string(made->lsn())));
  const auto in_stream = value(
      "SELECT count(*) FROM pg_logical_slot_get_binary_changes('main', NULL, NULL, 'proto_version',"
      " '1', 'publication_names', 'q') WHERE get_byte(data, 0) = ascii('B')");
  const auto in_snapshot = seen(*made, "SELECT count(*) FROM public.t");
  EXPECT_EQ(std::to_string(std::stoi(in_stream) + std::stoi(in_snapshot)),
            value("SELECT count(*) FROM t"))
      << in_snapshot << " in the snapshot, " << in_stream << " in the stream";
}

TEST_P(CopySnapshotTest, LeavesNoSlotAndStaysAsItWas) {
  sql("CREATE TABLE t (id int)");
  auto made = snapshot();
  const auto gone = [&] {
    return value(
               "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM "
               "pg_stat_replication)") == "0";
  };
  EXPECT_TRUE(eventually(gone));
  sql("INSERT INTO t VALUES (1)");
  EXPECT_EQ(seen(made, "SELECT count(*) FROM public.t"), "0");
  EXPECT_TRUE(made.alive());
  const auto second = open_in_snapshot(conninfo(), made.name());
  ASSERT_TRUE(succeeded(second));
  const auto row = query(second->get(), "SELECT count(*) FROM public.t", "test");
  ASSERT_TRUE(succeeded(row));
  EXPECT_STREQ(PQgetvalue(row->get(), 0, 0), "0");
}

TEST_P(CopySnapshotTest, NothingOfTheServersSettingsEndsOrChangesIt) {
  sql(fmt::format(
      "ALTER DATABASE {0} SET statement_timeout = '50ms';"
      "ALTER DATABASE {0} SET idle_in_transaction_session_timeout = '50ms';"
      "ALTER DATABASE {0} SET datestyle = 'German'; ALTER DATABASE {0} SET timezone = 'Asia/Tokyo'",
      value("SELECT quote_ident(current_database())")));
  auto made = snapshot();
  EXPECT_EQ(seen(made, "SELECT pg_sleep(0.2)"), "");
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_TRUE(made.alive());
  EXPECT_EQ(seen(made, "SELECT timestamptz 'epoch'"), "1970-01-01 00:00:00+00");
  EXPECT_EQ(seen(made, "SHOW row_security"), "off");
}

TEST_P(CopySnapshotTest, SaysWhenItHasEnded) {
  auto made = snapshot();
  sql(fmt::format("SELECT pg_terminate_backend({})", PQbackendPID(made.connection())));
  EXPECT_TRUE(eventually([&] { return !made.alive(); }));
  for (const auto& name :
       {made.name(), std::string("nonsense'"), std::string("00000001-00000001-9")}) {
    const auto opened = open_in_snapshot(conninfo(), name);
    ASSERT_FALSE(opened.ok());
    EXPECT_EQ(opened.error().code, ErrorCode::kState) << one_line(opened.error());
    EXPECT_NE(opened.error().message.find(name), std::string::npos) << one_line(opened.error());
  }
}

TEST_P(CopySnapshotTest, NamesTheTransactionItWaitsForAndStops) {
  sql("CREATE TABLE t (id int)");
  pqxx::connection session(conninfo());
  pqxx::work open(session);
  open.exec("INSERT INTO t   VALUES (1)");
  Heard heard;
  std::stop_source stop;
  auto making = std::async(std::launch::async, [&] {
    return CopySnapshot::make(conninfo(), heard.listener(), stop.get_token());
  });
  EXPECT_TRUE(eventually([&] { return heard.times() == 1; }));
  EXPECT_NE(heard.last().find(
                fmt::format("that of pid {} (idle in transaction since 20", session.backendpid())),
            std::string::npos)
      << heard.last();
  EXPECT_NE(heard.last().find("query: INSERT INTO t VALUES (1))"), std::string::npos)
      << heard.last();
  stop.request_stop();
  ASSERT_EQ(making.wait_for(std::chrono::seconds(3)), std::future_status::ready);
  const auto made = making.get();
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, ErrorCode::kMaster);
  EXPECT_TRUE(
      eventually([&] { return value("SELECT count(*) FROM pg_replication_slots") == "0"; }));
}

TEST_P(CopySnapshotTest, NoFreeSlotSaysHowToMendIt) {
  const int slots = std::stoi(value("SHOW max_replication_slots"));
  for (int i = 0; i < slots; ++i)
    ASSERT_TRUE(succeeded(create_slot(conninfo(), fmt::format("taken_{}", i))));
  const auto made = CopySnapshot::make(conninfo(), {});
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, ErrorCode::kMaster);
  EXPECT_NE(made.error().hint.find("max_replication_slots"), std::string::npos)
      << one_line(made.error());
}

ON_EVERY_VERSION(CopySnapshotTest);

// The master is a physical standby.
class CopySnapshotOfAStandby : public testing::TestWithParam<int> {
 protected:
  static engine::ThrowawayCluster cluster(const std::string& name) {
    engine::ClusterOptions options;
    options.bin_dir = harness::available_servers().at(GetParam());
    return engine::ThrowawayCluster::make(name, options).value();
  }
};

TEST_P(CopySnapshotOfAStandby, IsReadThere) {
  if (!harness::available_servers().contains(GetParam()))
    GTEST_SKIP() << harness::why_missing(GetParam());
  auto primary = cluster("primary");
  auto relay = cluster("relay");
  harness::execute(primary.conninfo(),
                   "SELECT pg_create_physical_replication_slot('physical', true)");
  ASSERT_TRUE(succeeded(relay.stop()));
  ASSERT_TRUE(succeeded(primary.stop()));
  harness::make_standby(primary, relay, harness::Slots::kLeftBehind, harness::follow(primary));
  ASSERT_TRUE(succeeded(primary.start()));
  ASSERT_TRUE(succeeded(relay.start()));
  harness::execute(
      primary.conninfo(),
      "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000);"
      "CREATE PUBLICATION p FOR TABLE t");
  ASSERT_TRUE(eventually([&] {
    return harness::query_value(relay.conninfo(),
                                "SELECT count(*) FROM pg_publication WHERE pubname = 'p'") == "1";
  }));
  Heard heard;
  auto making = std::async(std::launch::async,
                           [&] { return CopySnapshot::make(relay.conninfo(), heard.listener()); });
  while (making.wait_for(std::chrono::milliseconds(100)) != std::future_status::ready) {
    if (heard.times() > 0) harness::execute(primary.conninfo(), "SELECT pg_log_standby_snapshot()");
  }
  auto made = making.get();
  ASSERT_TRUE(succeeded(made));
  harness::execute(primary.conninfo(), "DELETE FROM t");
  EXPECT_TRUE(eventually(
      [&] { return harness::query_value(relay.conninfo(), "SELECT count(*) FROM t") == "0"; }));
  const auto planned = plan_copy(*made, relay.conninfo(), "p", {table_name("t")}, {});
  ASSERT_TRUE(succeeded(planned));
  auto reader = PartReader::open(relay.conninfo(), made->name());
  ASSERT_TRUE(succeeded(reader));
  pb::CopyPart part;
  part.set_piece_oid(planned->front().plan.pieces(0).oid());
  part.add_columns("id");
  const auto end =
      (*reader)->read(planned->front(), part, [](std::string_view) { return Result<void>(); }, {});
  ASSERT_TRUE(succeeded(end));
  EXPECT_EQ(end->rows(), 1000u);
}

INSTANTIATE_TEST_SUITE_P(PostgreSql, CopySnapshotOfAStandby, testing::Values(16, 17, 18),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace bitacora::wal
