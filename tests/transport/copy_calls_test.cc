// What the copy calls carry.
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <future>
#include <mutex>
#include <vector>

#include "tests/transport/copy_calls_under_test.h"

namespace bitacora::transport {
namespace {

using Clock = std::chrono::steady_clock;
using Parts = PlayedCopySource::Parts;
using std::chrono::seconds;

TEST_F(CopyCallsTest, APlanComesBehindItsWaits) {
  pb::BeginCopyRequest request;
  request.mutable_caller()->set_receiver("a");
  for (int i = 0; i < 200'000; ++i) {  // 8 MB
    auto& table = *request.add_tables();
    table.set_schema("a_schema_with_quite_a_long_name");
    table.set_name(std::to_string(i));
  }
  source_.on_begin = [&](const pb::BeginCopyRequest& asked, const OnWaiting& waiting,
                         const std::stop_token&) -> Result<pb::CopyPlan> {
    EXPECT_EQ(asked.SerializeAsString(), request.SerializeAsString());
    waiting("one");
    waiting("two");
    pb::CopyPlan plan;
    plan.set_snapshot("00000003-00000002-1");
    plan.set_lsn(4711);
    for (const auto& table : asked.tables()) {
      plan.add_tables()->mutable_relation()->set_name(table.name());
    }
    return plan;
  };
  std::vector<std::string> waits;
  const auto plan =
      client_->begin(request, [&](const std::string& what) { waits.push_back(what); });
  ASSERT_TRUE(plan.ok()) << one_line(plan.error());
  EXPECT_EQ(waits, (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(plan->snapshot(), "00000003-00000002-1");
  EXPECT_EQ(plan->lsn(), 4711u);
  ASSERT_EQ(plan->tables_size(), 200'000);
  EXPECT_EQ(plan->tables(199'999).relation().name(), "199999");
}

TEST_F(CopyCallsTest, PartsArriveEqual) {
  struct Case {
    std::string name;
    std::string content;
    std::size_t piece_bytes;
  };
  const std::vector<Case> cases{
      {"nothing", "", 1},
      {"one byte", "x", 1},
      {"rows", std::string(3 * kMegabyte, 'r'), 100},
      {"many MiB of random bytes", random_bytes(70 * kMegabyte), 64'000},
      {"one row of 40 MiB", random_bytes(40 * kMegabyte), 40 * kMegabyte},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    source_.on_read = plays(c.content, c.piece_bytes);
    const auto parts = open();
    for (int i = 0; i < 2; ++i) {
      const auto part = read(*parts);
      ASSERT_TRUE(part.end.ok()) << one_line(part.end.error());
      EXPECT_TRUE(part.content == c.content);
      EXPECT_EQ(part.end->rows(), (c.content.size() + c.piece_bytes - 1) / c.piece_bytes);
      EXPECT_LE(part.largest_piece, FrameLimits{}.raw_bytes_max);
    }
  }
}

TEST_F(CopyCallsTest, EachReadOfAPartSaysWhatItIsAndWaits) {
  pb::CopyOpening opening;
  opening.set_snapshot("00000003-00000002-1");
  source_.on_read = [&](Parts&, const pb::CopyPart& part, const CopySink& sink,
                        const OnWaiting& waiting) -> Result<pb::CopyPartEnd> {
    waiting("a lock");
    RETURN_IF_ERROR(sink(part.columns(0)));
    return ended(part.begin_page(), part.columns(0).size());
  };
  const auto parts = open();
  for (const std::string column : {"first", "", "third"}) {
    pb::CopyPart part;
    part.set_begin_page(7);
    part.add_columns(column);
    std::vector<std::string> waits;
    std::string content;
    const auto end = parts->read(
        part, [&](std::string_view piece) { return content += piece, Result<void>{}; },
        [&](const std::string& what) { waits.push_back(what); });
    ASSERT_TRUE(end.ok()) << one_line(end.error());
    EXPECT_EQ(end->rows(), 7u);
    EXPECT_EQ(content, column);
    EXPECT_EQ(waits, std::vector<std::string>{"a lock"});
  }
}

TEST_F(CopyCallsTest, SeveralCallsAtOnce) {
  source_.on_read = [&](Parts& parts, const pb::CopyPart& part, const CopySink& sink,
                        const OnWaiting& waiting) {
    return plays(random_bytes(10 * kMegabyte, part.piece_oid()), 100'000)(parts, part, sink,
                                                                          waiting);
  };
  std::vector<std::future<void>> readers;
  for (std::uint32_t oid = 1; oid <= 6; ++oid) {
    readers.push_back(std::async(std::launch::async, [&, oid] {
      pb::CopyPart part;
      part.set_piece_oid(oid);
      const auto parts = open();
      for (int i = 0; i < 3; ++i) {
        const auto one = read(*parts, part);
        ASSERT_TRUE(one.end.ok()) << one_line(one.end.error());
        EXPECT_TRUE(one.content == random_bytes(10 * kMegabyte, oid)) << oid;
      }
    }));
  }
  for (auto& reader : readers) reader.get();
  EXPECT_EQ(source_.noted.times("opened"), 6);
}

TEST_F(CopyCallsTest, ASlowReaderDoesNotHoldTheOthersUp) {
  source_.on_read = plays(random_bytes(20 * kMegabyte), 100'000);
  const auto slow = open();
  const auto quick = open();
  std::promise<void> others_are_done;
  std::once_flag once;
  const auto waits_once = [&](std::string_view) -> Result<void> {
    std::call_once(once, [&] { others_are_done.get_future().wait_for(seconds(20)); });
    return {};
  };
  auto slow_end =
      std::async(std::launch::async, [&] { return slow->read({}, waits_once, not_waiting); });
  const auto began = Clock::now();
  const auto end = read(*quick).end;
  EXPECT_LT(Clock::now() - began, seconds(15));
  others_are_done.set_value();
  EXPECT_TRUE(end.ok());
  EXPECT_TRUE(slow_end.get().ok());
}

TEST_F(CopyCallsTest, TheSchemaAndTheSequencesCross) {
  pb::DumpedSchema schema;
  for (int i = 0; i < 10; ++i) {
    auto& entry = *schema.add_pre_data();
    entry.set_name(std::to_string(i));
    entry.set_sql(std::string(kMegabyte, 'x'));
  }
  source_.on_dump_schema = [&](const auto&...) { return schema; };
  source_.sequence_values.add_unreadable("public.s");
  std::string let_go;
  source_.on_end = [&](const pb::EndCopyRequest& request) {
    let_go = request.snapshot();
    return Result<void>{};
  };
  const auto dumped = client_->dump_schema({});
  ASSERT_TRUE(dumped.ok()) << one_line(dumped.error());
  EXPECT_TRUE(dumped->SerializeAsString() == schema.SerializeAsString());
  const auto values = client_->sequences({});
  ASSERT_TRUE(values.ok()) << one_line(values.error());
  EXPECT_EQ(values->unreadable(0), "public.s");
  pb::EndCopyRequest request;
  request.set_snapshot("1");
  EXPECT_TRUE(client_->end(request).ok());
  EXPECT_EQ(let_go, "1");
}

// What no client of ours sends.
TEST_F(CopyCallsTest, RequestsOutOfOrderAreRefused) {
  source_.on_read = plays("x", 1);
  pb::CopyRequest opening;
  opening.mutable_opening();
  pb::CopyRequest part;
  part.mutable_part();
  struct Case {
    std::string name;
    std::vector<pb::CopyRequest> requests;
  };
  for (const Case& c : {Case{"a part first", {part}}, Case{"an empty message", {{}}},
                        Case{"two openings", {opening, opening}},
                        Case{"an empty message behind", {opening, part, {}}}}) {
    SCOPED_TRACE(c.name);
    const auto stub = pb::Replication::NewStub(
        grpc::CreateChannel(sender_->address(), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + seconds(10));
    const auto stream = stub->CopyTable(&context);
    for (const auto& request : c.requests) stream->Write(request);
    pb::CopyMessage message;
    while (stream->Read(&message)) {
    }
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  }
}

TEST_F(CopyCallsTest, APartAskedForEarlyWaitsItsTurn) {
  source_.on_read = plays(random_bytes(kMegabyte), 1000);
  const auto stub = pb::Replication::NewStub(
      grpc::CreateChannel(sender_->address(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const auto stream = stub->CopyTable(&context);
  pb::CopyRequest request;
  request.mutable_opening();
  ASSERT_TRUE(stream->Write(request));
  request.mutable_part();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(stream->Write(request));
  stream->WritesDone();
  int ends = 0;
  for (pb::CopyMessage message; stream->Read(&message);) ends += message.has_end() ? 1 : 0;
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(ends, 3);
}

}  // namespace
}  // namespace bitacora::transport
