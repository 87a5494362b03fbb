#include "wal/part_reader.h"

#include <algorithm>
#include <future>
#include <pqxx/pqxx>
#include <sstream>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tests/postgres/database.h"
#include "tests/wal/copy_fixture.h"

namespace bitacora::wal {
namespace {

using harness::eventually;

struct Copied {
  std::string bytes;
  std::size_t pieces = 0;
  std::size_t largest = 0;
  pb::CopyPartEnd end;
};

class PartReaderTest : public CopyFixture {
 protected:
  std::unique_ptr<PartReader> open(const CopySnapshot& in) const {
    auto reader = PartReader::open(conninfo(), in.name());
    if (!reader.ok()) throw std::runtime_error(one_line(reader.error()));
    return std::move(reader).value();
  }

  static Result<Copied> try_read(PartReader& reader, const CopyPlanTable& table,
                                 const pb::CopyPart& part, const OnWaiting& waiting = {}) {
    Copied copied;
    const auto sink = [&](std::string_view piece) {
      copied.bytes += piece;
      copied.largest = std::max(copied.largest, piece.size());
      ++copied.pieces;
      return Result<void>();
    };
    ASSIGN_OR_RETURN(copied.end, reader.read(table, part, sink, waiting));
    EXPECT_EQ(copied.end.bytes(), copied.bytes.size());
    return copied;
  }
  static Copied read(PartReader& reader, const CopyPlanTable& table, const pb::CopyPart& part) {
    auto copied = try_read(reader, table, part);
    if (!copied.ok()) throw std::runtime_error(one_line(copied.error()));
    return std::move(copied).value();
  }
  Copied read_whole(const std::string& table) const {
    auto in = snapshot();
    const auto planned = plan(in, table);
    return read(*open(in), planned, whole(planned));
  }

  // COPY's own output, of another table of that shape or the same.
  void write(const std::string& table, const std::string& bytes, bool binary) const {
    auto connected = MasterConnector(conninfo(), "test", MasterConnector::Mode::kSql).connect();
    ASSERT_TRUE(succeeded(connected));
    PGconn* pq = connected->get();
    const auto copy = fmt::format("COPY public.{} FROM STDIN{}", table, binary ? " BINARY" : "");
    const MasterResult begun(PQexec(pq, copy.c_str()));
    ASSERT_EQ(PQresultStatus(begun.get()), PGRES_COPY_IN) << PQerrorMessage(pq);
    PQputCopyData(pq, bytes.data(), static_cast<int>(bytes.size()));
    PQputCopyEnd(pq, nullptr);
    const MasterResult ended(PQgetResult(pq));
    EXPECT_EQ(PQresultStatus(ended.get()), PGRES_COMMAND_OK) << PQerrorMessage(pq);
  }
};

std::string sorted_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  std::sort(lines.begin(), lines.end());
  return fmt::format("{}", fmt::join(lines, "\n"));
}

// Row ranges of pages are a partition of the table: each row is in one of them.
TEST_P(PartReaderTest, PartsTogetherAreTheTable) {
  sql("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE copy (LIKE t);"
      "CREATE PUBLICATION p FOR TABLE t;"
      "INSERT INTO t SELECT i, repeat(md5(i::text), 5) FROM generate_series(1, 2000) i;"
      "UPDATE t SET v = 'b' WHERE id % 7 = 0; DELETE FROM t WHERE id % 11 = 0");
  for (const bool binary : {false, true}) {
    SCOPED_TRACE(binary ? "binary" : "text");
    sql("TRUNCATE copy");
    auto in = snapshot();
    const auto planned = plan(in, "t");
    const auto pages = planned.plan.pieces(0).pages();
    ASSERT_GT(pages, 10u);
    const auto reader = open(in);
    auto part = whole(planned);
    part.set_binary(binary);
    std::uint64_t rows = 0;
    for (const auto& [begin, end] :
         {std::pair<std::uint64_t, std::uint64_t>{0, 3}, {3, 9}, {9, 0}}) {
      part.set_begin_page(begin);
      part.set_end_page(end);
      const auto copied = read(*reader, planned, part);
      EXPECT_GT(copied.end.rows(), 0u);
      rows += copied.end.rows();
      write("copy", copied.bytes, binary);
    }
    EXPECT_EQ(std::to_string(rows), value("SELECT count(*) FROM t"));
    EXPECT_EQ(harness::table_content(conninfo(), "public.copy"),
              harness::table_content(conninfo(), "public.t"));
  }
}

// As it was, not as it is: rows that came, went and changed since.
TEST_P(PartReaderTest, ReadsWhatTheSnapshotSaw) {
  sql("CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION p "
      "FOR TABLE t;"
      "INSERT INTO t VALUES (1, 'a'), (2, NULL), (3, E'tab\\tand\\nline')");
  auto in = snapshot();
  const auto planned = plan(in, "t");
  sql("DELETE FROM t WHERE id = 1; UPDATE t SET v = 'new'; INSERT INTO t VALUES (4, 'd')");
  const auto reader = open(in);
  EXPECT_EQ(read(*reader, planned, whole(planned)).bytes, "1\ta\n2\t\\N\n3\ttab\\tand\\nline\n");
  auto part = whole(planned);
  part.set_end_page(1);
  EXPECT_EQ(sorted_lines(read(*reader, planned, part).bytes), "1\ta\n2\t\\N\n3\ttab\\tand\\nline");
}

TEST_P(PartReaderTest, JoinsRowsAndLeavesLargeOnesAlone) {
  sql("CREATE TABLE t (v text); CREATE PUBLICATION p FOR TABLE t;"
      "INSERT INTO t SELECT repeat('x', 99) FROM generate_series(1, 10000);"
      "INSERT INTO t VALUES (repeat('y', 1000000)), ('z')");
  const auto copied = read_whole("t");
  EXPECT_EQ(copied.end.rows(), 10002u);
  EXPECT_EQ(copied.bytes.size(), 10000u * 100 + 1000001 + 2);
  EXPECT_EQ(copied.largest, 1000001u);
  EXPECT_EQ(copied.pieces, 8u + 2u)
      << "a million bytes in pieces of 128 KiB, the large row, the last";
}

TEST_P(PartReaderTest, RowsWithoutColumnsAreRows) {
  sql("CREATE TABLE bare (); CREATE TABLE copy (); CREATE PUBLICATION p FOR TABLE bare;"
      "INSERT INTO bare DEFAULT VALUES; INSERT INTO bare DEFAULT VALUES");
  auto in = snapshot();
  const auto planned = plan(in, "bare");
  const auto reader = open(in);
  for (const bool binary : {false, true}) {
    auto part = whole(planned);
    part.set_binary(binary);
    const auto copied = read(*reader, planned, part);
    EXPECT_EQ(copied.end.rows(), 2u);
    if (!binary) {
      EXPECT_EQ(copied.bytes, "\n\n");
    }
    write("copy", copied.bytes, binary);
  }
  EXPECT_EQ(value("SELECT count(*) FROM copy"), "4");
}

TEST_P(PartReaderTest, OnlyTheTableItselfInTheColumnsAskedFor) {
  sql("CREATE TABLE parent (id int, \"a\"\"b\" text, c int); CREATE TABLE child () INHERITS "
      "(parent);"
      "CREATE PUBLICATION p FOR TABLE parent;"
      "INSERT INTO parent VALUES (1, 'x', 3); INSERT INTO child VALUES (2, 'y', 4)");
  auto in = snapshot();
  const auto planned = plan(in, "parent");
  const auto reader = open(in);
  auto part = whole(planned);
  part.clear_columns();
  part.add_columns("c");
  part.add_columns("a\"b");
  for (const auto end_page : {0u, 100u}) {
    part.set_end_page(end_page);
    EXPECT_EQ(read(*reader, planned, part).bytes, "3\tx\n");
  }
}

TEST_P(PartReaderTest, APartitionHasTheRootsNamesAndFilter) {
  sql("CREATE TABLE root (id int, v text) PARTITION BY RANGE (id);"
      "CREATE TABLE odd_shape (gone int, v text, id int NOT NULL); ALTER TABLE odd_shape DROP gone;"
      "ALTER TABLE root ATTACH PARTITION odd_shape FOR VALUES FROM (0) TO (10);"
      "INSERT INTO root VALUES (1, 'a'), (2, 'b')");
  sql(version() < 15 ? "CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root)"
                     : "CREATE PUBLICATION p FOR TABLE root WHERE (id > 1) WITH "
                       "(publish_via_partition_root)");
  EXPECT_EQ(read_whole("root").bytes, version() < 15 ? "1\ta\n2\tb\n" : "2\tb\n");
}

TEST_P(PartReaderTest, NothingIsReadThatIsNotInThePlan) {
  if (version() < 15) GTEST_SKIP() << "column lists came with PostgreSQL 15";
  sql("CREATE TABLE t (id int, secret text); CREATE PUBLICATION p FOR TABLE t (id)");
  auto in = snapshot();
  const auto planned = plan(in, "t");
  const auto reader = open(in);
  auto part = whole(planned);
  part.add_columns("secret");
  const auto column = try_read(*reader, planned, part);
  ASSERT_FALSE(column.ok());
  EXPECT_EQ(column.error().code, ErrorCode::kState);
  EXPECT_NE(column.error().message.find("column secret"), std::string::npos);
  part = whole(planned);
  part.set_piece_oid(1259);
  const auto piece = try_read(*reader, planned, part);
  ASSERT_FALSE(piece.ok());
  EXPECT_NE(piece.error().message.find("piece 1259"), std::string::npos);
}

// The snapshot does not find its rows in a new file.
TEST_P(PartReaderTest, ATableThatHasChangedSinceTheSnapshotIsNotTakenForEmpty) {
  struct Case {
    std::string name;
    std::string change;
  };
  const std::vector<Case> cases{
      {"truncated", "TRUNCATE t"},
      {"rewritten", "ALTER TABLE t ALTER id TYPE bigint"},
      {"clustered", "CLUSTER t USING t_pkey"},
      {"exchanged", "ALTER TABLE t RENAME TO old; CREATE TABLE t (id bigint PRIMARY KEY)"},
      {"dropped", "DROP TABLE t"},
      {"without the column", "ALTER TABLE t RENAME id TO other"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    sql("DROP TABLE IF EXISTS t, old; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES "
        "(1);"
        "DROP PUBLICATION IF EXISTS p; CREATE PUBLICATION p FOR TABLE t");
    auto in = snapshot();
    const auto planned = plan(in, "t");
    sql(c.change);
    const auto copied = try_read(*open(in), planned, whole(planned));
    ASSERT_FALSE(copied.ok());
    EXPECT_EQ(copied.error().code, ErrorCode::kState) << one_line(copied.error());
    EXPECT_NE(copied.error().message.find("public.t cannot be copied as it was"), std::string::npos)
        << one_line(copied.error());
  }
}

TEST_P(PartReaderTest, NamesWhoHasTheTableLockedAndGoesOnThen) {
  sql("CREATE TABLE t (id int); INSERT INTO t VALUES (1); CREATE PUBLICATION p FOR TABLE t");
  auto in = snapshot();
  const auto planned = plan(in, "t");
  const auto reader = open(in);
  pqxx::connection session(conninfo());
  auto lock = std::make_unique<pqxx::work>(session);
  lock->exec("LOCK TABLE t\n  IN ACCESS EXCLUSIVE MODE /* " + std::string(100, '-') + " */");
  Heard heard;
  auto reading = std::async(std::launch::async, [&] {
    return try_read(*reader, planned, whole(planned), heard.listener());
  });
  EXPECT_TRUE(eventually([&] { return heard.times() == 2; }));
  EXPECT_NE(heard.last().find(
                fmt::format("table public.t is locked by pid {} (idle in transaction since 20",
                            session.backendpid())),
            std::string::npos)
      << heard.last();
  EXPECT_NE(heard.last().find("query: LOCK TABLE t IN ACCESS EXCLUSIVE MODE /* ---"),
            std::string::npos)
      << heard.last();
  EXPECT_LT(heard.last().size(), 220u) << heard.last();
  lock.reset();
  const auto copied = reading.get();
  ASSERT_TRUE(succeeded(copied));
  EXPECT_EQ(copied->bytes, "1\n");
}

TEST_P(PartReaderTest, CancelEndsAReadThatWaitsAndOneThatRuns) {
  sql("CREATE TABLE t (v text); CREATE PUBLICATION p FOR TABLE t;"
      "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
  auto in = snapshot();
  const auto planned = plan(in, "t");
  {
    const auto reader = open(in);
    pqxx::connection session(conninfo());
    pqxx::work lock(session);
    lock.exec("LOCK TABLE t");
    auto reading =
        std::async(std::launch::async, [&] { return try_read(*reader, planned, whole(planned)); });
    ASSERT_TRUE(eventually(
        [&] { return value("SELECT count(*) FROM pg_locks WHERE NOT granted") == "1"; }));
    reader->cancel();
    ASSERT_EQ(reading.wait_for(std::chrono::seconds(3)), std::future_status::ready);
    EXPECT_FALSE(reading.get().ok());
  }
  const auto reader = open(in);
  int pieces = 0;
  const auto sink = [&](std::string_view) {
    if (++pieces == 3) reader->cancel();
    return Result<void>();
  };
  const auto end = reader->read(planned, whole(planned), sink, {});
  ASSERT_FALSE(end.ok());
  EXPECT_NE(end.error().message.find("public.t"), std::string::npos);
  EXPECT_EQ(pieces, 3);
}

TEST_P(PartReaderTest, TheSinksErrorIsTheReadersAndTheMasterStops) {
  sql("CREATE TABLE t (v text); CREATE PUBLICATION p FOR TABLE t;"
      "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
  auto in = snapshot();
  const auto planned = plan(in, "t");
  const auto reader = open(in);
  const auto end = reader->read(planned, whole(planned),
                                [](std::string_view) {
                                  // Meanwhile the master fills the socket, and waits there.
                                  std::this_thread::sleep_for(std::chrono::milliseconds(300));
                                  return Result<void>(Error{ErrorCode::kNetwork, "full"});
                                },
                                {});
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.error().code, ErrorCode::kNetwork);
  EXPECT_TRUE(eventually([&] {
    return value(
               "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = "
               "'active'") == "0";
  }));
}

ON_EVERY_VERSION(PartReaderTest);

}  // namespace
}  // namespace bitacora::wal
