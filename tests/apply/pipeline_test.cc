#include "apply/pipeline.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "apply/standby_session.h"
#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::apply {
namespace {

constexpr Oid kText = 25;
constexpr Oid kInt4 = 23;

class PipelineTest : public testing::Test {
 protected:
  PipelineTest() : session_(connect()) {}

  static StandbySession connect() {
    auto session = StandbySession::connect(harness::shared_standby().conninfo(), "pipeline test");
    if (!session.ok()) throw std::runtime_error(one_line(session.error()));
    return std::move(session).value();
  }

  // Every reply as its status, or the value it brought.
  Pipeline::OnReply noting() {
    return [this](const PGresult* reply) -> Result<void> {
      const auto status = PQresultStatus(reply);
      if (status == PGRES_TUPLES_OK) {
        replies_.emplace_back(PQgetvalue(reply, 0, 0));
      } else if (status == PGRES_FATAL_ERROR) {
        replies_.emplace_back(PQresultErrorField(reply, PG_DIAG_SQLSTATE));
      } else {
        replies_.emplace_back(PQresStatus(status));
      }
      return {};
    };
  }

  static Parameters text(const std::string& value) {
    Parameters parameters;
    parameters.values = {value.c_str()};
    parameters.lengths = {static_cast<int>(value.size())};
    parameters.formats = {0};
    return parameters;
  }

  PGconn* connection() { return session_.connection(); }

  StandbySession session_;
  std::vector<std::string> replies_;
};

void must(const Result<void>& result) { ASSERT_TRUE(result.ok()) << one_line(result.error()); }

TEST_F(PipelineTest, ThousandsOfCommandsAreAnsweredInOrder) {
  constexpr std::size_t kCommands = 30'000;
  Pipeline pipeline(connection(), noting());
  must(pipeline.prepare("echo", "SELECT $1", {kText}));
  for (std::size_t i = 0; i < kCommands; ++i) {
    const auto value = std::to_string(i);
    must(pipeline.execute("echo", text(value)));
    if (i % 10'000 == 0) must(pipeline.sync());
  }
  must(pipeline.finish());
  std::vector<std::string> expected{"PGRES_COMMAND_OK"};
  for (std::size_t i = 0; i < kCommands; ++i) {
    expected.push_back(std::to_string(i));
    if (i % 10'000 == 0) expected.emplace_back("PGRES_PIPELINE_SYNC");
  }
  EXPECT_EQ(replies_, expected);
}

// Sent minus answered never exceeds the limits by more than the command just sent.
TEST_F(PipelineTest, WhatIsOnItsWayStaysInBounds) {
  struct Case {
    const char* name;
    PipelineLimits limits;
    std::size_t value_bytes;
    std::size_t unanswered_max;
  };
  for (const Case& c :
       {Case{"by number", {16, 1u << 20}, 1, 16}, Case{"by bytes", {4096, 64u << 10}, 16u << 10, 4},
        Case{"a larger one passes alone", {4096, 1024}, 100'000, 1}}) {
    SCOPED_TRACE(c.name);
    StandbySession session = connect();
    replies_.clear();
    Pipeline pipeline(session.connection(), noting(), c.limits);
    must(pipeline.prepare("size", "SELECT length($1)", {kText}));
    const std::string value(c.value_bytes, 'x');
    for (std::size_t sent = 2; sent < 200; ++sent) {
      must(pipeline.execute("size", text(value)));
      ASSERT_LE(sent - replies_.size(), c.unanswered_max);
    }
    must(pipeline.finish());
    EXPECT_EQ(replies_.size(), 199u);
  }
}

TEST_F(PipelineTest, MegabytesGoBothWaysWithoutADeadlock) {
  constexpr std::size_t kMebibyte = 1u << 20;
  const std::string value(kMebibyte, 'x');
  std::size_t whole = 0;
  Pipeline pipeline(connection(), [&](const PGresult* reply) -> Result<void> {
    if (PQresultStatus(reply) == PGRES_TUPLES_OK) whole += PQgetvalue(reply, 0, 0) == value;
    return {};
  });
  must(pipeline.prepare("echo", "SELECT $1", {kText}));
  for (int i = 0; i < 64; ++i) must(pipeline.execute("echo", text(value)));
  must(pipeline.finish());
  EXPECT_EQ(whole, 64u);
}

TEST_F(PipelineTest, BinaryResultsAndNullsAndNoParameters) {
  std::string bytes;
  Pipeline pipeline(connection(), [&](const PGresult* reply) -> Result<void> {
    if (PQresultStatus(reply) != PGRES_TUPLES_OK) return {};
    bytes += PQgetisnull(reply, 0, 0) != 0
                 ? "NULL"
                 : std::string(PQgetvalue(reply, 0, 0),
                               static_cast<std::size_t>(PQgetlength(reply, 0, 0)));
    return {};
  });
  must(pipeline.prepare("constant", "SELECT 258", {}));
  must(pipeline.execute("constant", {}, true));
  must(pipeline.prepare("echo", "SELECT $1", {kInt4}));
  Parameters null;
  null.values = {nullptr};
  null.lengths = {0};
  null.formats = {1};
  must(pipeline.execute("echo", null, true));
  must(pipeline.finish());
  EXPECT_EQ(bytes, std::string("\0\0\1\2NULL", 8));
}

// The server skips what follows an error up to the next sync; from there it takes commands again.
TEST_F(PipelineTest, AfterAnErrorTheNextSyncBeginsAfresh) {
  Pipeline pipeline(connection(), noting());
  must(pipeline.prepare("divide", "SELECT 6 / $1::int", {kText}));
  for (const char* by : {"3", "0", "2"}) must(pipeline.execute("divide", text(by)));
  must(pipeline.sync());
  must(pipeline.execute("divide", text("1")));
  must(pipeline.sync());
  must(pipeline.finish());
  EXPECT_EQ(replies_,
            (std::vector<std::string>{"PGRES_COMMAND_OK", "2", "22012", "PGRES_PIPELINE_ABORTED",
                                      "PGRES_PIPELINE_SYNC", "6", "PGRES_PIPELINE_SYNC"}));
}

TEST_F(PipelineTest, AnErrorOfTheCallbackSurfacesFromTheNextCallThatReads) {
  int replies = 0;
  Pipeline pipeline(connection(), [&](const PGresult* reply) -> Result<void> {
    ++replies;
    if (PQresultStatus(reply) != PGRES_FATAL_ERROR) return {};
    return Error{ErrorCode::kStandby, PQresultErrorField(reply, PG_DIAG_SQLSTATE)};
  });
  must(pipeline.prepare("divide", "SELECT 6 / $1::int", {kText}));
  for (const char* by : {"3", "0", "2"}) must(pipeline.execute("divide", text(by)));
  const auto finished = pipeline.finish();
  ASSERT_FALSE(finished.ok());
  EXPECT_EQ(finished.error().message, "22012");
  EXPECT_EQ(replies, 3) << "nothing is read after the error";
}

TEST_F(PipelineTest, AnErrorSurfacesWhileStillSending) {
  constexpr int kEnough = 1'000'000;
  Pipeline pipeline(connection(), [](const PGresult* reply) -> Result<void> {
    if (PQresultStatus(reply) != PGRES_FATAL_ERROR) return {};
    return Error{ErrorCode::kStandby, "stop"};
  });
  must(pipeline.prepare("divide", "SELECT 6 / $1::int", {kText}));
  int sent = 0;
  while (sent < kEnough && pipeline.execute("divide", text("0")).ok()) ++sent;
  EXPECT_LT(sent, 10'000);
}

TEST_F(PipelineTest, ALostConnectionHeals) {
  const auto conninfo = harness::shared_standby().conninfo();
  Pipeline pipeline(connection(), [&](const PGresult* reply) -> Result<void> {
    const auto status = PQresultStatus(reply);
    if (status == PGRES_FATAL_ERROR) return standby_error(connection(), reply, "refused");
    return {};
  });
  must(pipeline.prepare("echo", "SELECT $1", {kText}));
  must(pipeline.sync());
  must(pipeline.finish());
  harness::execute(
      conninfo, fmt::format("SELECT pg_terminate_backend({}, 10000)", PQbackendPID(connection())));
  auto lost = pipeline.execute("echo", text("x"));
  if (lost.ok()) lost = pipeline.finish();
  ASSERT_FALSE(lost.ok());
  EXPECT_EQ(lost.error().code, ErrorCode::kStandby);
  EXPECT_TRUE(lost.error().heals()) << one_line(lost.error());
  EXPECT_FALSE(pipeline.finish().ok()) << "it stays lost";
}

TEST_F(PipelineTest, FinishWithNothingSentReturnsAtOnce) {
  Pipeline pipeline(connection(), noting());
  must(pipeline.finish());
  must(pipeline.prepare("echo", "SELECT $1", {kText}));
  must(pipeline.finish());
  must(pipeline.finish());
  EXPECT_EQ(replies_.size(), 1u);
}

}  // namespace
}  // namespace bitacora::apply
