// How the copy calls end before their time: refused, stopped, cancelled, cut.
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <future>
#include <vector>

#include "tests/transport/copy_calls_under_test.h"

namespace bitacora::transport {
namespace {

using Clock = std::chrono::steady_clock;
using Parts = PlayedCopySource::Parts;

constexpr std::chrono::seconds kPromptly{3};

using CopyEndingsTest = CopyCallsTest;

const PlayedCopySource::Read kBlocks = [](Parts& parts, const pb::CopyPart&, const CopySink&,
                                          const OnWaiting&) -> Result<pb::CopyPartEnd> {
  return parts.blocked_until_cancelled();
};

TEST_F(CopyEndingsTest, AStopEndsTheSourcesBegin) {
  source_.on_begin = [&](const pb::BeginCopyRequest&, const OnWaiting&,
                         const std::stop_token& stop) -> Result<pb::CopyPlan> {
    return source_.blocked_until_stopped(stop);
  };
  std::stop_source stop;
  auto plan = std::async(std::launch::async,
                         [&] { return client_->begin({}, not_waiting, stop.get_token()); });
  ASSERT_TRUE(source_.noted.wait_for("blocked"));
  const auto asked = Clock::now();
  stop.request_stop();
  const auto stopped = plan.get();
  ASSERT_FALSE(stopped.ok());
  EXPECT_TRUE(stopped.error().heals());
  ASSERT_TRUE(source_.noted.wait_for("stopped"));
  EXPECT_LT(Clock::now() - asked, kPromptly);
}

// What is refused, and in which call: everything of an error crosses but its code when it heals.
TEST_F(CopyEndingsTest, AnErrorOfTheSourceCrossesWholeWithItsHint) {
  const Error refusal{ErrorCode::kState, "la instantánea «1» ya no está", "begin → again\nnow"};
  source_.on_begin = [&](const auto&...) -> Result<pb::CopyPlan> { return refusal; };
  source_.on_end = [&](const auto&...) -> Result<void> { return refusal; };
  source_.on_dump_schema = [&](const auto&...) -> Result<pb::DumpedSchema> { return refusal; };
  source_.on_read = [&](Parts&, const pb::CopyPart&, const CopySink& sink,
                        const OnWaiting&) -> Result<pb::CopyPartEnd> {
    RETURN_IF_ERROR(sink(random_bytes(3 * kMegabyte)));
    return refusal;
  };
  const auto parts = open();
  const auto in_the_middle = read(*parts);
  EXPECT_GT(in_the_middle.content.size(), 0u);
  source_.refuse_open = refusal;
  const auto not_opened = open();
  struct Case {
    std::string name;
    Error error;
  };
  for (const Case& c :
       {Case{"begin", client_->begin({}, not_waiting).error()},
        Case{"end", client_->end({}).error()}, Case{"dump", client_->dump_schema({}).error()},
        Case{"in the middle of a part", in_the_middle.end.error()},
        Case{"open", read(*not_opened).end.error()},
        Case{"a read after it", read(*not_opened).end.error()}}) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(c.error.code, refusal.code);
    EXPECT_EQ(c.error.recovery, refusal.recovery);
    EXPECT_EQ(c.error.hint, refusal.hint);
    EXPECT_NE(c.error.message.find(refusal.message), std::string::npos) << c.error.message;
  }
}

TEST_F(CopyEndingsTest, WhatHealsHeals) {
  source_.on_read = [&](const auto&...) -> Result<pb::CopyPartEnd> {
    return Error{ErrorCode::kMaster, "the master restarts", {}, Recovery::kRetry};
  };
  const auto parts = open();
  const auto error = read(*parts).end.error();
  EXPECT_EQ(error.code, ErrorCode::kNetwork);
  EXPECT_TRUE(error.heals());
  source_.on_read = plays("x", 1);
  const auto again = open();
  EXPECT_TRUE(read(*again).end.ok()) << "the channel goes on";
}

// A COPY that waits for a lock, whose reader goes away in one way or another.
TEST_F(CopyEndingsTest, ACancelReachesASourceThatDeliversNothing) {
  source_.on_read = kBlocks;
  const auto parts = open();
  auto part = std::async(std::launch::async, [&] { return read(*parts); });
  ASSERT_TRUE(source_.noted.wait_for("blocked"));
  const auto asked = Clock::now();
  parts->cancel();
  const auto cancelled = part.get();
  ASSERT_FALSE(cancelled.end.ok());
  EXPECT_TRUE(cancelled.end.error().heals());
  ASSERT_TRUE(source_.noted.wait_for("closed"));
  EXPECT_LT(Clock::now() - asked, kPromptly);
  EXPECT_GE(source_.noted.times("cancelled"), 1);
}

TEST_F(CopyEndingsTest, ACancelBeforeOrBetweenReadsCounts) {
  source_.on_read = plays("x", 1);
  const auto before = open();
  before->cancel();
  EXPECT_FALSE(read(*before).end.ok());
  const auto between = open();
  ASSERT_TRUE(read(*between).end.ok());
  between->cancel();
  between->cancel();
  EXPECT_FALSE(read(*between).end.ok());
  between->cancel();
}

TEST_F(CopyEndingsTest, ASinkThatRefusesEndsTheSourcesRead) {
  std::promise<Error> sources_error;
  source_.on_read = [&](Parts&, const pb::CopyPart&, const CopySink& sink,
                        const OnWaiting&) -> Result<pb::CopyPartEnd> {
    const auto row = random_bytes(kMegabyte);
    for (const auto began = Clock::now(); Clock::now() - began < std::chrono::seconds(20);) {
      const auto sent = sink(row);
      if (sent.ok()) continue;
      sources_error.set_value(sent.error());
      return sent.error();
    }
    return ended(0, 0);
  };
  const auto parts = open();
  const auto refuses = [](std::string_view) -> Result<void> {
    return Error{ErrorCode::kStandby, "the standby refused"};
  };
  const auto refused = parts->read({}, refuses, not_waiting);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kStandby);
  EXPECT_EQ(refused.error().message, "the standby refused");
  auto sources = sources_error.get_future();
  ASSERT_EQ(sources.wait_for(kPromptly), std::future_status::ready);
  EXPECT_TRUE(sources.get().heals());
  EXPECT_FALSE(read(*parts).end.ok()) << "after an error it is of no more use";
}

TEST_F(CopyEndingsTest, AReaderThatIsDestroyedLetsTheSourceGo) {
  source_.on_read = plays("x", 1);
  auto parts = open();
  ASSERT_TRUE(read(*parts).end.ok());
  parts.reset();
  EXPECT_TRUE(source_.noted.wait_for("closed"));
  parts = open();
  parts.reset();  // before it was read from
}

// A receiver that dies: its process, and with it the connection, ends while a part comes.
TEST_F(CopyEndingsTest, AReceiverThatDiesMidPartLetsTheSourceGo) {
  source_.on_read = kBlocks;
  const auto channel = grpc::CreateChannel(sender_->address(), grpc::InsecureChannelCredentials());
  {
    const auto stub = pb::Replication::NewStub(channel);
    grpc::ClientContext context;
    const auto stream = stub->CopyTable(&context);
    pb::CopyRequest request;
    request.mutable_opening();
    ASSERT_TRUE(stream->Write(request));
    request.mutable_part();
    ASSERT_TRUE(stream->Write(request));
    ASSERT_TRUE(source_.noted.wait_for("blocked"));
  }
  EXPECT_TRUE(source_.noted.wait_for("closed"));
  EXPECT_GE(source_.noted.times("cancelled"), 1);
}

TEST_F(CopyEndingsTest, ASenderThatEndsMidPartHeals) {
  source_.on_read = [&](Parts& parts, const pb::CopyPart&, const CopySink& sink,
                        const OnWaiting&) -> Result<pb::CopyPartEnd> {
    RETURN_IF_ERROR(sink(random_bytes(kMegabyte)));
    return parts.blocked_until_cancelled();
  };
  source_.on_begin = [&](const pb::BeginCopyRequest&, const OnWaiting&,
                         const std::stop_token& stop) -> Result<pb::CopyPlan> {
    return source_.blocked_until_stopped(stop);
  };
  source_.on_dump_schema = [&](const pb::DumpSchemaRequest&,
                               const std::stop_token& stop) -> Result<pb::DumpedSchema> {
    return source_.blocked_until_stopped(stop);
  };
  const auto parts = open();
  auto part = std::async(std::launch::async, [&] { return read(*parts).end.error(); });
  auto plan =
      std::async(std::launch::async, [&] { return client_->begin({}, not_waiting).error(); });
  auto schema = std::async(std::launch::async, [&] { return client_->dump_schema({}).error(); });
  ASSERT_TRUE(source_.noted.wait_for("blocked", 3));
  sender_->stop();
  for (auto* ended : {&part, &plan, &schema}) {
    const auto error = ended->get();
    EXPECT_EQ(error.code, ErrorCode::kNetwork);
    EXPECT_TRUE(error.heals()) << one_line(error);
  }
  EXPECT_TRUE(source_.noted.wait_for("closed"));
}

TEST_F(CopyEndingsTest, AWrongByteCountHeals) {
  source_.on_read = [&](Parts&, const pb::CopyPart&, const CopySink& sink,
                        const OnWaiting&) -> Result<pb::CopyPartEnd> {
    RETURN_IF_ERROR(sink("12345"));
    return ended(1, 6);
  };
  const auto parts = open();
  const auto error = read(*parts).end.error();
  EXPECT_EQ(error.code, ErrorCode::kNetwork);
  EXPECT_TRUE(error.heals());
  EXPECT_NE(error.message.find("6 bytes, 5 came"), std::string::npos) << error.message;
  EXPECT_TRUE(source_.noted.wait_for("closed"));
}

TEST_F(CopyEndingsTest, AStopEndsADumpAndIsHeededBeforeACall) {
  source_.on_dump_schema = [&](const pb::DumpSchemaRequest&,
                               const std::stop_token& stop) -> Result<pb::DumpedSchema> {
    return source_.blocked_until_stopped(stop);
  };
  std::stop_source stop;
  auto schema =
      std::async(std::launch::async, [&] { return client_->dump_schema({}, stop.get_token()); });
  ASSERT_TRUE(source_.noted.wait_for("blocked"));
  stop.request_stop();
  EXPECT_TRUE(schema.get().error().heals());
  EXPECT_TRUE(source_.noted.wait_for("stopped"));
  EXPECT_TRUE(client_->end({}, stop.get_token()).error().heals());
  EXPECT_TRUE(client_->sequences({}, stop.get_token()).error().heals());
  EXPECT_FALSE(CopyClient::dial(sender_->address(), {}, stop.get_token()).ok());
}

TEST(CopyEndings, WithoutASourceEveryCallIsRefusedForGood) {
  const SenderUnderTest sender;
  const auto client = CopyClient::dial(sender.address(), {});
  ASSERT_TRUE(client.ok());
  const auto parts = (*client)->open({});
  const std::vector<Error> errors{(*client)->begin({}, not_waiting).error(),
                                  (*client)->end({}).error(), (*client)->dump_schema({}).error(),
                                  (*client)->sequences({}).error(),
                                  parts.ok() ? read(**parts).end.error() : parts.error()};
  for (const Error& error : errors) {
    EXPECT_EQ(error.code, ErrorCode::kConfiguration);
    EXPECT_FALSE(error.heals());
    EXPECT_NE(error.hint.find("version"), std::string::npos);
  }
}

}  // namespace
}  // namespace bitacora::transport
