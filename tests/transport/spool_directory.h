// A test's own directory with a spool in it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "tests/transport/played_stream.h"
#include "transport/posix_storage.h"
#include "transport/spool.h"

namespace bitacora::transport {

inline constexpr std::int64_t kNow = 1'700'000'000'000'000 + 1'000'000;
inline constexpr auto kStart = MasterLsn{1000};  // transaction 11 comes first

class SpoolTest : public testing::Test {
 protected:
  SpoolTest() {
    auto name = (std::filesystem::temp_directory_path() / "bitacora-spool-XXXXXX").string();
    directory_ = mkdtemp(name.data());
  }
  ~SpoolTest() override { std::filesystem::remove_all(directory_); }

  // Nothing is kept beyond what must stay.
  static SpoolOptions options() {
    return {.disk_reserve_bytes = 0,
            .keep_time = std::chrono::seconds(0),
            .keep_bytes = 0,
            .frames = kPlayedLimits};
  }

  Result<std::unique_ptr<Spool>> try_open(SpoolOptions options = SpoolTest::options(),
                                          std::optional<SyncedMark> mark = std::nullopt) {
    ASSIGN_OR_RETURN(auto storage, open_posix_storage(directory_ / "spool"));
    return Spool::open(std::move(storage), std::move(options), mark);
  }

  std::unique_ptr<Spool> open(SpoolOptions options = SpoolTest::options()) {
    auto spool = try_open(std::move(options));
    EXPECT_TRUE(spool.ok()) << one_line(spool.error());
    return std::move(*spool);
  }

  // A spool whose connection has begun at kStart.
  std::unique_ptr<Spool> begun(SpoolOptions options = SpoolTest::options()) {
    auto spool = open(std::move(options));
    begin(*spool, kStart);
    return spool;
  }

  static void begin(Spool& spool, MasterLsn start_lsn) {
    const auto begun = spool.begin_connection(played_identity(), start_lsn);
    ASSERT_TRUE(begun.ok()) << one_line(begun.error());
  }

  static void append_through(Spool& spool, PlayedStream& stream, std::uint64_t number) {
    const auto appended = append_until(spool, stream, number);
    ASSERT_TRUE(appended.ok()) << one_line(appended.error());
  }

  static void sync(Spool& spool) {
    const auto synced = spool.sync();
    ASSERT_TRUE(synced.ok()) << one_line(synced.error());
    EXPECT_EQ(*synced, spool.synced_lsn());
  }

  static void expect_content(Spool& spool, MasterLsn position) {
    EXPECT_EQ(check_content(spool, position), std::nullopt);
  }

  std::set<std::string> files() {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "spool")) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }

  template <class T>
  static void expect_state(const Result<T>& result, std::initializer_list<std::string> says) {
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ErrorCode::kState);
    EXPECT_FALSE(result.error().heals());
    for (const auto& text : says) {
      EXPECT_NE(result.error().message.find(text), std::string::npos) << one_line(result.error());
    }
  }

  std::filesystem::path directory_;
};

}  // namespace bitacora::transport
