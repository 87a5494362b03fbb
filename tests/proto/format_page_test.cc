// Keeps proto/FORMAT.md true: its worked example is compared with what the code makes and reads.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "proto/batch.h"
#include "proto/relation.h"
#include "proto/row_block.h"
#include "tests/proto/format_page.h"
#include "transport/frame_codec.h"
#include "transport/message_encoder.h"
#include "transport/sender_channel.h"

namespace bitacora {
namespace {

using harness::hex;
using harness::hex_block;
using harness::read_page;

constexpr std::uint32_t kDatosOid = 16385;
constexpr std::uint64_t kCommitLsn = 0x1'6B37'4D80;
constexpr std::uint64_t kEndLsn = 0x1'6B37'4DB0;

pb::Relation datos() {
  pb::Relation relation;
  relation.set_oid(kDatosOid);
  relation.set_schema("public");
  relation.set_name("datos");
  auto* nombre = relation.add_columns();
  nombre->set_name("nombre");
  nombre->set_type_oid(1042);
  nombre->set_type_modifier(24);
  nombre->set_key(true);
  auto* telefono = relation.add_columns();
  telefono->set_name("telefono");
  telefono->set_type_oid(23);
  telefono->set_type_modifier(-1);
  return relation;
}

pb::Rows juan() {
  using proto::ValueKind;
  std::string telefono;
  append_big_endian(telefono, std::int32_t{987654321});
  proto::RowBlockBuilder builder(kDatosOid, pb::INSERT);
  EXPECT_TRUE(builder.append(
      kDatosOid, pb::INSERT,
      {{}, {{ValueKind::kBinary, "Juan                "}, {ValueKind::kBinary, telefono}}}));
  return builder.finish();
}

pb::ChangeBatch example() {
  pb::ChangeBatch batch;
  auto* begin = batch.add_parts()->mutable_begin();
  begin->set_xid(733);
  begin->set_commit_lsn(kCommitLsn);
  begin->set_commit_time_usec(1'718'100'000'000'000);
  *batch.add_parts()->mutable_relation() = datos();
  *batch.add_parts()->mutable_rows() = juan();
  auto* commit = batch.add_parts()->mutable_commit();
  commit->set_commit_lsn(kCommitLsn);
  commit->set_end_lsn(kEndLsn);
  return batch;
}

std::string serialized_example() {
  auto batch = example();
  return proto::serialize_batch(batch);
}

TEST(FormatPage, TheBatchIsWhatTheCodeMakes) {
  EXPECT_EQ(hex(hex_block(read_page("proto/FORMAT.md"), "batch")), hex(serialized_example()));
}

TEST(FormatPage, TheTupleIsTheEndOfTheRows) {
  EXPECT_EQ(hex(hex_block(read_page("proto/FORMAT.md"), "tuple")), hex(juan().tuples()));
}

// Another zstd may choose other bytes, so the page's are decoded, not made again.
TEST(FormatPage, TheFrameDecodesToTheBatch) {
  const auto page = read_page("proto/FORMAT.md");
  pb::Frame frame;
  ASSERT_TRUE(frame.ParseFromString(hex_block(page, "frame")));
  EXPECT_EQ(frame.sequence(), 1u);
  EXPECT_EQ(frame.end_lsn(), kEndLsn);
  EXPECT_TRUE(frame.context_reset());
  EXPECT_FALSE(frame.more());
  transport::FrameDecoder decoder;
  const auto complete = decoder.decode(frame);
  ASSERT_TRUE(complete.ok()) << one_line(complete.error());
  EXPECT_TRUE(*complete);
  EXPECT_EQ(hex(decoder.batch()), hex(serialized_example()));
  const auto read = proto::parse_batch(decoder.batch());
  ASSERT_NE(read, nullptr);
  EXPECT_EQ(read->SerializeAsString(), example().SerializeAsString());
}

TEST(FormatPage, TheChecksumIsOverTheFieldsAndThePayload) {
  const auto page = read_page("proto/FORMAT.md");
  pb::Frame frame;
  ASSERT_TRUE(frame.ParseFromString(hex_block(page, "frame")));
  std::string checked;
  append_big_endian(checked, frame.sequence());
  append_big_endian(checked, frame.end_lsn());
  append_big_endian(checked, frame.raw_bytes());
  append_big_endian(checked, std::uint8_t{1});
  EXPECT_EQ(hex(hex_block(page, "checked fields")), hex(checked));
  EXPECT_EQ(transport::frame_crc32c(frame), frame.crc32c());
  const auto sum = fmt::format("0x{:08X}", frame.crc32c());
  EXPECT_NE(page.find(sum), std::string::npos) << sum;
}

TEST(FormatPage, TheCopiedPartIsTheRow) {
  const auto page = read_page("proto/FORMAT.md");
  const std::string row = "Juan                \t987654321\n";
  pb::CopyMessage frame;
  ASSERT_TRUE(frame.ParseFromString(hex_block(page, "copied frame")));
  EXPECT_EQ(frame.SerializeAsString(), hex_block(page, "copied frame")) << "nothing else is in it";
  transport::FrameDecoder decoder;
  const auto complete = decoder.decode(frame.frame());
  ASSERT_TRUE(complete.ok()) << one_line(complete.error());
  EXPECT_TRUE(*complete);
  EXPECT_EQ(decoder.batch(), row);
  const auto sum = fmt::format("0x{:08X}", frame.frame().crc32c());
  EXPECT_NE(page.find(sum), std::string::npos) << sum;
  pb::CopyMessage end;
  end.mutable_end()->set_rows(1);
  end.mutable_end()->set_bytes(row.size());
  EXPECT_EQ(hex(hex_block(page, "copied end")), hex(end.SerializeAsString()));
}

TEST(FormatPage, VersionAndLimitsAreThoseOfTheCode) {
  const auto page = read_page("proto/FORMAT.md");
  const transport::FrameLimits limits;
  for (const auto& line : {
           fmt::format("wire version {}", proto::kWireVersion),
           fmt::format("| `raw_bytes` of a frame | {} |", limits.raw_bytes_max),
           fmt::format("| payload of a frame | {} |", ZSTD_compressBound(limits.raw_bytes_max)),
           fmt::format("| a batch | {} |", limits.batch_bytes_max),
           fmt::format("| zstd window | {} |", 1 << limits.window_log_max),
           fmt::format("of at most {}\n  bytes", 1 << transport::kStreamWindowLog),
           fmt::format("the {} chains", transport::kStreamChainsMax),
           fmt::format("resets after\n{} bytes of payload", limits.context_bytes),
           fmt::format("resets after {} bytes of payload", 2 * limits.level_bytes),
           fmt::format("up to {} bytes", transport::kMessageBytesMax),
       }) {
    EXPECT_NE(page.find(line), std::string::npos) << line;
  }
}

}  // namespace
}  // namespace bitacora
