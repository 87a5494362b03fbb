// Keeps apply/FORMAT.md true: its worked example is compared with what is in an LMDB environment.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <lmdb.h>

#include <filesystem>
#include <map>

#include "apply/checkpoint.h"
#include "proto/relation.h"
#include "tests/proto/format_page.h"

namespace bitacora::apply {
namespace {

using harness::hex;
using harness::hex_block;
using harness::read_page;

namespace fs = std::filesystem;
using Entries = std::map<std::string, std::string>;

constexpr std::uint64_t kAppliedLsn = 0x1'6B37'4DB0;

CheckpointState example() {
  CheckpointState state;
  Progress& progress = state.progress;
  progress.identity.set_system_identifier(7012);
  progress.identity.set_database("tienda");
  progress.identity.set_slot("bitacora_main");
  progress.identity.set_stream("main");
  progress.applied_lsn = MasterLsn{kAppliedLsn};
  state.spool = SpoolNote{7, 1'234'567, MasterLsn{0x1'6B37'4F00}};
  return state;
}

// The environment as LMDB itself reads and writes it, without our code.
class RawEnvironment {
 public:
  explicit RawEnvironment(const fs::path& directory) {
    fs::create_directories(directory);
    EXPECT_EQ(mdb_env_create(&environment_), 0);
    EXPECT_EQ(mdb_env_open(environment_, directory.c_str(), 0, 0600), 0);
    EXPECT_EQ(mdb_txn_begin(environment_, nullptr, 0, &transaction_), 0);
    EXPECT_EQ(mdb_dbi_open(transaction_, nullptr, 0, &database_), 0);
  }
  RawEnvironment(const RawEnvironment&) = delete;
  RawEnvironment& operator=(const RawEnvironment&) = delete;
  ~RawEnvironment() {
    EXPECT_EQ(mdb_txn_commit(transaction_), 0);
    mdb_env_close(environment_);
  }

  Entries read() {
    Entries entries;
    MDB_cursor* cursor = nullptr;
    EXPECT_EQ(mdb_cursor_open(transaction_, database_, &cursor), 0);
    MDB_val key{};
    MDB_val value{};
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) entries[bytes(key)] = bytes(value);
    mdb_cursor_close(cursor);
    return entries;
  }

  void write(const Entries& entries) {
    for (const auto& [key, value] : entries) {
      std::string name = key;
      std::string content = value;
      MDB_val raw_key{name.size(), name.data()};
      MDB_val raw_value{content.size(), content.data()};
      EXPECT_EQ(mdb_put(transaction_, database_, &raw_key, &raw_value, 0), 0);
    }
  }

 private:
  static std::string bytes(const MDB_val& value) {
    return {static_cast<const char*>(value.mv_data), value.mv_size};
  }

  MDB_env* environment_ = nullptr;
  MDB_txn* transaction_ = nullptr;
  MDB_dbi database_ = 0;
};

class CheckpointFormatPage : public testing::Test {
 protected:
  CheckpointFormatPage() {
    auto name = (fs::temp_directory_path() / "bitacora-format-XXXXXX").string();
    directory_ = mkdtemp(name.data());
  }
  ~CheckpointFormatPage() override { fs::remove_all(directory_); }

  // The page's example, all but the instance as the code writes it too.
  static Entries page_entries() {
    const auto page = read_page("apply/FORMAT.md");
    Entries entries;
    for (const char* key : {"format", "instance", "identity", "applied_lsn", "spool_synced"}) {
      entries[key] = hex_block(page, key);
    }
    return entries;
  }

  fs::path directory_;
};

TEST_F(CheckpointFormatPage, IsWhatTheCodeWrites) {
  Entries expected = page_entries();
  {
    auto checkpoint = Checkpoint::open(directory_);
    ASSERT_TRUE(checkpoint.ok()) << one_line(checkpoint.error());
    ASSERT_TRUE(checkpoint->save(example()).ok());
    EXPECT_EQ(checkpoint->instance().size(), expected["instance"].size());
    expected["instance"] = checkpoint->instance();
  }
  const Entries written = RawEnvironment(directory_).read();
  ASSERT_EQ(written.size(), expected.size());
  for (const auto& [key, value] : expected) {
    SCOPED_TRACE(key);
    ASSERT_TRUE(written.contains(key));
    EXPECT_EQ(hex(written.at(key)), hex(value));
  }
}

TEST_F(CheckpointFormatPage, IsWhatTheCodeReads) {
  RawEnvironment(directory_).write(page_entries());
  const auto checkpoint = Checkpoint::open(directory_);
  ASSERT_TRUE(checkpoint.ok()) << one_line(checkpoint.error());
  EXPECT_EQ(checkpoint->instance(), page_entries()["instance"]);
  const auto loaded = checkpoint->load();
  ASSERT_TRUE(loaded.ok() && loaded->has_value());
  EXPECT_EQ((*loaded)->progress.applied_lsn, MasterLsn{kAppliedLsn});
  EXPECT_TRUE(proto::same_identity((*loaded)->progress.identity, example().progress.identity));
  EXPECT_EQ((*loaded)->spool, example().spool);
}

TEST_F(CheckpointFormatPage, AnotherFormatAndAForeignEnvironmentAreRefused) {
  struct Case {
    const char* name;
    Entries entries;
    const char* why;
  };
  for (const Case& c : {Case{"later format", {{"format", "bitacora checkpoint 2"}}, "checkpoint 2"},
                        Case{"no format", {{"a", "b"}}, "holds something else"}}) {
    SCOPED_TRACE(c.name);
    const auto directory = directory_ / c.name;
    RawEnvironment(directory).write(c.entries);
    const auto checkpoint = Checkpoint::open(directory);
    ASSERT_FALSE(checkpoint.ok());
    EXPECT_EQ(checkpoint.error().code, ErrorCode::kState);
    EXPECT_NE(checkpoint.error().message.find(c.why), std::string::npos)
        << one_line(checkpoint.error());
    EXPECT_EQ(RawEnvironment(directory).read(), c.entries) << "it must not be written to";
  }
}

TEST_F(CheckpointFormatPage, UnreadableValuesStop) {
  for (const char* key : {"identity", "applied_lsn", "spool_synced"}) {
    SCOPED_TRACE(key);
    auto entries = page_entries();
    entries[key] = "\xff\xff\xff";
    const auto directory = directory_ / key;
    RawEnvironment(directory).write(entries);
    const auto checkpoint = Checkpoint::open(directory);
    ASSERT_TRUE(checkpoint.ok()) << one_line(checkpoint.error());
    const auto loaded = checkpoint->load();
    ASSERT_FALSE(loaded.ok());
    EXPECT_EQ(loaded.error().code, ErrorCode::kState);
  }
}

}  // namespace
}  // namespace bitacora::apply
