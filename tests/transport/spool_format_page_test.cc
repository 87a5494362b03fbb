// Keeps transport/FORMAT.md true: its worked example is compared with what a spool writes and
// reads.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "proto/relation.h"
#include "tests/proto/format_page.h"
#include "tests/transport/crashable_storage.h"
#include "transport/spool.h"
#include "transport/spool_reader.h"

namespace bitacora::transport {
namespace {

using harness::hex;
using harness::hex_block;
using harness::read_page;

constexpr auto kStartLsn = MasterLsn{0x1'6B37'4D00};
constexpr auto kEndLsn = MasterLsn{0x1'6B37'4DB0};
constexpr std::int64_t kCreatedUsec = 1'718'100'000'000'000;
constexpr std::uint32_t kTimeline = 2;
constexpr const char* kName = "0000000000000001.spool";

pb::Identity identity() {
  pb::Identity identity;
  identity.set_system_identifier(7012);
  identity.set_database("tienda");
  identity.set_slot("bitacora_main");
  identity.set_stream("main");
  return identity;
}

pb::Relation datos() {
  pb::Relation relation;
  relation.set_oid(16385);
  relation.set_schema("public");
  relation.set_name("datos");
  return relation;
}

// An empty batch: no payload, so that no zstd version decides about its bytes.
pb::Frame frame() {
  pb::Frame frame;
  frame.set_sequence(1);
  frame.set_end_lsn(kEndLsn.value);
  frame.set_context_reset(true);
  frame.set_crc32c(frame_crc32c(frame));
  return frame;
}

std::unique_ptr<Spool> open(const std::shared_ptr<CrashableDisk>& disk) {
  auto spool = Spool::open(open_crashable_storage(disk), {.disk_reserve_bytes = 0}, std::nullopt);
  EXPECT_TRUE(spool.ok()) << one_line(spool.error());
  return std::move(*spool);
}

TEST(SpoolFormatPage, IsWhatASpoolWrites) {
  const auto disk = std::make_shared<CrashableDisk>();
  const auto spool = open(disk);
  ASSERT_TRUE(spool->begin_connection(identity(), kStartLsn, kTimeline).ok());
  spool->describe(datos());
  ASSERT_TRUE(spool->append(frame(), false, kCreatedUsec).ok());
  const auto page = read_page("transport/FORMAT.md");
  const auto image = disk->current();
  ASSERT_EQ(image.size(), 1u);
  ASSERT_TRUE(image.contains(kName));
  const auto header = hex_block(page, "header");
  EXPECT_EQ(hex(image.at(kName).substr(0, header.size())), hex(header));
  EXPECT_EQ(hex(image.at(kName).substr(header.size())), hex(hex_block(page, "record")));
}

TEST(SpoolFormatPage, IsWhatASpoolReads) {
  const auto page = read_page("transport/FORMAT.md");
  const auto spool = open(std::make_shared<CrashableDisk>(
      DiskImage{{kName, hex_block(page, "header") + hex_block(page, "record")}}));
  ASSERT_TRUE(spool->identity().has_value());
  EXPECT_TRUE(proto::same_identity(*spool->identity(), identity()));
  EXPECT_EQ(spool->begin_lsn(), kStartLsn);
  EXPECT_EQ(spool->end_lsn(), kEndLsn);
  EXPECT_EQ(spool->timeline(), kTimeline);
  const auto reader = spool->read_from(kStartLsn);
  ASSERT_TRUE(reader.ok());
  const auto described = (*reader)->next();
  ASSERT_TRUE(described.ok() && std::holds_alternative<SpoolBatch>(*described));
  EXPECT_EQ(std::get<SpoolBatch>(*described).changes->parts(0).relation().name(), "datos");
  const auto batch = (*reader)->next();
  ASSERT_TRUE(batch.ok() && std::holds_alternative<SpoolBatch>(*batch));
  EXPECT_EQ(std::get<SpoolBatch>(*batch).end_lsn, kEndLsn);
  EXPECT_EQ(std::get<SpoolBatch>(*batch).changes->parts_size(), 0);
}

TEST(SpoolFormatPage, NamesAndLimitsAreThoseOfTheCode) {
  const auto page = read_page("transport/FORMAT.md");
  for (const auto& line : {
           fmt::format("`{}`", segment_name(1)),
           fmt::format("| `magic` | `{}`;", kSegmentMagic),
           fmt::format("| the header's data | {} |", kSegmentHeaderBytesMax),
           fmt::format("| a record's data | {} |", kSegmentRecordBytesMax),
       }) {
    EXPECT_NE(page.find(line), std::string::npos) << line;
  }
}

}  // namespace
}  // namespace bitacora::transport
