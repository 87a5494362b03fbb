#include "wal/live_reader.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "proto/row_block.h"
#include "tests/postgres/database.h"
#include "tests/wal/reader_fixture.h"
#include "tests/wal/running_reader.h"

namespace bitacora::wal {
namespace {

using Clock = std::chrono::steady_clock;
using harness::eventually;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

std::string describe(const pb::Part& part) {
  if (part.has_begin()) return "begin";
  if (part.has_commit()) return "commit";
  if (part.has_relation()) return "relation " + part.relation().name();
  if (part.has_type()) return "type " + part.type().name();
  if (part.has_truncate()) return "truncate";
  if (!part.has_rows()) return "";
  const auto& rows = part.rows();
  return fmt::format("{} {}", rows.count(), pb::RowOperation_Name(rows.operation()));
}

// The idle positions, which come at any time, left out; rows of one shape, which come in two blocks
// where a batch ends, taken together.
std::vector<std::string> describe(const std::vector<pb::Part>& parts) {
  std::vector<std::string> lines;
  pb::Part open;
  for (const auto& part : parts) {
    if (part.has_idle_position()) continue;
    const bool continues = part.has_rows() && open.has_rows() &&
                           part.rows().operation() == open.rows().operation() &&
                           part.rows().relation_oid() == open.rows().relation_oid();
    const auto before = open.rows().count();
    open = part;
    if (continues) {
      open.mutable_rows()->set_count(before + part.rows().count());
      lines.pop_back();
    }
    lines.push_back(describe(open));
  }
  return lines;
}

std::uint64_t rows_in(const std::vector<pb::Part>& parts) {
  std::uint64_t count = 0;
  for (const auto& part : parts) count += part.rows().count();
  return count;
}

std::vector<pb::Part> parts_of(const proto::SharedBatch& batch) {
  const auto changes = proto::parse_batch(batch->bytes);
  return {changes->parts().begin(), changes->parts().end()};
}

// The rows of a block.
std::vector<proto::Row> rows_of(const pb::Rows& block, std::size_t columns) {
  std::vector<proto::Row> rows;
  for (proto::RowBlockReader reader(block, columns); !reader.done();) {
    const auto read = reader.next(rows.emplace_back());
    EXPECT_TRUE(succeeded(read));
    if (!read.ok()) break;
  }
  return rows;
}

class LiveReaderTest : public ReaderFixture {
 protected:
  LiveReaderOptions options() const { return reader_options<LiveReaderOptions>(conninfo()); }

  // One batch for each row of some size.
  LiveReaderOptions small_batches() const {
    auto options = this->options();
    options.batch_bytes_max = 1000;
    return options;
  }

  std::unique_ptr<RunningReader> read() const { return read(options()); }
  std::unique_ptr<RunningReader> read(const LiveReaderOptions& options) const {
    return std::make_unique<RunningReader>(options, start_);
  }

  std::string walsender() const {
    return value(
        "SELECT coalesce(max(pid), 0) FROM pg_stat_replication WHERE application_name ="
        " 'reader' AND state = 'streaming'");
  }
  std::string wait_for_walsender() const {
    EXPECT_TRUE(eventually([&] { return walsender() != "0"; }));
    return walsender();
  }
  static bool wait_for_commits(RunningReader& reader, std::size_t count) {
    return eventually([&] { return reader.sink().commits() >= count; });
  }
  MasterLsn flushed_wal() const {
    return MasterLsn{parse_lsn(value("SELECT pg_current_wal_flush_lsn()")).value_or(0)};
  }
};

TEST_P(LiveReaderTest, TransactionsComeWholeAndInOrder) {
  sql("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 1000) AS i");
  sql("BEGIN; UPDATE t SET v = 'y' WHERE id <= 3; DELETE FROM t WHERE id <= 2;"
      "INSERT INTO t VALUES (2001), (2002); UPDATE t SET id = 5000 WHERE id = 3; COMMIT");
  sql("BEGIN; INSERT INTO t VALUES (6000); ROLLBACK");
  sql("TRUNCATE t");
  const auto reader = read();
  ASSERT_TRUE(wait_for_commits(*reader, 3));
  const auto parts = reader->sink().parts();
  const std::vector<std::string> expected{
      "begin",    "relation t",   "1000 INSERT", "commit", "begin",      "3 UPDATE", "2 DELETE_KEY",
      "2 INSERT", "1 UPDATE_KEY", "commit",      "begin",  "relation t", "truncate", "commit"};
  EXPECT_EQ(describe(parts), expected);
  EXPECT_TRUE(succeeded(reader->stop()));
  EXPECT_FALSE(reader->mid_transaction());
}

// The rows that count in what was streamed of a transaction.
std::uint64_t streamed_rows(const std::vector<proto::SharedBatch>& batches,
                            const pb::Begin& begin) {
  const std::set<std::uint32_t> aborted(begin.aborted().begin(), begin.aborted().end());
  std::uint64_t rows = 0;
  for (const auto& batch : batches) {
    if (batch->event != proto::StreamEvent::kPart) continue;
    bool counts = false;
    for (const auto& part : parts_of(batch)) {
      if (part.has_subtransaction()) counts = !aborted.contains(part.subtransaction());
      if (counts) rows += part.rows().count();
    }
  }
  return rows;
}

TEST_P(LiveReaderTest, WhatOutgrowsTheMastersMemoryComesInPartsBeforeItsCommit) {
  sql(fmt::format("ALTER DATABASE \"{}\" SET logical_decoding_work_mem = '64kB'",
                  value("SELECT current_database()")));
  const auto reader = read();
  sql("BEGIN; INSERT INTO t SELECT i, 'x' FROM generate_series(1, 3000) AS i; SAVEPOINT s;"
      "INSERT INTO t SELECT i, 'gone' FROM generate_series(3001, 6000) AS i; ROLLBACK TO s;"
      "INSERT INTO t SELECT i, 'y' FROM generate_series(3001, 6000) AS i; COMMIT");
  sql("INSERT INTO t VALUES (-1, 'small')");
  ASSERT_TRUE(wait_for_commits(*reader, 2));
  const auto batches = reader->sink().batches();
  const auto commit = std::find_if(batches.begin(), batches.end(), [](const auto& batch) {
    return batch->event == proto::StreamEvent::kCommit;
  });
  ASSERT_NE(commit, batches.end());
  EXPECT_GT((*commit)->end_lsn, MasterLsn{});
  ASSERT_TRUE((*commit)->described);
  EXPECT_EQ((*commit)->described->parts(0).relation().name(), "t");
  const auto begin = parts_of(*commit).front().begin();
  EXPECT_EQ(static_cast<std::uint32_t>(begin.xid()), (*commit)->stream_xid);
  EXPECT_EQ(begin.aborted_size(), 1);
  EXPECT_EQ(streamed_rows({batches.begin(), commit}, begin), 6000u);
  EXPECT_EQ(streamed_rows({commit, batches.end()}, begin), 0u);
  EXPECT_TRUE(succeeded(reader->stop()));
  EXPECT_FALSE(reader->mid_transaction());
}

TEST_P(LiveReaderTest, RowsOfOneShapeAreOneBlock) {
  sql("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 5000) AS i");
  const auto reader = read();
  ASSERT_TRUE(wait_for_commits(*reader, 1));
  std::uint64_t blocks = 0;
  for (const auto& batch : reader->sink().batches()) {
    std::uint64_t of_batch = 0;
    for (const auto& part : parts_of(batch)) of_batch += part.has_rows() ? 1u : 0u;
    EXPECT_LE(of_batch, 1u);
    blocks += of_batch;
  }
  EXPECT_GE(blocks, 1u);
  EXPECT_LT(blocks, 1000u);
}

TEST_P(LiveReaderTest, PositionsOnlyGrow) {
  for (int i = 0; i < 5; ++i) sql(fmt::format("INSERT INTO t VALUES ({})", i));
  const auto reader = read();
  ASSERT_TRUE(wait_for_commits(*reader, 5));
  MasterLsn newest = start_;
  pb::Begin begin;
  for (const auto& part : reader->sink().parts()) {
    if (part.has_begin()) begin = part.begin();
    if (!part.has_commit()) continue;
    EXPECT_EQ(part.commit().commit_lsn(), begin.commit_lsn());
    EXPECT_GE(part.commit().commit_lsn(), newest.value);
    EXPECT_GT(part.commit().end_lsn(), part.commit().commit_lsn());
    newest = MasterLsn{part.commit().end_lsn()};
  }
  EXPECT_GE(reader->sink().end_lsn(), newest);
  EXPECT_GE(reader->sink().newest_position(), newest);
  MasterLsn last;
  for (const auto& batch : reader->sink().batches()) {
    EXPECT_FALSE(batch->bytes.empty());
    if (!batch->end_lsn.valid()) continue;
    EXPECT_GT(batch->end_lsn, last);
    last = batch->end_lsn;
  }
  const auto clock_usec = std::stoll(value("SELECT (extract(epoch FROM now()) * 1e6)::bigint"));
  EXPECT_NEAR(static_cast<double>(reader->sink().master_clock_usec()),
              static_cast<double>(clock_usec), 30e6);
}

// Half of a small one is of no use to the receiver, which would have to wait for the rest.
TEST_P(LiveReaderTest, ASmallTransactionIsNeverTornApart) {
  const auto reader = read();
  for (int i = 0; i < 200; ++i) {
    sql(fmt::format("INSERT INTO t SELECT g, 'x' FROM generate_series({}, {}) AS g", 3 * i,
                    3 * i + 2));
  }
  ASSERT_TRUE(wait_for_commits(*reader, 200));
  for (const auto& batch : reader->sink().batches()) EXPECT_FALSE(batch->transaction_open);
}

TEST_P(LiveReaderTest, ATransactionLargerThanABatchComesInSeveral) {
  sql("INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 100) AS i");
  const auto reader = read(small_batches());
  ASSERT_TRUE(wait_for_commits(*reader, 1));
  ASSERT_TRUE(succeeded(reader->stop()));
  auto batches = reader->sink().batches();
  const auto idle = [](const proto::SharedBatch& batch) {
    return describe(parts_of(batch)).empty();
  };
  batches.erase(std::remove_if(batches.begin(), batches.end(), idle), batches.end());
  EXPECT_GT(batches.size(), 10u);
  EXPECT_TRUE(batches.front()->transaction_open);
  EXPECT_FALSE(batches.back()->transaction_open);
  const auto parts = reader->sink().parts();
  const auto begin = std::find_if(parts.begin(), parts.end(),
                                  [](const pb::Part& part) { return part.has_begin(); });
  ASSERT_NE(begin, parts.end());
  for (const auto& batch : batches) {
    EXPECT_EQ(batch->end_lsn.value > begin->begin().commit_lsn(), &batch == &batches.back());
  }
  EXPECT_EQ(rows_in(reader->sink().parts()), 100u);
}

// aclitem has no send function, though the server was asked for binary values.
TEST_P(LiveReaderTest, ColumnsComeInBinaryWhereTheirTypeCanBe) {
  sql("CREATE TYPE mood AS ENUM ('sad');"
      "CREATE TABLE typed (id int PRIMARY KEY, a aclitem, m mood, s text)");
  sql("INSERT INTO typed VALUES (7, 'postgres=r/postgres', 'sad', 'x'), (8, NULL, NULL, NULL)");
  const auto reader = read();
  const auto whole = [&] {
    const auto described = describe(reader->sink().parts());
    return rows_in(reader->sink().parts()) == 2 && described.back() == "commit";
  };
  ASSERT_TRUE(eventually(whole));
  const auto parts = reader->sink().parts();
  const auto described = describe(parts);
  const std::vector<std::string> expected{"begin", "type mood", "relation typed", "2 INSERT",
                                          "commit"};
  ASSERT_GE(described.size(), expected.size());
  EXPECT_EQ(std::vector<std::string>(described.end() - 5, described.end()), expected);
  std::vector<std::string> values;
  for (const auto& part : parts) {
    if (!part.has_rows()) continue;
    EXPECT_TRUE(!values.empty() || part.rows().formats() == "btbb") << part.rows().formats();
    for (const auto& row : rows_of(part.rows(), 4)) {
      for (const auto& value : row.new_tuple) values.emplace_back(value.bytes);
    }
  }
  using namespace std::string_literals;
  EXPECT_EQ(values, (std::vector<std::string>{"\0\0\0\x07"s, "postgres=r/postgres", "sad", "x",
                                              "\0\0\0\x08"s, "", "", ""}));
}

TEST_P(LiveReaderTest, AnUnchangedLargeValueIsNotSent) {
  sql("ALTER TABLE t ALTER v SET STORAGE EXTERNAL, ADD n int");
  sql("INSERT INTO t VALUES (1, repeat('x', 100000), 1)");
  sql("UPDATE t SET n = 2");
  const auto reader = read();
  ASSERT_TRUE(eventually([&] { return rows_in(reader->sink().parts()) == 2; }));
  pb::Rows update;
  for (const auto& part : reader->sink().parts()) {
    if (part.has_rows()) update = part.rows();
  }
  ASSERT_EQ(update.operation(), pb::UPDATE);
  const auto rows = rows_of(update, 3);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].new_tuple[1].kind, proto::ValueKind::kUnchanged);
  EXPECT_EQ(rows[0].new_tuple[2].kind, proto::ValueKind::kBinary);
  EXPECT_LT(update.tuples().size(), 100u);
}

// rule I1 needs it: without idle positions a quiet stream would hold all WAL.
TEST_P(LiveReaderTest, TheWalOfAnotherDatabaseMovesThePosition) {
  const auto reader = read();
  wait_for_walsender();
  for (const std::string name : {"first", "second"}) {
    harness::execute(cluster().conninfo(),
                     "CREATE TABLE IF NOT EXISTS elsewhere AS SELECT 1;"
                     "DROP TABLE elsewhere");
    const auto written = flushed_wal();
    EXPECT_TRUE(eventually([&] { return reader->sink().end_lsn() >= written; })) << name;
  }
  EXPECT_EQ(describe(reader->sink().parts()), std::vector<std::string>{});
}

TEST_P(LiveReaderTest, TheSlotFollowsWhatTheSinkConfirms) {
  sql("INSERT INTO t VALUES (1)");
  auto options = this->options();
  options.status_interval = seconds(30);  // it is the moved position that makes it report
  const auto reader = read(options);
  ASSERT_TRUE(wait_for_commits(*reader, 1));
  const auto end = reader->sink().end_lsn();
  EXPECT_LT(confirmed(), end) << "nothing is confirmed before the sink says so";
  reader->sink().confirm(end);
  reader->wake();
  EXPECT_TRUE(eventually([&] { return confirmed() >= end; }, seconds(5)));
  EXPECT_EQ(value(fmt::format("SELECT bool_and(p >= '{}') FROM pg_stat_replication, unnest(ARRAY["
                              "write_lsn, flush_lsn, replay_lsn]) AS p",
                              to_string(end))),
            "t");
}

// The walsender cuts off a client that is silent for wal_sender_timeout.
TEST_P(LiveReaderTest, ASinkWithoutRoomDoesNotCostTheConnection) {
  sql(fmt::format("ALTER DATABASE \"{}\" SET wal_sender_timeout = '2s'",
                  value("SELECT current_database()")));
  const auto reader = read();
  const auto walsender = wait_for_walsender();
  reader->sink().accept_at_most(0);
  sql("INSERT INTO t VALUES (1)");
  ASSERT_TRUE(eventually([&] { return reader->sink().refusals() >= 35; }));
  EXPECT_EQ(this->walsender(), walsender);
  reader->sink().accept_at_most(kAll);
  sql("INSERT INTO t VALUES (2)");
  EXPECT_TRUE(eventually([&] { return rows_in(reader->sink().parts()) >= 2; }));
  EXPECT_EQ(rows_in(reader->sink().parts()), 2u) << "refused, offered again, taken once";
}

TEST_P(LiveReaderTest, ARequestedReplyIsAnsweredAtOnce) {
  sql(fmt::format("ALTER DATABASE \"{}\" SET wal_sender_timeout = '2s'",
                  value("SELECT current_database()")));
  auto options = this->options();
  options.status_interval = seconds(60);
  const auto reader = read(options);
  const auto walsender = wait_for_walsender();
  const auto aged = [&] {
    return value(
               "SELECT coalesce(bool_or(clock_timestamp() - backend_start > '4 s'), true)"
               " FROM pg_stat_replication") == "t";
  };
  ASSERT_TRUE(eventually(aged));
  EXPECT_EQ(this->walsender(), walsender);
  EXPECT_TRUE(reader->running());
}

TEST_P(LiveReaderTest, ARestartWaitsForTheEndOfTheTransaction) {
  sql("INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 100) AS i");
  const auto reader = read(small_batches());
  reader->sink().accept_at_most(1);
  ASSERT_TRUE(eventually([&] { return reader->sink().refusals() > 0; }));
  reader->sink().want_restart();
  reader->sink().accept_at_most(kAll);
  EXPECT_TRUE(succeeded(reader->outcome()));
  EXPECT_EQ(reader->sink().commits(), 1u);
  EXPECT_EQ(rows_in(reader->sink().parts()), 100u);
  EXPECT_FALSE(reader->mid_transaction());
}

TEST_P(LiveReaderTest, ARestartIsGrantedAtOnceWhenIdle) {
  const auto reader = read();
  wait_for_walsender();
  reader->sink().want_restart();
  reader->wake();
  EXPECT_TRUE(succeeded(reader->outcome()));
}

TEST_P(LiveReaderTest, StopEndsItWithinASecond) {
  sql("INSERT INTO t VALUES (1)");
  for (const std::size_t accepted : {kAll, std::size_t{0}}) {
    SCOPED_TRACE(accepted);
    const auto reader = read();
    reader->sink().accept_at_most(accepted);
    ASSERT_TRUE(
        eventually([&] { return reader->sink().commits() == 1 || reader->sink().refusals() > 0; }));
    const auto asked = Clock::now();
    EXPECT_TRUE(succeeded(reader->stop()));
    EXPECT_LT(Clock::now() - asked, seconds(1));
    EXPECT_TRUE(eventually([&] { return walsender() == "0"; }));
  }
}

TEST_P(LiveReaderTest, ATransactionWhoseEndWasNotTakenIsUnfinished) {
  sql("INSERT INTO t VALUES (1, repeat('x', 5000))");
  const auto reader = read(small_batches());
  reader->sink().refuse_commits();
  ASSERT_TRUE(eventually([&] { return reader->sink().refusals() > 0; }));
  EXPECT_EQ(rows_in(reader->sink().parts()), 1u);
  EXPECT_TRUE(succeeded(reader->stop()));
  EXPECT_TRUE(reader->mid_transaction());
}

TEST_P(LiveReaderTest, ATerminatedWalsenderHeals) {
  sql("INSERT INTO t VALUES (1)");
  {
    const auto reader = read();
    ASSERT_TRUE(wait_for_commits(*reader, 1));
    sql("SELECT pg_terminate_backend(" + wait_for_walsender() + ")");
    const auto outcome = reader->outcome();
    ASSERT_FALSE(outcome.ok());
    EXPECT_EQ(outcome.error().code, ErrorCode::kMaster);
    EXPECT_TRUE(outcome.error().heals()) << one_line(outcome.error());
    EXPECT_FALSE(reader->mid_transaction());
  }
  ASSERT_TRUE(eventually([&] { return !(*find_slot(master(), "main"))->active_pid.has_value(); }));
  const auto reader = read();
  EXPECT_TRUE(wait_for_commits(*reader, 1)) << "nothing was confirmed: it comes again";
}

TEST_P(LiveReaderTest, ABusySlotHeals) {
  const auto first = read();
  wait_for_walsender();
  const auto second = read();
  const auto outcome = second->outcome();
  ASSERT_FALSE(outcome.ok());
  EXPECT_TRUE(outcome.error().heals()) << one_line(outcome.error());
  EXPECT_NE(outcome.error().hint.find("another process"), std::string::npos);
  EXPECT_TRUE(first->running());
}

TEST_P(LiveReaderTest, ASlotThatIsGoneStops) {
  ASSERT_TRUE(*drop_slot(master(), "main"));
  const auto outcome = read()->outcome();
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().code, ErrorCode::kMaster);
  EXPECT_FALSE(outcome.error().heals());
  EXPECT_NE(outcome.error().message.find("main"), std::string::npos) << one_line(outcome.error());
}

// From 18 on the master itself only warns, and leaves the changes out.
TEST_P(LiveReaderTest, APublicationThatIsGoneStops) {
  const auto reader = read();
  sql("INSERT INTO t VALUES (1)");
  ASSERT_TRUE(wait_for_commits(*reader, 1));
  sql("DROP PUBLICATION \"the p\"; INSERT INTO t VALUES (2)");
  sql("INSERT INTO t VALUES (3)");
  const auto outcome = reader->outcome();
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().code, ErrorCode::kMaster);
  EXPECT_FALSE(outcome.error().heals()) << one_line(outcome.error());
  EXPECT_NE(outcome.error().message.find("the p"), std::string::npos) << one_line(outcome.error());
}

TEST_P(LiveReaderTest, SpeaksTheNewestProtocolTheServerKnows) {
  const auto attempt = [&](std::uint32_t protocol) -> Result<void> {
    ASSIGN_OR_RETURN(auto connected, MasterConnector(conninfo(), "reader").connect());
    ReplicationConnection connection(std::move(connected));
    return connection.start_replication(
        "main", start_,
        {{"proto_version", std::to_string(protocol)}, {"publication_names", "\"the p\""}});
  };
  const auto newest = proto_version_for(version() * 10000);
  EXPECT_EQ(newest, std::min(version() - 12, 4));
  EXPECT_TRUE(succeeded(attempt(newest)));
  ASSERT_TRUE(eventually([&] { return !(*find_slot(master(), "main"))->active_pid.has_value(); }));
  const auto refused = attempt(newest + 1);
  ASSERT_FALSE(refused.ok());
  EXPECT_FALSE(refused.error().heals()) << one_line(refused.error());
}

ON_EVERY_VERSION(LiveReaderTest);

}  // namespace
}  // namespace bitacora::wal
