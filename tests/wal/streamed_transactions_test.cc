#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "tests/postgres/database.h"
#include "tests/wal/every_version.h"
#include "wal/pgoutput_decoder.h"
#include "wal/replication_connection.h"
#include "wal/wake_up.h"

namespace bitacora::wal {
namespace {

constexpr int kRows = 3000;  // of each part of the large transaction: several times the 64 kB

// What a receiver of a stream has to keep track of.
struct Seen {
  std::vector<std::string> order;        // kinds, runs of the same folded into one
  std::map<std::uint32_t, int> inserts;  // by (sub)transaction
  std::set<std::uint32_t> top;           // streamed transactions
  std::vector<StreamAbortMessage> aborts;
  std::vector<StreamCommitMessage> commits;
  int blocks = 0;
  int first_segments = 0;
  int relations_in_blocks = 0;
  int ordinary_commits = 0;

  void note(std::string kind) {
    if (order.empty() || order.back() != kind) order.push_back(std::move(kind));
  }
  void operator()(const StreamStartMessage& message) {
    note("start");
    ++blocks;
    if (message.first_segment) ++first_segments;
    top.insert(message.xid);
  }
  void operator()(const StreamStopMessage& /*message*/) { note("stop"); }
  void operator()(const StreamAbortMessage& message) {
    note("abort");
    aborts.push_back(message);
  }
  void operator()(const StreamCommitMessage& message) {
    note("stream commit");
    commits.push_back(message);
  }
  void operator()(const BeginMessage& /*message*/) { note("begin"); }
  void operator()(const CommitMessage& /*message*/) {
    note("commit");
    ++ordinary_commits;
  }
  void operator()(const RelationMessage& message) {
    if (message.xid != 0) ++relations_in_blocks;
  }
  void operator()(const RowMessage& message) {
    note("rows");
    ++inserts[message.xid];
  }
  template <class Other>
  void operator()(const Other& /*message*/) {}
};

class StreamedTransactionsTest : public EveryVersion {
 protected:
  void SetUp() override {
    EveryVersion::SetUp();
    if (IsSkipped()) return;
    sql(
        fmt::format("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION p FOR TABLE t;"
                    "ALTER DATABASE \"{}\" SET logical_decoding_work_mem = '64kB'",
                    value("SELECT current_database()")));
    sql("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    sql(fmt::format(
        "BEGIN; INSERT INTO t SELECT i, 'a' FROM generate_series(1, {0}) AS i;"
        "SAVEPOINT s; INSERT INTO t SELECT i, 'b' FROM generate_series({0} + 1, 2 * {0}) AS i;"
        "ROLLBACK TO s; INSERT INTO t SELECT i, 'c' FROM generate_series({0} + 1, 2 * {0}) AS i;"
        "COMMIT",
        kRows));
    sql("INSERT INTO t VALUES (-1, 'small')");
  }

  // Everything up to the small transaction's commit.
  Seen read(std::uint32_t protocol, const std::string& streaming) {
    Seen seen;
    auto connected = MasterConnector(conninfo(), "reader").connect();
    EXPECT_TRUE(succeeded(connected));
    if (!connected.ok()) return seen;
    ReplicationConnection connection(std::move(connected).value());
    EXPECT_TRUE(succeeded(connection.start_replication("s", {},
                                                       {{"proto_version", std::to_string(protocol)},
                                                        {"publication_names", "p"},
                                                        {"binary", "true"},
                                                        {"streaming", streaming}})));
    PgOutputDecoder decoder(PgOutputOptions{protocol, streaming == "parallel"});
    WakeUp nobody;
    EXPECT_TRUE(harness::eventually([&] {
      connection.wait(nobody.descriptor(), std::chrono::milliseconds(100));
      return take_in(connection, decoder, seen);
    }));
    return seen;
  }

  // True when the last transaction was seen, or nothing more will come.
  static bool take_in(ReplicationConnection& connection, PgOutputDecoder& decoder, Seen& seen) {
    while (seen.ordinary_commits == 0) {
      const auto message = connection.receive();
      EXPECT_TRUE(succeeded(message));
      if (!message.ok()) return true;
      if (!*message) return false;
      if ((*message)->keepalive) continue;
      const auto decoded = decoder.decode((*message)->payload);
      EXPECT_TRUE(succeeded(decoded));
      if (!decoded.ok()) return true;
      std::visit(seen, **decoded);
    }
    return true;
  }

  static void expect_streamed(const Seen& seen, bool abort_with_position) {
    EXPECT_GT(seen.blocks, 3);
    EXPECT_EQ(seen.first_segments, 1);
    EXPECT_EQ(seen.top.size(), 1u);
    EXPECT_GE(seen.relations_in_blocks, 1);
    ASSERT_EQ(seen.commits.size(), 1u);
    EXPECT_EQ(seen.commits[0].xid, *seen.top.begin());
    EXPECT_GT(seen.commits[0].end_lsn, seen.commits[0].commit_lsn);
    ASSERT_EQ(seen.aborts.size(), 1u);
    const auto& abort = seen.aborts[0];
    EXPECT_EQ(abort.xid, *seen.top.begin());
    EXPECT_NE(abort.subxid, abort.xid);
    EXPECT_EQ(abort.abort_lsn.valid(), abort_with_position);
    EXPECT_EQ(abort.abort_time_usec != 0, abort_with_position);
    int kept = 0;
    for (const auto& [xid, count] : seen.inserts) kept += xid == abort.subxid ? 0 : count;
    EXPECT_EQ(kept, 2 * kRows + 1);
    EXPECT_GT(seen.inserts.count(abort.subxid), 0u) << "the test is too small to stream it";
    ASSERT_GE(seen.order.size(), 7u);
    EXPECT_EQ(seen.order[0], "start");
    EXPECT_EQ(std::vector<std::string>(seen.order.end() - 5, seen.order.end()),
              (std::vector<std::string>{"stop", "stream commit", "begin", "rows", "commit"}));
  }
};

TEST_P(StreamedTransactionsTest, InSeveralBlocks) {
  const auto newest = static_cast<std::uint32_t>(std::min(version() - 12, 4));
  expect_streamed(read(newest, "on"), false);
}

TEST_P(StreamedTransactionsTest, WithTheOldestProtocolThatStreams) {
  expect_streamed(read(2, "on"), false);
}

TEST_P(StreamedTransactionsTest, ForParallelAppliers) {
  if (version() < 16) GTEST_SKIP() << "streaming = parallel came with PostgreSQL 16";
  expect_streamed(read(4, "parallel"), true);
}

TEST_P(StreamedTransactionsTest, NotUnlessAskedFor) {
  const auto seen = read(2, "off");
  EXPECT_EQ(seen.blocks, 0);
  EXPECT_EQ(seen.inserts.at(0), 2 * kRows) << "the rolled back rows are not sent";
  EXPECT_EQ(seen.order, (std::vector<std::string>{"begin", "rows", "commit"}));
}

ON_EVERY_VERSION(StreamedTransactionsTest);

}  // namespace
}  // namespace bitacora::wal
